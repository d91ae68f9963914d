//! Hands things from one thread to another in as few wake-ups as possible: on a full machine each costs as much as a
//! row's own work. Whoever waits for room is woken when half of it is free; a thread that waits for things is woken
//! when the runtime has done what it has at hand.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    /// There is something for a thread, or nobody is left to send.
    arrived: Condvar,
    /// The same for a task.
    arrived_for_task: Notify,
    /// Half of the room is free, or nobody takes anything any more.
    room: Condvar,
    /// The same for a task.
    room_for_task: Notify,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receiver_gone: bool,
    /// Nobody has undertaken yet to wake the receiver.
    receiver_waits: bool,
    senders_wait: bool,
}

/// The side that gives.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The side that takes.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// A queue with room for so many. The receiver is either a thread or a task, the senders may be both.
pub(super) fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        queue: VecDeque::with_capacity(capacity),
        senders: 1,
        receiver_gone: false,
        receiver_waits: false,
        senders_wait: false,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        capacity,
        arrived: Condvar::new(),
        arrived_for_task: Notify::new(),
        room: Condvar::new(),
        room_for_task: Notify::new(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_receiver(&self) {
        self.arrived.notify_one();
        self.arrived_for_task.notify_one();
    }

    fn wake_senders(&self) {
        self.room.notify_all();
        self.room_for_task.notify_waiters();
    }

    /// Senders that wait go on when half of the room is free.
    fn taken(&self, mut state: MutexGuard<'_, State<T>>) {
        if state.senders_wait && state.queue.len() <= self.capacity / 2 {
            state.senders_wait = false;
            drop(state);
            self.wake_senders();
        }
    }
}

impl<T> State<T> {
    /// Adds it. `true`: the receiver waits, and whoever asked has to wake it.
    fn push(&mut self, thing: T) -> bool {
        self.queue.push_back(thing);
        std::mem::take(&mut self.receiver_waits)
    }
}

/// Wakes the receiver when it is dropped, so that it is woken also where the task that had to is ended.
struct WakeLater<'a, T>(&'a Shared<T>);

impl<T> Drop for WakeLater<'_, T> {
    fn drop(&mut self) {
        self.0.wake_receiver();
    }
}

/// What came of sending.
enum Sent<'a, T> {
    /// It is in the queue; the receiver may have to be woken.
    Done(Option<WakeLater<'a, T>>),
    Full(T),
}

impl<T> Sender<T> {
    /// From a task: waits for room. The receiver is woken after the other tasks that can run now, so that it finds
    /// what they bring as well.
    ///
    /// # Errors
    /// Nobody takes it.
    pub(super) async fn send(&self, mut thing: T) -> Result<(), Gone> {
        loop {
            let mut room = pin!(self.0.room_for_task.notified());
            match self.try_send(thing, room.as_mut())? {
                Sent::Full(back) => thing = back,
                Sent::Done(None) => return Ok(()),
                Sent::Done(Some(_wake)) => {
                    tokio::task::yield_now().await;
                    return Ok(());
                }
            }
            room.await;
        }
    }

    fn try_send(&self, thing: T, room: Pin<&mut Notified<'_>>) -> Result<Sent<'_, T>, Gone> {
        let mut state = self.0.state();
        if state.receiver_gone {
            return Err(Gone);
        }
        if state.queue.len() < self.0.capacity {
            return Ok(Sent::Done(state.push(thing).then(|| WakeLater(&*self.0))));
        }
        state.senders_wait = true;
        // Listens before the lock is given back: whoever makes room sees it.
        room.enable();
        Ok(Sent::Full(thing))
    }

    /// From a thread: waits for room.
    ///
    /// # Errors
    /// Nobody takes it.
    pub(super) fn blocking_send(&self, thing: T) -> Result<(), Gone> {
        let mut state = self.0.state();
        loop {
            if state.receiver_gone {
                return Err(Gone);
            }
            if state.queue.len() < self.0.capacity {
                break;
            }
            state.senders_wait = true;
            state = self.0.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.push(thing) {
            drop(state);
            self.0.wake_receiver();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        if state.senders == 0 {
            drop(state);
            self.0.wake_receiver();
        }
    }
}

impl<T> Receiver<T> {
    /// In a task: the next thing; `None` when nobody is left to send any.
    pub(super) async fn recv(&mut self) -> Option<T> {
        loop {
            {
                let mut state = self.0.state();
                if let Some(thing) = state.queue.pop_front() {
                    self.0.taken(state);
                    return Some(thing);
                }
                if state.senders == 0 {
                    return None;
                }
                state.receiver_waits = true;
            }
            // A wake-up in between is kept.
            self.0.arrived_for_task.notified().await;
        }
    }

    /// In a thread: appends what there is, up to so many, and says how many; 0 when nobody is left to send any.
    pub(super) fn blocking_recv_many(&mut self, into: &mut Vec<T>, most: usize) -> usize {
        let mut state = self.0.state();
        while state.queue.is_empty() {
            if state.senders == 0 {
                return 0;
            }
            state.receiver_waits = true;
            state = self.0.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = state.queue.len().min(most);
        into.extend(state.queue.drain(..count));
        self.0.taken(state);
        count
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receiver_gone = true;
        // What nobody will take may hold something that others wait for.
        let left = std::mem::take(&mut state.queue);
        drop(state);
        drop(left);
        self.0.wake_senders();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_thread_gives_to_a_task_in_order_and_waits_for_room() {
        let (sender, mut receiver) = channel(8);
        let thread = std::thread::spawn(move || (0..10_000).all(|n| sender.blocking_send(n).is_ok()));
        for n in 0..10_000 {
            assert_eq!(receiver.recv().await, Some(n));
        }
        assert_eq!(receiver.recv().await, None);
        assert!(thread.join().unwrap());
    }

    #[tokio::test]
    async fn tasks_give_to_a_thread_and_wait_for_room() {
        let (sender, mut receiver) = channel(8);
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            while receiver.blocking_recv_many(&mut all, 3) > 0 {}
            all
        });
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..50 {
            let sender = sender.clone();
            tasks.spawn(async move {
                for n in 0..100 {
                    sender.send((task, n)).await.unwrap();
                }
            });
        }
        drop(sender);
        tasks.join_all().await;
        let mut all = thread.join().unwrap();
        let of_one: Vec<_> = all.iter().filter(|(task, _)| *task == 7).map(|(_, n)| *n).collect();
        assert_eq!(of_one, (0..100).collect::<Vec<_>>());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5000);
    }

    #[tokio::test]
    async fn a_task_that_ends_before_it_wakes_the_receiver_has_woken_it() {
        let (sender, mut receiver) = channel(8);
        let thread = std::thread::spawn(move || receiver.blocking_recv_many(&mut Vec::new(), 1));
        while !sender.0.state().receiver_waits {
            tokio::task::yield_now().await;
        }
        let mut sending = Box::pin(sender.send(1));
        assert!(futures::poll!(&mut sending).is_pending());
        drop(sending);
        let waited = tokio::task::spawn_blocking(move || thread.join().unwrap());
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn senders_that_wait_learn_that_nobody_takes_anything() {
        let (sender, receiver) = channel(1);
        sender.send(0).await.unwrap();
        let others = [sender.clone(), sender];
        let waiting = others.map(|sender| tokio::spawn(async move { sender.send(1).await }));
        tokio::task::yield_now().await;
        drop(receiver);
        for sender in waiting {
            assert_eq!(sender.await.unwrap(), Err(Gone));
        }
    }
}
