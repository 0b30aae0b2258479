//! Which rows share a forward pass.

/// Splits rows into micro-batches of at most `budget` tokens, longest rows last.
///
/// Returns indices into `lengths`; every index occurs once, no batch is empty, a row longer than the budget stands
/// alone, and rows of a batch are sorted by length so that the encoder finds equal lengths side by side. The model
/// packs rows instead of padding them, so the cost of a batch is the sum of its lengths.
pub fn plan(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| lengths[row]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut used = 0;
    for row in order {
        match batches.last_mut() {
            Some(batch) if used + lengths[row] <= budget => {
                batch.push(row);
                used += lengths[row];
            }
            _ => {
                batches.push(vec![row]);
                used = lengths[row];
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packs_by_length() {
        fn check(lengths: &[usize], budget: usize, expected: &[&[usize]]) {
            assert_eq!(plan(lengths, budget), expected);
        }
        check(&[], 10, &[]);
        check(&[3], 10, &[&[0]]);
        check(&[30], 10, &[&[0]]);
        check(&[5, 2, 5, 2], 9, &[&[1, 3, 0], &[2]]);
        check(&[4, 4, 4], 8, &[&[0, 1], &[2]]);
        check(&[9, 1, 30], 10, &[&[1, 0], &[2]]);
    }

    proptest! {
        #[test]
        fn every_row_once_and_within_budget(lengths in prop::collection::vec(1usize..600, 0..200), budget in 1usize..2000) {
            let batches = plan(&lengths, budget);
            let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let tokens: usize = batch.iter().map(|&row| lengths[row]).sum();
                prop_assert!(batch.len() == 1 || tokens <= budget);
                prop_assert!(batch.windows(2).all(|pair| lengths[pair[0]] <= lengths[pair[1]]));
            }
        }
    }
}
