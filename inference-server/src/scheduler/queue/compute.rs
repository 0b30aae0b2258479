//! Runs one batch and isolates the rows that make it fail.
//!
//! Whatever the model does (an error, a panic, too few outputs), every row gets a result.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::models::{ComputeError, Extras, Model, RowOutput};

/// Runs the rows and returns one result per row.
///
/// A batch that fails, panics or does not fit into memory is halved until the row at fault is
/// alone, so that only this row fails. A lost device is not tried again.
pub(super) fn compute<M: Model + ?Sized>(
    model: &M,
    rows: &[&[u32]],
    extras: Extras,
) -> Vec<Result<RowOutput, ComputeError>> {
    let error = match attempt(model, rows, extras) {
        Ok(outputs) => return outputs.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if rows.len() == 1 || matches!(error, ComputeError::DeviceLost(_)) {
        return vec![Err(error); rows.len()];
    }
    // Halving finds one row among n in log n failures, and a batch that is too large fits at some
    // size.
    let (first, second) = rows.split_at(rows.len() / 2);
    let mut results = compute(model, first, extras);
    match results.last() {
        Some(Err(lost @ ComputeError::DeviceLost(_))) => {
            results.extend(vec![Err(lost.clone()); second.len()])
        }
        _ => results.extend(compute(model, second, extras)),
    }
    results
}

fn attempt<M: Model + ?Sized>(
    model: &M,
    rows: &[&[u32]],
    extras: Extras,
) -> Result<Vec<RowOutput>, ComputeError> {
    // A panic of a library would end the device's thread, and with it the server.
    let outputs = catch_unwind(AssertUnwindSafe(|| model.run(rows, extras)))
        .unwrap_or_else(|_| Err(ComputeError::Failed("the model panicked".to_owned())))?;
    if outputs.len() == rows.len() {
        return Ok(outputs);
    }
    Err(ComputeError::Failed(format!("the model gave {} outputs for {} rows", outputs.len(), rows.len())))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Returns each row's length. Runs out of memory above three rows, panics on token 13, fails on
    /// 7, loses the device on 99 and omits a row on 5.
    #[derive(Default)]
    struct Small(Mutex<Vec<usize>>);

    impl Model for Small {
        fn run(&self, rows: &[&[u32]], _extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
            self.0.lock().unwrap().push(rows.len());
            let has = |token: u32| rows.iter().any(|row| row.contains(&token));
            assert!(!has(13));
            match () {
                () if has(99) => Err(ComputeError::DeviceLost("gone".to_owned())),
                () if rows.len() > 3 => Err(ComputeError::OutOfMemory("four rows".to_owned())),
                () if has(7) => Err(ComputeError::Failed("seven".to_owned())),
                () => Ok(rows
                    .iter()
                    .skip(usize::from(has(5)))
                    .map(|row| vec![row.len() as f32].into())
                    .collect()),
            }
        }
    }

    /// `expected` holds the lengths of the rows that are answered, 0 for those that fail.
    fn check(rows: &[&[u32]], expected: &[f32]) {
        let results = compute(&Small::default(), rows, Extras::default());
        let got: Vec<f32> = results.iter().map(|row| row.as_ref().map_or(0.0, |row| row.values[0])).collect();
        assert_eq!(got, expected, "{rows:?}: {results:?}");
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved() {
        check(&[&[1], &[1, 1], &[1, 1, 1], &[1; 4], &[1; 5]], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn a_bad_row_fails_alone() {
        check(&[&[1], &[13], &[1, 1], &[1, 7]], &[1.0, 0.0, 2.0, 0.0]);
        check(&[&[13]], &[0.0]);
        check(&[&[1], &[5], &[1, 1]], &[1.0, 0.0, 2.0]);
    }

    #[test]
    fn a_lost_device_is_not_asked_again() {
        let model = Small::default();
        let results = compute(&model, &[&[1], &[1], &[1], &[99]], Extras::default());
        assert!(results.iter().all(|row| matches!(row, Err(ComputeError::DeviceLost(_)))));
        assert_eq!(*model.0.lock().unwrap(), [4]);
    }
}
