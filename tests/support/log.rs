//! What is said in the log, by every thread of an area's tests: searched for secrets, and kept for whoever listens.
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

/// Every line, from TRACE up, of what this thread says as long as the guard lives.
///
/// One subscriber for the whole process writes to whoever listens on its thread: subscribers that come and go with their
/// tests make each other deaf, since what a callsite may skip is decided for all threads at once.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static LISTENS: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Who listens, until it is dropped.
pub(crate) struct Listening(());

/// Searches whatever is said from now on, by any thread.
pub(crate) fn search() {
    static SUBSCRIBE: Once = Once::new();
    SUBSCRIBE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(searched());
        tracing::subscriber::set_global_default(subscriber).expect("nobody else subscribes");
    });
}

/// For an area with a subscriber of its own.
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

/// The log of this thread, if there is one.
struct Here;

struct Line(Option<Log>);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(secret) = canary::find(bytes) {
            // Whoever said it may be a task whose panic nobody sees.
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
        // Something may still be said when the thread's own are gone.
        Line(LISTENS.try_with(|listens| listens.borrow().clone()).ok().flatten())
    }
}
