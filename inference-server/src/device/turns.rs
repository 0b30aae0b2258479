//! Turns at a device that encoders and language models share.
//!
//! Batches of encoders may be at the device together, a step of a language model is there alone.
//! Who came first goes first, so neither waits longer than for what was there before it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Debug, Default)]
struct State {
    /// Who waits, in order, and whether alone.
    waiting: VecDeque<(u64, bool)>,
    next: u64,
    together: usize,
    alone: bool,
}

/// Who may use the device.
#[derive(Debug, Default)]
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

/// A turn; it ends by dropping this.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    alone: bool,
}

impl Turns {
    /// Waits for a turn beside others of its kind.
    pub fn together(&self) -> Turn<'_> {
        self.wait(false)
    }

    /// Waits for a turn without anybody else.
    pub fn alone(&self) -> Turn<'_> {
        self.wait(true)
    }

    fn wait(&self, alone: bool) -> Turn<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back((ticket, alone));
        loop {
            let first = state.waiting.front().is_some_and(|(first, _)| *first == ticket);
            if first && !state.alone && (state.together == 0 || !alone) {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.pop_front();
        if alone {
            state.alone = true;
        } else {
            state.together += 1;
        }
        drop(state);
        self.changed.notify_all();
        Turn { turns: self, alone }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.alone {
            state.alone = false;
        } else {
            state.together -= 1;
        }
        drop(state);
        self.turns.changed.notify_all();
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
        let turns = Arc::new(Turns::default());
        let (together, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..8)
            .map(|index| {
                let (turns, together, most) = (Arc::clone(&turns), Arc::clone(&together), Arc::clone(&most));
                thread::spawn(move || {
                    for _ in 0..200 {
                        if index % 2 == 0 {
                            let _turn = turns.alone();
                            assert_eq!(together.load(Ordering::SeqCst), 0);
                        } else {
                            let _turn = turns.together();
                            most.fetch_max(together.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            thread::yield_now();
                            together.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let first = turns.together();
        drop(turns.together());
        drop(first);
    }

    #[test]
    fn who_came_first_goes_first() {
        let turns = Arc::new(Turns::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = turns.together();
        let mut threads = Vec::new();
        for index in 0..4 {
            let (other, order) = (Arc::clone(&turns), Arc::clone(&order));
            threads.push(thread::spawn(move || {
                let _turn = if index % 2 == 0 { other.alone() } else { other.together() };
                order.lock().unwrap().push(index);
            }));
            while turns.state.lock().unwrap().waiting.len() <= index {
                thread::yield_now();
            }
        }
        drop(held);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }
}
