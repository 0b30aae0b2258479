//! What happens between loading a model and its first request.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use observatory_inference::testing::models::{ComputeError, Extras, Model, RowOutput};
use observatory_inference::testing::registry::warm_up;
use observatory_inference::testing::registry::{LoadedModel, Network};

use crate::support::{Gate, Running, gated};

/// Keeps the tokens of every batch; needs `pace` for one, and has no room for more than `room`
/// tokens.
struct Recorder {
    pace: Duration,
    room: usize,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Model for Recorder {
    fn run(&self, rows: &[&[u32]], _extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
        assert!(rows.iter().all(|row| (1..=6).contains(&row.len())), "the model reads six tokens at most");
        let tokens = rows.iter().map(|row| row.len()).sum();
        self.batches.lock().unwrap().push(tokens);
        std::thread::sleep(self.pace);
        if tokens > self.room {
            return Err(ComputeError::OutOfMemory(format!("{tokens} tokens")));
        }
        Ok(vec![RowOutput::default(); rows.len()])
    }
}

/// Tokens of the batches, those of the measured one, and its time; or the error.
fn warm(pace: Duration, room: usize, tokens: usize) -> (Vec<usize>, Result<(usize, Duration), String>) {
    let batches = Arc::default();
    let network = Network::Encoder(Box::new(Recorder { pace, room, batches: Arc::clone(&batches) }));
    let model = LoadedModel { network, ..gated(&Gate::closed()) };
    let pace = warm_up(&model, tokens)
        .map(|pace| pace.map(|pace| (pace.tokens, pace.elapsed)).unwrap())
        .map_err(|error| error.to_string());
    let batches = batches.lock().unwrap().clone();
    (batches, pace)
}

#[test]
fn batches_grow_to_the_usual_size() {
    let (batches, pace) = warm(Duration::ZERO, usize::MAX, 1_000);
    assert_eq!(batches, [64, 64, 128, 128, 256, 256, 512, 512, 1_000, 1_000]);
    assert_eq!(pace.unwrap().0, 1_000);
    assert_eq!(warm(Duration::ZERO, usize::MAX, 5).0, [5, 5]);
}

#[test]
fn a_slow_device_is_not_held_up() {
    let slow = Duration::from_millis(40);
    let (batches, pace) = warm(slow, usize::MAX, 1_000);
    assert_eq!(batches, [64, 64]);
    assert!(pace.is_ok_and(|(tokens, elapsed)| tokens == 64 && elapsed >= slow));
}

#[test]
fn what_does_not_fit_is_left_out() {
    let (batches, pace) = warm(Duration::ZERO, 200, 1_000);
    assert_eq!(batches, [64, 64, 128, 128, 256]);
    assert_eq!(pace.unwrap().0, 128);
    let error = warm(Duration::ZERO, 10, 1_000).1.unwrap_err();
    assert!(error.contains("warm-up with 64 tokens"), "{error}");
}

#[tokio::test]
async fn the_first_request_finds_a_measured_device() {
    let assumed = Running::with_gate(&Gate::closed(), &[]).await.admission.rate();
    let running = Running::with_fixtures(&["golden/bert"], &[]).await;
    assert_ne!(running.admission.rate(), assumed);
}
