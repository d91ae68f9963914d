//! What the endpoint has received and answered: the other side's account, for tests to compare with.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Billed;

/// What the endpoint has received and answered; the body of `GET /sim/stats`. Only POST requests count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Requests read whole, whatever became of them.
    pub requests: u64,
    /// Answers by status. Each was sent whole; truncated ones are not here.
    pub by_status: BTreeMap<u16, u64>,
    /// Connections reset instead of an answer.
    pub resets: u64,
    /// Answers cut in the middle.
    pub truncated: u64,
    /// Requests that never get an answer, the client gone or not.
    pub hung: u64,
    /// Requests whose client left before the answer was ready, hung ones not counted.
    pub abandoned: u64,
    /// Requests being served now.
    pub in_flight: u64,
    /// The most requests that were served at once.
    pub max_in_flight: u64,
    /// Requests among those in flight that wait for a slot now.
    pub waiting: u64,
    /// The most requests that waited for a slot at once.
    pub max_waiting: u64,
    /// Prompt tokens billed. Only whole answers with status 200 are billed.
    pub prompt_tokens: u64,
    /// Completion tokens billed.
    pub completion_tokens: u64,
    /// The part of the prompt tokens billed as cached.
    pub cached_tokens: u64,
    /// The part of the completion tokens billed as reasoning.
    pub reasoning_tokens: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Different values of `X-Client-Request-Id`.
    pub distinct_client_request_ids: u64,
    /// Different bodies (whatever the order of their members) answered with 200. With `answered_twice` it makes up
    /// all answers with status 200.
    pub answered_prompts: u64,
    /// Answers with status 200 to a body that had been answered before.
    pub answered_twice: u64,
}

/// The running account. Every request touches it for some nanoseconds, never across a wait.
#[derive(Debug, Default)]
pub(super) struct Account(Mutex<Books>);

/// Remembers 8 bytes for each request.
#[derive(Debug, Default)]
struct Books {
    stats: Stats,
    client_request_ids: Hashes,
    answered: Hashes,
}

type Hashes = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// What ended a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Answered(u16),
    Reset,
    Truncated,
    Hung,
}

impl Account {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the figures.
    pub(super) fn snapshot(&self) -> Stats {
        let books = self.books();
        let distinct = |hashes: &Hashes| hashes.len() as u64;
        Stats {
            distinct_client_request_ids: distinct(&books.client_request_ids),
            answered_prompts: distinct(&books.answered),
            ..books.stats.clone()
        }
    }

    /// Begins anew; requests in flight stay in flight.
    pub(super) fn reset(&self) {
        let mut books = self.books();
        let Stats { in_flight, waiting, .. } = books.stats;
        *books = Books::default();
        books.stats =
            Stats { in_flight, max_in_flight: in_flight, waiting, max_waiting: waiting, ..Stats::default() };
    }

    pub(super) fn connected(&self) {
        self.books().stats.connections += 1;
    }

    /// A request was read whole; `client_request_id` is a hash.
    pub(super) fn received(&self, client_request_id: Option<u64>) {
        let mut books = self.books();
        books.stats.requests += 1;
        books.client_request_ids.extend(client_request_id);
    }

    fn ended(&self, end: End) {
        let mut books = self.books();
        match end {
            End::Answered(status) => *books.stats.by_status.entry(status).or_default() += 1,
            End::Reset => books.stats.resets += 1,
            End::Truncated => books.stats.truncated += 1,
            End::Hung => books.stats.hung += 1,
        }
    }

    fn billed(&self, body: u64, billed: &Billed) {
        let mut books = self.books();
        let seen = !books.answered.insert(body);
        let stats = &mut books.stats;
        stats.answered_twice += u64::from(seen);
        stats.prompt_tokens += billed.prompt;
        stats.completion_tokens += billed.completion;
        stats.cached_tokens += billed.cached;
        stats.reasoning_tokens += billed.reasoning;
    }
}

/// One request being served. Dropped before its end is known, the client has left.
#[derive(Debug)]
pub(super) struct Seat {
    account: Arc<Account>,
    ended: bool,
    slot: Option<OwnedSemaphorePermit>,
}

/// One request in the line for a slot. Dropped, it has left the line.
struct Waiting<'a>(&'a Account);

impl<'a> Waiting<'a> {
    fn begin(account: &'a Account) -> Self {
        let stats = &mut account.books().stats;
        stats.waiting += 1;
        stats.max_waiting = stats.max_waiting.max(stats.waiting);
        Self(account)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let stats = &mut self.0.books().stats;
        stats.waiting = stats.waiting.saturating_sub(1);
    }
}

impl Seat {
    /// Takes a seat, unless all are taken; then says how many there are.
    pub(super) fn take(account: &Arc<Account>, seats: Option<usize>) -> Result<Self, usize> {
        let mut books = account.books();
        let Stats { in_flight, max_in_flight, .. } = &mut books.stats;
        if let Some(all) = seats
            && *in_flight >= all as u64
        {
            return Err(all);
        }
        *in_flight += 1;
        *max_in_flight = (*max_in_flight).max(*in_flight);
        drop(books);
        Ok(Self { account: Arc::clone(account), ended: false, slot: None })
    }

    /// Waits for one of the slots; it is kept until the seat is given back.
    pub(super) async fn wait_for_turn(&mut self, slots: &Arc<Semaphore>) {
        self.slot = if let Ok(slot) = slots.clone().try_acquire_owned() {
            Some(slot)
        } else {
            let waiting = Waiting::begin(&self.account);
            let slot = slots.clone().acquire_owned().await.ok();
            drop(waiting);
            slot
        };
    }

    /// Books how the request ended. Only the first end counts.
    pub(super) fn end(&mut self, end: End) {
        if !self.ended {
            self.ended = true;
            self.account.ended(end);
        }
    }

    /// Books a whole answer with status 200 to the body with this hash.
    pub(super) fn end_billed(&mut self, body: u64, billed: &Billed) {
        if !self.ended {
            self.account.billed(body, billed);
        }
        self.end(End::Answered(200));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let stats = &mut self.account.books().stats;
        stats.in_flight = stats.in_flight.saturating_sub(1);
        stats.abandoned += u64::from(!self.ended);
    }
}

impl Account {
    /// Books a request that was refused before it had a seat.
    pub(super) fn refused(&self, status: u16) {
        self.ended(End::Answered(status));
    }
}

/// Takes hashes as they are: hashing them again would mix nothing that is not mixed.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_and_given_back() {
        let account = Arc::new(Account::default());
        let mut first = Seat::take(&account, Some(2)).unwrap();
        let second = Seat::take(&account, Some(2)).unwrap();
        assert_eq!(Seat::take(&account, Some(2)).unwrap_err(), 2);
        first.end(End::Answered(200));
        first.end(End::Hung);
        drop((first, second));
        let stats = account.snapshot();
        assert_eq!((stats.in_flight, stats.max_in_flight, stats.abandoned, stats.hung), (0, 2, 1, 0));
        assert_eq!(stats.by_status, BTreeMap::from([(200, 1)]));
    }

    #[test]
    fn the_second_answer_to_one_body_is_counted() {
        let account = Arc::new(Account::default());
        let billed = Billed { prompt: 3, completion: 4, cached: 0, reasoning: 0 };
        for body in [1, 2, 1] {
            Seat::take(&account, None).unwrap().end_billed(body, &billed);
        }
        let stats = account.snapshot();
        assert_eq!((stats.answered_prompts, stats.answered_twice, stats.prompt_tokens), (2, 1, 9));
        account.reset();
        assert_eq!(account.snapshot(), Stats::default());
    }
}
