//! Decides who may use the device: batches of encoders share it, a step of a language model has it
//! exclusively.
//!
//! Grants are first come, first served, so a caller waits only for callers that came before it: a
//! stream of encoder batches cannot starve a language model, nor the other way round. Encoder
//! batches share so that a GPU can be handed the next one behind the one it computes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

#[derive(Debug, Default)]
struct State {
    /// Tickets in order of arrival, each with the mode it waits for.
    waiting: VecDeque<(u64, Mode)>,
    next_ticket: u64,
    /// Shared grants held now.
    shared: usize,
    /// True if the exclusive grant is held now.
    exclusive: bool,
}

/// The lock of one device.
#[derive(Debug, Default)]
pub struct DeviceArbiter {
    state: Mutex<State>,
    changed: Condvar,
}

/// Permission to use the device, released on drop.
#[derive(Debug)]
pub struct DeviceGrant<'a> {
    arbiter: &'a DeviceArbiter,
    mode: Mode,
}

impl DeviceArbiter {
    /// Blocks until the device may be used together with other shared grants.
    pub fn shared(&self) -> DeviceGrant<'_> {
        self.acquire(Mode::Shared)
    }

    /// Blocks until the device may be used by nobody else.
    pub fn exclusive(&self) -> DeviceGrant<'_> {
        self.acquire(Mode::Exclusive)
    }

    fn acquire(&self, mode: Mode) -> DeviceGrant<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        // Queued even if the device is free, so that there is one rule for all.
        state.waiting.push_back((ticket, mode));
        loop {
            let first = state.waiting.front().is_some_and(|(first, _)| *first == ticket);
            if first && !state.exclusive && (state.shared == 0 || mode == Mode::Shared) {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.pop_front();
        match mode {
            Mode::Shared => state.shared += 1,
            Mode::Exclusive => state.exclusive = true,
        }
        drop(state);
        // The next waiter may share the grant that was just taken.
        self.changed.notify_all();
        DeviceGrant { arbiter: self, mode }
    }
}

impl Drop for DeviceGrant<'_> {
    fn drop(&mut self) {
        let mut state = self.arbiter.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.mode {
            Mode::Shared => state.shared -= 1,
            Mode::Exclusive => state.exclusive = false,
        }
        drop(state);
        self.arbiter.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_step_is_alone_and_batches_are_not() {
        let arbiter = Arc::new(DeviceArbiter::default());
        let (shared, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..8)
            .map(|index| {
                let (arbiter, shared, most) = (Arc::clone(&arbiter), Arc::clone(&shared), Arc::clone(&most));
                thread::spawn(move || {
                    for _ in 0..200 {
                        if index % 2 == 0 {
                            let _grant = arbiter.exclusive();
                            assert_eq!(shared.load(Ordering::SeqCst), 0);
                        } else {
                            let _grant = arbiter.shared();
                            most.fetch_max(shared.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            thread::yield_now();
                            shared.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let first = arbiter.shared();
        drop(arbiter.shared());
        drop(first);
    }

    #[test]
    fn who_came_first_goes_first() {
        let arbiter = Arc::new(DeviceArbiter::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = arbiter.shared();
        let mut threads = Vec::new();
        for index in 0..4 {
            let (other, order) = (Arc::clone(&arbiter), Arc::clone(&order));
            threads.push(thread::spawn(move || {
                let _grant = if index % 2 == 0 { other.exclusive() } else { other.shared() };
                order.lock().unwrap().push(index);
            }));
            while arbiter.state.lock().unwrap().waiting.len() <= index {
                thread::yield_now();
            }
        }
        drop(held);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }
}
