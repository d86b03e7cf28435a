//! Named moments at which a test can make the process end.
//!
//! With the feature `testing`, `TOLLGATE_END_AT` names a moment, and the process ends there as if it had been killed,
//! without cleaning up. `final-written:3` means the third time. Tests start a gateway that way, and check what the next
//! one makes of what is left.

/// The process has reached this moment.
#[cfg(feature = "testing")]
pub(super) fn at(moment: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static END: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let asked = std::env::var("TOLLGATE_END_AT").ok()?;
        let (name, time) = asked.split_once(':').unwrap_or((&asked, "1"));
        // A number that never comes would make the test wait for ever.
        let time = time.parse().ok().filter(|time| *time > 0).expect("TOLLGATE_END_AT: a moment, or one and a number");
        Some((name.to_owned(), AtomicU32::new(time)))
    });
    if let Some((name, left)) = &*END
        && name == moment
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

#[cfg(not(feature = "testing"))]
#[inline(always)]
pub(super) fn at(_moment: &'static str) {}
