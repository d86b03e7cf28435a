use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::Bill;
use crate::body::BoxError;

/// One step of an answer.
pub(super) enum Step {
    Wait(Duration),
    /// Bytes, and the number of tokens that they stand for.
    Send(Bytes, u64),
    Stall,
    Abort,
    /// The generation is complete.
    Complete,
}

/// An answer that is produced while it is read.
pub(super) struct Scripted {
    steps: VecDeque<Step>,
    timer: Option<Pin<Box<Sleep>>>,
    bill: Bill,
    line: usize,
    /// The remaining length of the answer, if it is known and there is no fault.
    length: Option<u64>,
}

impl Scripted {
    pub(super) fn new(steps: impl Into<VecDeque<Step>>, bill: Bill, line: usize, has_length: bool) -> Self {
        let steps = steps.into();
        let length = has_length.then(|| {
            steps.iter().map(|step| if let Step::Send(bytes, _) = step { bytes.len() as u64 } else { 0 }).sum()
        });
        let mut this = Scripted { steps, timer: None, bill, line, length };
        this.settle();
        this
    }

    /// A generation is complete when its last byte is out, whether or not anyone asks for more.
    fn settle(&mut self) {
        while let Some(Step::Complete) = self.steps.front() {
            self.steps.pop_front();
            self.bill.complete(self.line);
        }
    }
}

impl http_body::Body for Scripted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if let Some(timer) = &mut this.timer {
                ready!(timer.as_mut().poll(cx));
                this.timer = None;
            }
            match this.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Wait(delay)) if delay.is_zero() => {}
                Some(Step::Wait(delay)) => this.timer = Some(Box::pin(sleep(delay))),
                Some(Step::Send(bytes, tokens)) => {
                    this.bill.produce(this.line, tokens);
                    this.settle();
                    if let Some(length) = &mut this.length {
                        *length -= bytes.len() as u64;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Stall) => {
                    this.steps.push_front(Step::Stall);
                    return Poll::Pending;
                }
                Some(Step::Abort) => {
                    this.steps.clear();
                    let error = io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the simulated provider stopped in the middle of its answer",
                    );
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Step::Complete) => this.bill.complete(this.line),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
