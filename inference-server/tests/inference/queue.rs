//! Order, packing and loss of work in the queue, on a model whose gate the test opens.
//!
//! Rows have three tokens; the middle one names the row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use observatory_inference::testing::error::Error;
use observatory_inference::testing::metrics::Metrics;
use observatory_inference::testing::models::RowOutput;
use observatory_inference::testing::registry::LoadedModel;
use observatory_inference::testing::scheduler::{Admission, Budget, Limits};
use observatory_inference::testing::scheduler::{Priority, Queue, Ticket, Work, WorkSource};
use tokio_util::sync::CancellationToken;

use crate::support::{Gate, gated};

struct Bench {
    gate: Arc<Gate>,
    model: Arc<LoadedModel>,
    admission: Arc<Admission>,
    queue: Queue,
}

impl Bench {
    /// A queue whose batches hold one row of three tokens.
    fn new() -> Self {
        Self::with_budget(3)
    }

    fn with_budget(tokens: usize) -> Self {
        let gate = Gate::closed();
        let admission = Admission::new(Limits { requests: 100, budget: Budget::Tokens(1_000) });
        let metrics = Metrics::new();
        let queue = Queue::start(tokens, 1, Arc::clone(&admission), metrics, Arc::default()).unwrap();
        Self { model: Arc::new(gated(&gate)), gate, admission, queue }
    }

    fn submit(
        &self,
        tokens: &[u32],
        priority: Priority,
        deadline: Option<Instant>,
    ) -> (Ticket, CancellationToken) {
        self.submit_to(&WorkSource::new(&self.model, priority), tokens, deadline)
    }

    fn submit_to(
        &self,
        source: &WorkSource<LoadedModel>,
        tokens: &[u32],
        deadline: Option<Instant>,
    ) -> (Ticket, CancellationToken) {
        let cancel = CancellationToken::new();
        let work = Work {
            source: source.erased(),
            rows: tokens.iter().map(|token| vec![1, *token, 2]).collect(),
            cancel: cancel.clone(),
            deadline,
            begin_by: None,
            permit: self.admission.reserve(3 * tokens.len() as u64).unwrap(),
        };
        (self.queue.submit(work), cancel)
    }

    fn batches(&self) -> Vec<usize> {
        self.gate.batches.lock().unwrap().clone()
    }

    fn computed(&self) -> Vec<u32> {
        self.gate.computed.lock().unwrap().clone()
    }
}

fn dense(outputs: Vec<RowOutput>) -> Vec<Vec<f32>> {
    outputs.into_iter().map(|output| output.values).collect()
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
    let computed = bench.computed();
    assert_eq!(computed[..3], [30, 50, 51]);
    // Whether the other's row or the newcomer's is next depends on whether one had been prepared.
    assert!([[40, 31, 41], [31, 40, 41]].iter().any(|rest| computed[3..] == *rest), "{computed:?}");
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
async fn rows_of_different_requests_share_a_batch() {
    let bench = Bench::with_budget(18);
    let (first, _a) = bench.submit(&[3], Priority::Bulk, None);
    bench.gate.entered().await;
    let stream = WorkSource::new(&bench.model, Priority::Bulk);
    let items = [10, 11, 12].map(|token| bench.submit_to(&stream, &[token], None));
    let (unary, _b) = bench.submit(&[20, 21, 22], Priority::Interactive, None);
    let (late, _c) = bench.submit(&[30, 31], Priority::Bulk, None);
    bench.gate.open();
    assert_eq!(dense(unary.wait().await.unwrap().outputs), [[3.0, 20.0], [3.0, 21.0], [3.0, 22.0]]);
    for (item, token) in items.into_iter().zip([10.0, 11.0, 12.0]) {
        assert_eq!(dense(item.0.wait().await.unwrap().outputs), [[3.0, token]]);
    }
    for ticket in [first, late] {
        ticket.wait().await.unwrap();
    }
    assert_eq!(bench.batches(), [1, 6, 2]);
    assert_eq!(bench.admission.queued_tokens(), 0);
}

#[tokio::test]
async fn a_poisoned_row_fails_its_own_request_only() {
    let bench = Bench::with_budget(100);
    let (first, _a) = bench.submit(&[3], Priority::Bulk, None);
    bench.gate.entered().await;
    let good = [[10, 11], [12, 13], [14, 15]].map(|tokens| bench.submit(&tokens, Priority::Bulk, None));
    let (bad, _b) = bench.submit(&[16, 7, 17], Priority::Bulk, None);
    bench.gate.open();
    first.wait().await.unwrap();
    assert_eq!(bad.wait().await.unwrap_err(), Error::Backend);
    for (ticket, _cancel) in good {
        assert_eq!(ticket.wait().await.unwrap().outputs.len(), 2);
    }
    assert_eq!(bench.batches()[..2], [1, 9]);
    assert_eq!(bench.admission.queued_tokens(), 0);
}

#[tokio::test]
async fn a_large_request_gives_room_back_as_it_is_computed() {
    let bench = Bench::with_budget(30);
    let (large, _a) = bench.submit(&(100..200).collect::<Vec<_>>(), Priority::Bulk, None);
    bench.gate.entered().await;
    assert_eq!(bench.admission.queued_tokens(), 300);
    let (small, _b) = bench.submit(&[40, 41], Priority::Bulk, None);
    bench.gate.open();
    small.wait().await.unwrap();
    assert!(bench.admission.queued_tokens() <= 270);
    assert_eq!(large.wait().await.unwrap().outputs.len(), 100);
    assert_eq!(bench.admission.queued_tokens(), 0);
    let place = bench.computed().iter().position(|token| *token == 41).unwrap();
    assert!(place < 40, "the small request ended at row {place}");
}

#[tokio::test]
async fn rows_of_abandoned_requests_free_their_room_at_the_next_batch() {
    let bench = Bench::with_budget(6);
    let (running, _a) = bench.submit(&[3], Priority::Bulk, None);
    bench.gate.entered().await;
    let (dropped, _b) = bench.submit(&(50..90).collect::<Vec<_>>(), Priority::Interactive, None);
    let (kept, _c) = bench.submit(&[4, 5], Priority::Bulk, None);
    drop(dropped);
    bench.gate.open();
    running.wait().await.unwrap();
    kept.wait().await.unwrap();
    assert_eq!(bench.computed(), [3, 4, 5]);
    assert_eq!(bench.admission.queued_tokens(), 0);
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
