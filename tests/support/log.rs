//! Captures the log of the tests. The lines of every thread are searched for secrets, and a test can read its own.
#![allow(dead_code, reason = "every area uses its own part")]

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, Once, PoisonError};

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use super::canary;

/// Every line that this thread logs, from TRACE up, while the [`Listening`] guard lives.
///
/// One subscriber for the whole process writes to the listener of the current thread. One subscriber per test would not
/// work: tracing caches for all threads at once whether a callsite is enabled.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static LISTENS: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Captures this thread's log until it is dropped.
pub(crate) struct Listening(());

/// Searches everything that any thread logs from now on.
pub(crate) fn search() {
    static SUBSCRIBE: Once = Once::new();
    SUBSCRIBE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(searched());
        tracing::subscriber::set_global_default(subscriber).expect("nobody else subscribes");
    });
}

/// The searching layer, for a test area that has its own subscriber.
pub(crate) fn searched<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    tracing_subscriber::fmt::layer().with_writer(Here).with_ansi(false)
}

impl Log {
    pub(crate) fn listen() -> (Self, Listening) {
        search();
        let log = Log::default();
        LISTENS.set(Some(log.clone()));
        (log, Listening(()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENS.set(None);
    }
}

/// Writes to the captured log of the current thread, if there is one.
struct Here;

struct Line(Option<Log>);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(secret) = canary::find(bytes) {
            // A panic would not do: the line may come from a task whose panic nobody sees.
            eprintln!("the log says {secret}: {}", String::from_utf8_lossy(bytes));
            std::process::abort();
        }
        if let Some(log) = &self.0 {
            log.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Here {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        // A thread may log after its thread-locals have been destroyed.
        Line(LISTENS.try_with(|listens| listens.borrow().clone()).ok().flatten())
    }
}
