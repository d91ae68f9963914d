//! The body of a response: whole at once, in paced parts, or broken off in the middle.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::answer::Billed;
use super::stats::{End, Seat};

/// What is sent must have left for the client before the connection is broken.
const BEFORE_BREAK: Duration = Duration::from_millis(2);

/// The body of a response.
pub(super) enum Reply {
    /// All of it, at once.
    Whole(Option<Bytes>),
    /// Part after part.
    Parts(Parts),
}

/// Parts that are sent one after the other, and the books to be closed at the end.
pub(super) struct Parts {
    rest: std::vec::IntoIter<Bytes>,
    gap: Duration,
    sleep: Pin<Box<Sleep>>,
    /// Given back as soon as the last part is out: the client may be back before this is dropped.
    seat: Option<Seat>,
    ending: Ending,
}

enum Ending {
    /// The answer is whole and billed.
    Billed(u64, Billed),
    /// The connection breaks.
    Broken,
}

impl Reply {
    /// Parts of an answer: the first at `first`, the others `gap` after the one before. When the last one is out, the
    /// body with this hash is answered and billed.
    pub(super) fn paced(
        parts: Vec<Bytes>,
        (first, gap): (Instant, Duration),
        seat: Seat,
        (body, billed): (u64, Billed),
    ) -> Self {
        let (rest, sleep) = (parts.into_iter(), Box::pin(tokio::time::sleep_until(first)));
        Self::Parts(Parts { rest, gap, sleep, seat: Some(seat), ending: Ending::Billed(body, billed) })
    }

    /// One part, after which the connection breaks.
    pub(super) fn broken(part: Bytes, seat: Seat) -> Self {
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        let rest = vec![part].into_iter();
        Self::Parts(Parts { rest, gap: BEFORE_BREAK, sleep, seat: Some(seat), ending: Ending::Broken })
    }
}

impl From<Vec<u8>> for Reply {
    fn from(body: Vec<u8>) -> Self {
        Self::Whole(Some(body.into()))
    }
}

impl Parts {
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.rest.len() == 0 && matches!(self.ending, Ending::Billed(..)) {
            return Poll::Ready(None);
        }
        ready!(self.sleep.as_mut().poll(context));
        let Some(part) = self.rest.next() else {
            if let Some(mut seat) = self.seat.take() {
                seat.end(End::Truncated);
            }
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        };
        if !self.gap.is_zero() {
            let from = match self.ending {
                Ending::Billed(..) => self.sleep.deadline(),
                // Counted from the deadline, a late part would be followed by the break at once and never leave.
                Ending::Broken => Instant::now(),
            };
            self.sleep.as_mut().reset(from + self.gap);
        }
        if let (0, Ending::Billed(body, billed)) = (self.rest.len(), &self.ending)
            && let Some(mut seat) = self.seat.take()
        {
            seat.end_billed(*body, billed);
        }
        Poll::Ready(Some(Ok(part)))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Parts(parts) => parts.poll_part(context).map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Parts(_) => SizeHint::default(),
        }
    }
}
