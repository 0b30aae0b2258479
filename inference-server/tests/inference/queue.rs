//! Order and loss of work on the device thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use observatory_inference::admission::{Admission, Budget, Limits};
use observatory_inference::error::Error;
use observatory_inference::metrics::Metrics;
use observatory_inference::model::LoadedModel;
use observatory_inference::queue::{Lane, Priority, Queue, Ticket, Work};
use tokio_util::sync::CancellationToken;

use crate::support::{Gate, gated};

struct Bench {
    gate: Arc<Gate>,
    model: Arc<LoadedModel>,
    admission: Arc<Admission>,
    queue: Queue,
}

impl Bench {
    /// A queue whose micro-batches hold one row of three tokens.
    fn new() -> Self {
        let gate = Gate::closed();
        let admission = Admission::new(Limits { requests: 100, budget: Budget::Tokens(1_000) });
        let metrics = Metrics::new(Arc::clone(&admission));
        let queue = Queue::start(3, Arc::clone(&admission), metrics).unwrap();
        Self { model: Arc::new(gated(&gate)), gate, admission, queue }
    }

    fn submit(
        &self,
        tokens: &[u32],
        priority: Priority,
        deadline: Option<Instant>,
    ) -> (Ticket, CancellationToken) {
        let cancel = CancellationToken::new();
        let work = Work {
            lane: Lane::new(&self.model, priority),
            rows: tokens.iter().map(|token| vec![1, *token, 2]).collect(),
            cancel: cancel.clone(),
            deadline,
            permit: self.admission.reserve(3 * tokens.len() as u64).unwrap(),
        };
        (self.queue.submit(work), cancel)
    }

    fn computed(&self) -> Vec<u32> {
        self.gate.computed.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn interactive_work_goes_first_and_bulk_takes_turns() {
    let bench = Bench::new();
    let (first, _a) = bench.submit(&[30, 31], Priority::Bulk, None);
    bench.gate.entered().await;
    let (second, _b) = bench.submit(&[40, 41], Priority::Bulk, None);
    let (third, _c) = bench.submit(&[50, 51], Priority::Interactive, None);
    bench.gate.open();
    for ticket in [first, second, third] {
        assert_eq!(ticket.wait().await.unwrap().outputs.len(), 2);
    }
    assert_eq!(bench.computed(), [30, 50, 51, 40, 31, 41]);
    assert_eq!(bench.admission.queued_tokens(), 0);
}

#[tokio::test]
async fn bulk_is_not_starved() {
    let bench = Bench::new();
    let (first, _a) = bench.submit(&[3], Priority::Interactive, None);
    bench.gate.entered().await;
    let (bulk, _b) = bench.submit(&[40], Priority::Bulk, None);
    let (stream, _c) = bench.submit(&(50..70).collect::<Vec<_>>(), Priority::Interactive, None);
    bench.gate.open();
    for ticket in [first, bulk, stream] {
        ticket.wait().await.unwrap();
    }
    let place = bench.computed().iter().position(|token| *token == 40).unwrap();
    assert!(place < 10, "bulk came at place {place}");
}

#[tokio::test]
async fn cancelled_and_expired_work_is_never_computed() {
    let bench = Bench::new();
    let (running, _a) = bench.submit(&[3, 4], Priority::Bulk, None);
    bench.gate.entered().await;
    let (cancelled, cancel) = bench.submit(&[40], Priority::Bulk, None);
    let (dropped, _b) = bench.submit(&[41], Priority::Bulk, None);
    let (expired, _c) = bench.submit(&[42], Priority::Bulk, Some(Instant::now() + Duration::from_millis(1)));
    assert_eq!(expired.wait().await.unwrap_err(), Error::ExpiredInQueue);
    cancel.cancel();
    drop(dropped);
    bench.gate.open();
    assert_eq!(cancelled.wait().await.unwrap_err(), Error::Cancelled);
    running.wait().await.unwrap();
    assert_eq!(bench.computed(), [3, 4]);
    assert_eq!(bench.admission.queued_tokens(), 0);
}

#[tokio::test]
async fn work_that_began_expires_between_steps() {
    let bench = Bench::new();
    let (late, _a) =
        bench.submit(&[3, 4, 5], Priority::Bulk, Some(Instant::now() + Duration::from_millis(300)));
    bench.gate.entered().await;
    assert_eq!(late.wait().await.unwrap_err(), Error::ExpiredRunning);
    bench.gate.open();
    let (next, _b) = bench.submit(&[6], Priority::Bulk, None);
    next.wait().await.unwrap();
    assert_eq!(bench.computed(), [3, 6]);
}

#[tokio::test]
async fn a_failing_batch_fails_its_request_only() {
    let bench = Bench::new();
    bench.gate.open();
    let (bad, _a) = bench.submit(&[3, 7], Priority::Bulk, None);
    let (good, _b) = bench.submit(&[4], Priority::Bulk, None);
    assert_eq!(bad.wait().await.unwrap_err(), Error::Backend);
    assert_eq!(good.wait().await.unwrap().outputs[0].values, [3.0, 4.0]);
    assert!(!bench.queue.device_lost().is_cancelled());
}

#[tokio::test]
async fn closing_ends_what_waits() {
    let bench = Bench::new();
    let (running, _a) = bench.submit(&[3], Priority::Bulk, None);
    bench.gate.entered().await;
    let (waiting, _b) = bench.submit(&[4], Priority::Bulk, None);
    drop(bench.queue);
    assert_eq!(waiting.wait().await.unwrap_err(), Error::Draining);
    bench.gate.open();
    running.wait().await.unwrap();
}
