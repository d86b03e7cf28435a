//! Times a closure, or counts its allocations, for the benches that run in one process.
//!
//! - `cargo bench --bench NAME` prints how long each case takes.
//! - `cargo bench --bench allocations` prints how often each case allocates.
//! - `-- WORDS` runs only the cases whose name contains the words.
//! - `-- --quick` takes a tenth of the time.
//! - `-- --once N WORDS` runs each case N times and prints nothing, for a profiler. The difference between two values
//!   of N is the cost of the calls without the setup.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]
#![expect(clippy::float_arithmetic, reason = "measurements are no money")]
#![allow(dead_code, reason = "every bench uses its own part")]

pub(crate) mod feed;

use std::cell::RefCell;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Samples per case. The minimum and the median are printed.
const SAMPLES: usize = 21;
/// Calls per case whose allocations are counted.
const COUNTED: u32 = 16;

/// How the cases are run, from the command line.
pub(crate) struct Bench {
    words: String,
    once: Option<u32>,
    sample: Duration,
    count: Option<Count>,
    /// The heading of a group in which no case has run yet.
    heading: RefCell<String>,
}

/// Runs a closure and counts its allocations.
type Count = fn(&mut dyn FnMut()) -> u64;

/// The bytes and events that one call of a case processes.
#[derive(Clone, Copy)]
pub(crate) struct Per {
    pub(crate) bytes: usize,
    pub(crate) events: usize,
}

impl Bench {
    pub(crate) fn of_time() -> Self {
        Self::from_args(None)
    }

    pub(crate) fn of_allocations(count: Count) -> Self {
        Self::from_args(Some(count))
    }

    fn from_args(count: Option<Count>) -> Self {
        let (words, sample) = (String::new(), Duration::from_millis(20));
        let mut bench = Bench { words, once: None, sample, count, heading: RefCell::default() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // `cargo bench` passes this.
                "--bench" => {}
                "--quick" => bench.sample /= 10,
                "--once" => bench.once = Some(args.next().and_then(|n| n.parse().ok()).expect("--once: a number")),
                _ => bench.words = arg,
            }
        }
        bench
    }

    /// Begins a group, with a heading if any of its cases is run.
    pub(crate) fn group(&self, name: &str) {
        *self.heading.borrow_mut() = match self.count {
            None => format!("\n{name:<64} {:>10} {:>10} {:>8} {:>9}\n", "ns/call", "least", "GB/s", "ns/event"),
            Some(_) => format!("\n{name:<64} {:>10} {:>10}\n", "a call", "an event"),
        };
    }

    /// Runs a case, and prints its figures.
    pub(crate) fn case<T>(&self, name: &str, per: Per, mut call: impl FnMut() -> T) {
        if !name.contains(&self.words) {
            return;
        }
        if let Some(calls) = self.once {
            return (0..calls).for_each(|_| drop(black_box(call())));
        }
        let an_event = |whole: f64| match per.events {
            0 => "-".to_owned(),
            events => format!("{:.2}", whole / events as f64),
        };
        print!("{}", self.heading.take());
        if let Some(count) = self.count {
            let mut calls = || (0..COUNTED).for_each(|_| drop(black_box(call())));
            // Warm up: the first calls fill caches and pools.
            calls();
            let counted = count(&mut calls);
            let allocations = counted as f64 / f64::from(COUNTED);
            println!("{name:<64} {allocations:>10.1} {:>10}", an_event(allocations));
            return;
        }
        let mut calls = 1;
        while time(calls, &mut call) < self.sample {
            calls *= 2;
        }
        let mut nanos: Vec<f64> = Vec::new();
        nanos.resize_with(SAMPLES, || time(calls, &mut call).as_nanos() as f64 / f64::from(calls));
        nanos.sort_unstable_by(f64::total_cmp);
        let (least, median) = (nanos[0], nanos[SAMPLES / 2]);
        let speed = if per.bytes == 0 { "-".to_owned() } else { format!("{:.2}", per.bytes as f64 / median) };
        println!("{name:<64} {median:>10.0} {least:>10.0} {speed:>8} {:>9}", an_event(median));
    }
}

impl Per {
    /// A case that is measured per call only.
    pub(crate) const CALL: Per = Per { bytes: 0, events: 0 };

    pub(crate) fn bytes(bytes: usize) -> Self {
        Per { bytes, events: 0 }
    }
}

fn time<T>(calls: u32, call: &mut impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        drop(black_box(call()));
    }
    start.elapsed()
}

/// Returns the output of a future that is ready at once.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here has anything to wait for"),
    }
}

/// Reads a body that is always ready, as a server does, and returns its number of bytes.
pub(crate) fn drain<B>(body: B) -> usize
where
    B: http_body::Body<Data = bytes::Bytes>,
{
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = 0;
    while !body.is_end_stream()
        && let Poll::Ready(Some(Ok(frame))) = Pin::as_mut(&mut body).poll_frame(&mut context)
    {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    bytes
}
