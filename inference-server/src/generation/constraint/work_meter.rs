//! Bounds on the work that a constraint may cause.
//!
//! The grammar library bounds the work of one mask, and nothing else: `(a{1000}){1000}` forces a
//! million bytes, all of which it writes out before it answers. So a watchdog thread looks at every
//! operation and cancels one that takes too long, and the processor time of all operations on a
//! sequence is added up.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use llguidance::{CancellationHandle, Matcher as Parser};

/// Longest time of one operation. A choice: those on ordinary constraints take milliseconds.
const MAX_OPERATION: Duration = Duration::from_millis(500);
/// Interval at which the watchdog looks: an operation may overrun by this much. Not tuned: a
/// twentieth of [`MAX_OPERATION`].
const TICK: Duration = Duration::from_millis(25);
/// Processor time that a sequence may use, plus an allowance for each of its tokens. A choice: a
/// mask takes up to 0.7 ms (benches/RESULTS.md), so the allowance alone covers ordinary constraints
/// several times.
const MAX_TIME: Duration = Duration::from_secs(2);
const MAX_TIME_PER_TOKEN: Duration = Duration::from_millis(3);

/// Meter of the work on one sequence.
#[derive(Debug, Default)]
pub(super) struct WorkMeter {
    /// Start of the running operation, and what cancels it.
    operation: Mutex<Option<(Instant, CancellationHandle)>>,
    /// Processor time used, in nanoseconds.
    used: AtomicU64,
    tokens: AtomicU64,
    /// True once an operation has been cancelled.
    overdue: AtomicBool,
}

impl WorkMeter {
    /// Creates a meter that the watchdog looks at.
    pub(super) fn start() -> Arc<Self> {
        let meter = Arc::new(Self::default());
        watchdog().add(&meter);
        meter
    }

    /// Runs one operation on a parser and measures it; the watchdog may cancel it.
    pub(super) fn run<T>(&self, parser: &mut Parser, operation: impl FnOnce(&mut Parser) -> T) -> T {
        // Processor time and not wall time: a machine that is busy must not make a constraint look
        // expensive.
        let before = thread_time();
        *self.operation() = parser.cancellation_handle().map(|handle| (Instant::now(), handle));
        let result = operation(parser);
        // Taken back before the time is added, so that the watchdog cannot cancel the next
        // operation for this one.
        *self.operation() = None;
        let used = thread_time().saturating_sub(before);
        // Relaxed here and below: the counts are compared with limits and guard no other memory.
        self.used.fetch_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        result
    }

    /// Returns true if the parser allows a token next. An operation that is cancelled allows none.
    pub(super) fn allows(&self, parser: &mut Parser, id: u32) -> bool {
        self.run(parser, |parser| parser.validate_tokens(&[id])).is_ok_and(|valid| valid == 1)
    }

    /// Records a token, which raises the limit.
    pub(super) fn add_token(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns true if the sequence has used up the work that it may cause.
    pub(super) fn is_exhausted(&self) -> bool {
        let tokens = u32::try_from(self.tokens.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        self.overdue.load(Ordering::Relaxed)
            || self.processor_time() > MAX_TIME + MAX_TIME_PER_TOKEN.saturating_mul(tokens)
    }

    /// Processor time used so far.
    pub(super) fn processor_time(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    fn operation(&self) -> MutexGuard<'_, Option<(Instant, CancellationHandle)>> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the running operation if it takes too long.
    fn cancel_overdue(&self) {
        if let Some((started, handle)) = &*self.operation()
            && started.elapsed() > MAX_OPERATION
        {
            // Under the lock, which `run` takes again once the operation returns: by then the flag
            // is seen, although it is Relaxed.
            self.overdue.store(true, Ordering::Relaxed);
            handle.cancel();
        }
    }
}

/// Looks at all meters in use, on a thread of its own.
#[derive(Default)]
struct Watchdog {
    has_thread: Mutex<bool>,
    meters: Mutex<Vec<Weak<WorkMeter>>>,
    added: Condvar,
}

/// The watchdog of the process; the first call starts its thread.
fn watchdog() -> &'static Watchdog {
    static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(Watchdog::default);
    WATCHDOG.start(|| {
        let builder = thread::Builder::new().name("constraint-clock".to_owned());
        builder.spawn(|| WATCHDOG.run()).map(|_| ())
    });
    &WATCHDOG
}

impl Watchdog {
    /// Starts the thread, unless it runs. A system that is short of threads may have one later, so
    /// a failure is tried again at the next call; until then constraints are held to their
    /// processor time alone.
    fn start(&self, spawn: impl FnOnce() -> io::Result<()>) {
        let mut has_thread = self.has_thread.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_thread {
            return;
        }
        match spawn() {
            Ok(()) => *has_thread = true,
            Err(error) => {
                tracing::error!(error.message = %error, "cannot spawn the watchdog of constraints");
            }
        }
    }

    fn add(&self, meter: &Arc<WorkMeter>) {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(meter));
        self.added.notify_one();
    }

    fn run(&self) {
        loop {
            let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
            // Weak references: a meter lives as long as its matcher, and the watchdog must not
            // prolong that.
            meters.retain(|meter| {
                meter.upgrade().is_some_and(|meter| {
                    meter.cancel_overdue();
                    true
                })
            });
            if meters.is_empty() {
                // A server without constraints has no ticking thread.
                drop(self.added.wait(meters).unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(meters);
                thread::sleep(TICK);
            }
        }
    }
}

/// Processor time of this thread; wall time if the system does not report it.
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
    fn a_thread_that_cannot_start_is_tried_again() {
        let (watchdog, tries) = (Watchdog::default(), AtomicU64::new(0));
        for _ in 0..3 {
            // Fails the first time only.
            watchdog.start(|| match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            });
        }
        assert_eq!(tries.into_inner(), 2, "a failure is tried again, a thread that runs is not");
    }

    #[test]
    fn the_limit_grows_with_the_tokens() {
        let meter = WorkMeter::default();
        meter.used.store(2_100_000_000, Ordering::Relaxed);
        assert!(meter.is_exhausted());
        (0..100).for_each(|_| meter.add_token());
        assert!(!meter.is_exhausted());
        meter.overdue.store(true, Ordering::Relaxed);
        assert!(meter.is_exhausted());
    }
}
