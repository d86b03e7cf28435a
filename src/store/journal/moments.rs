//! Named moments at which a test can make the process end.
//!
//! With the feature `testing`, [`end_at`] names a moment, and the process ends there as if it had been killed, without
//! cleaning up. Tests start a gateway that way, and check what the next one makes of what is left.

#[cfg(feature = "testing")]
static END: std::sync::OnceLock<(String, std::sync::atomic::AtomicU32)> = std::sync::OnceLock::new();

/// Ends this process at a moment of the journal's work, as if it had been killed: to test what a crash leaves behind.
///
/// The moment is a name such as `final-written`, and `final-written:3` means the third time. Only the first call counts.
///
/// # Panics
/// Panics if the number is none, or zero: a moment that never comes would make a test wait for ever.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub fn end_at(moment: &str) {
    let (name, time) = moment.split_once(':').unwrap_or((moment, "1"));
    let time = time.parse().ok().filter(|time| *time > 0).expect("a moment, or one and a number");
    let _ = END.set((name.to_owned(), std::sync::atomic::AtomicU32::new(time)));
}

/// The process has reached this moment.
#[cfg(feature = "testing")]
pub(super) fn at(moment: &'static str) {
    if let Some((name, left)) = END.get()
        && name == moment
        && left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

#[cfg(not(feature = "testing"))]
#[inline(always)]
pub(super) fn at(_moment: &'static str) {}
