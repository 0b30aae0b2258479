//! How much work a constraint may cause.
//!
//! The grammar library bounds the work of a mask, and nothing else: `(a{1000}){1000}` leaves no
//! choice about a million bytes, all of which it writes out before it answers. So a clock looks at
//! every operation and cancels one that takes too long, and the processor's time of all operations
//! on a text is added up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use llguidance::{CancellationHandle, Matcher as Parser};

/// Longest that one operation may take. Those on ordinary constraints take milliseconds.
const OPERATION: Duration = Duration::from_millis(500);
/// How often the clock looks.
const TICK: Duration = Duration::from_millis(25);
/// Processor time of a text, and how much more for each of its tokens.
const TEXT: Duration = Duration::from_secs(2);
const TOKEN: Duration = Duration::from_millis(3);

/// The work on one text.
#[derive(Debug, Default)]
pub(super) struct Watch {
    operation: Mutex<Option<(Instant, CancellationHandle)>>,
    /// Nanoseconds of processor time.
    spent: AtomicU64,
    tokens: AtomicU64,
    overdue: AtomicBool,
}

impl Watch {
    /// A watch that the clock looks at.
    pub(super) fn start() -> Arc<Self> {
        let watch = Arc::new(Self::default());
        clock().add(&watch);
        watch
    }

    /// Runs one operation on a parser that can be cancelled.
    pub(super) fn run<T>(&self, parser: &mut Parser, work: impl FnOnce(&mut Parser) -> T) -> T {
        let began = thread_time();
        *self.operation() = parser.cancellation_handle().map(|handle| (Instant::now(), handle));
        let result = work(parser);
        *self.operation() = None;
        let spent = thread_time().saturating_sub(began);
        self.spent.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        result
    }

    /// The text has one more token.
    pub(super) fn token(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the text has used up the work that it may cause.
    pub(super) fn is_spent(&self) -> bool {
        let tokens = u32::try_from(self.tokens.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        self.overdue.load(Ordering::Relaxed) || self.spent() > TEXT + TOKEN.saturating_mul(tokens)
    }

    /// Processor time so far.
    pub(super) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    fn operation(&self) -> MutexGuard<'_, Option<(Instant, CancellationHandle)>> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the operation that takes too long, if one does.
    fn look(&self) {
        if let Some((began, handle)) = &*self.operation()
            && began.elapsed() > OPERATION
        {
            self.overdue.store(true, Ordering::Relaxed);
            handle.cancel();
        }
    }
}

/// Looks at all watches that are in use, on a thread of its own.
#[derive(Default)]
struct Clock {
    watches: Mutex<Vec<Weak<Watch>>>,
    added: Condvar,
}

fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    static THREAD: OnceLock<bool> = OnceLock::new();
    let clock = CLOCK.get_or_init(Clock::default);
    THREAD.get_or_init(|| {
        let started = thread::Builder::new().name("constraint-clock".to_owned()).spawn(|| clock.run());
        if let Err(error) = &started {
            tracing::error!(error.message = %error, "the clock of constraints cannot be started");
        }
        started.is_ok()
    });
    clock
}

impl Clock {
    fn add(&self, watch: &Arc<Watch>) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(watch));
        self.added.notify_one();
    }

    fn run(&self) {
        loop {
            let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            watches.retain(|watch| {
                watch.upgrade().is_some_and(|watch| {
                    watch.look();
                    true
                })
            });
            if watches.is_empty() {
                drop(self.added.wait(watches).unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(watches);
                thread::sleep(TICK);
            }
        }
    }
}

/// Processor time of this thread; the wall's where the system does not say.
#[allow(unsafe_code, reason = "a call of the C library")]
fn thread_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to the place it is given and nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0;
    if failed {
        return START.get_or_init(Instant::now).elapsed();
    }
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_the_thread() {
        let before = thread_time();
        let mut sum = 0_u64;
        while thread_time() - before < Duration::from_millis(5) {
            sum = sum.wrapping_add(1);
        }
        assert!(sum > 0);
        let waited = thread_time();
        thread::park_timeout(Duration::from_millis(60));
        assert!(thread_time() - waited < Duration::from_millis(50));
    }

    #[test]
    fn a_text_has_so_much_work() {
        let watch = Watch::default();
        watch.spent.store(2_100_000_000, Ordering::Relaxed);
        assert!(watch.is_spent());
        (0..100).for_each(|_| watch.token());
        assert!(!watch.is_spent());
        watch.overdue.store(true, Ordering::Relaxed);
        assert!(watch.is_spent());
    }
}
