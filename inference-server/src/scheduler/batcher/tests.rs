//! Order, packing and fairness of the batcher.
//!
//! Rows are named, so that a batch is a list of names.

use proptest::prelude::*;

use super::*;

const BULK: Priority = Priority::Bulk;

/// Rows are (name, length).
fn fill(batcher: &mut Batcher<(u32, usize)>) -> Batch<(u32, usize)> {
    let mut batch = Batch::default();
    batcher.fill(&mut batch);
    batch
}

fn push(batcher: &mut Batcher<(u32, usize)>, share: &Arc<FairShare>, name: u32, length: usize) {
    batcher.push(share, [(length, (name, length))]);
}

fn names(batch: Batch<(u32, usize)>) -> Vec<u32> {
    batch.into_rows().into_iter().map(|row| row.0).collect()
}

/// All batches, as names of rows.
fn drain(batcher: &mut Batcher<(u32, usize)>) -> Vec<Vec<u32>> {
    std::iter::repeat_with(|| names(fill(batcher))).take_while(|batch| !batch.is_empty()).collect()
}

#[test]
fn a_share_is_packed_by_length() {
    fn check(lengths: &[usize], budget: usize, expected: &[&[u32]]) {
        let (mut batcher, share) = (Batcher::new(budget), FairShare::new(0, BULK));
        for (name, length) in lengths.iter().enumerate() {
            push(&mut batcher, &share, name as u32, *length);
        }
        assert_eq!(drain(&mut batcher), expected);
        assert_eq!(batcher.tokens(), 0);
    }
    check(&[], 10, &[]);
    check(&[3], 10, &[&[0]]);
    check(&[30], 10, &[&[0]]);
    // The oldest row first, then what is nearest to it and still fits.
    check(&[5, 2, 5, 2], 9, &[&[1, 3, 0], &[2]]);
    check(&[4, 4, 4], 8, &[&[0, 1], &[2]]);
    check(&[9, 1, 30], 10, &[&[1, 0], &[2]]);
    check(&[3, 9, 8, 2, 3], 16, &[&[3, 0, 4, 2], &[1]]);
}

#[test]
fn groups_do_not_mix() {
    let mut batcher = Batcher::new(10);
    let shares = [FairShare::new(1, BULK), FairShare::new(2, BULK), FairShare::new(1, BULK)];
    for (name, share) in [(0, 0), (1, 1), (2, 2), (3, 1)] {
        push(&mut batcher, &shares[share], name, 2);
    }
    assert_eq!(drain(&mut batcher), [[0, 2], [1, 3]]);
}

#[test]
fn a_large_request_does_not_delay_a_small_one() {
    let mut batcher = Batcher::new(100);
    let (large, small) = (FairShare::new(0, BULK), FairShare::new(0, BULK));
    batcher.push(&large, (0..1_000).map(|name| (10, (name, 10))));
    assert_eq!(fill(&mut batcher).tokens(), 100);
    batcher.push(&small, (2_000..2_010).map(|name| (10, (name, 10))));
    let next: Vec<u32> = (0..2).flat_map(|_| names(fill(&mut batcher))).collect();
    assert_eq!(next.iter().filter(|name| **name >= 2_000).count(), 10, "{next:?}");
}

#[test]
fn equal_requests_are_finished_one_after_the_other() {
    let mut batcher = Batcher::new(100);
    let shares: Vec<Arc<FairShare>> = (0..50).map(|_| FairShare::new(0, BULK)).collect();
    let rows = |name: u32| (1..=6).map(move |length| (length, (name, length)));
    (0..30).for_each(|name| batcher.push(&shares[name as usize], rows(name)));
    let mut finished = Vec::new();
    for name in 30.. {
        if let Some(share) = shares.get(name as usize) {
            batcher.push(share, rows(name));
        }
        let batch = names(fill(&mut batcher));
        if batch.is_empty() {
            break;
        }
        finished.push(batch);
    }
    let order: Vec<u32> = finished.concat();
    let last = |name: u32| order.iter().rposition(|of| *of == name).unwrap() / 6;
    assert!((0..50).all(|name| last(name).abs_diff(name as usize) <= 4), "{finished:?}");
}

#[test]
fn a_flood_of_small_requests_leaves_a_large_one_its_share() {
    let mut batcher = Batcher::new(100);
    let large = FairShare::new(0, BULK);
    batcher.push(&large, (0..300).map(|_| (10, (1, 10))));
    (0..9).for_each(|_| push(&mut batcher, &FairShare::new(0, BULK), 0, 100));
    let mut large_tokens = 0;
    for _ in 0..300 {
        // Always nine small requests, each of another caller.
        let batch = fill(&mut batcher).into_rows();
        large_tokens += batch.iter().filter(|row| row.0 == 1).map(|row| row.1).sum::<usize>();
        for _ in batch.iter().filter(|row| row.0 == 0) {
            push(&mut batcher, &FairShare::new(0, BULK), 0, 100);
        }
    }
    assert!((2_500..=3_000).contains(&large_tokens), "{large_tokens} of a tenth of 30,000");
}

#[test]
fn a_stream_that_hands_in_one_by_one_gets_no_more_than_its_share() {
    let mut batcher = Batcher::new(20);
    let (large, stream) = (FairShare::new(0, BULK), FairShare::new(0, BULK));
    (0..400).for_each(|name| push(&mut batcher, &large, name, 10));
    let mut from_stream = 0;
    for _ in 0..100 {
        push(&mut batcher, &stream, 9_999, 10);
        from_stream += names(fill(&mut batcher)).iter().filter(|name| **name == 9_999).count();
    }
    assert!((95..=105).contains(&from_stream), "{from_stream}");
}

#[test]
fn bulk_gets_a_ninth_next_to_interactive_work() {
    let mut batcher = Batcher::new(64);
    let (bulk, urgent) = (FairShare::new(0, BULK), FairShare::new(0, Priority::Interactive));
    for name in 0..2_000 {
        push(&mut batcher, &bulk, 1, 1 + name % 7);
        push(&mut batcher, &urgent, 0, 1 + name % 5);
    }
    let mut tokens = [0, 0];
    for _ in 0..60 {
        for (name, length) in fill(&mut batcher).into_rows() {
            tokens[name as usize] += length;
        }
    }
    assert!((tokens[0] / tokens[1]) == 7 || (tokens[0] / tokens[1]) == 8, "{tokens:?}");
}

#[test]
fn idle_time_earns_no_credit() {
    let mut batcher = Batcher::new(10);
    let (bulk, urgent) = (FairShare::new(0, BULK), FairShare::new(0, Priority::Interactive));
    for name in 0..100 {
        push(&mut batcher, &urgent, name, 10);
    }
    drain(&mut batcher);
    push(&mut batcher, &bulk, 1_000, 10);
    push(&mut batcher, &bulk, 1_001, 10);
    push(&mut batcher, &urgent, 0, 10);
    let order: Vec<u32> = drain(&mut batcher).concat();
    assert_eq!(order, [1_000, 0, 1_001]);
}

#[test]
fn a_batch_can_be_put_back() {
    let mut batcher = Batcher::new(30);
    let shares = [FairShare::new(0, BULK), FairShare::new(0, BULK)];
    (0..20).for_each(|name| push(&mut batcher, &shares[name as usize % 2], name, 1 + name as usize % 9));
    let waiting = batcher.tokens();
    let batch = fill(&mut batcher);
    assert!(batch.has_bulk() && batcher.tokens() < waiting);
    batcher.put_back(batch);
    assert_eq!(batcher.tokens(), waiting);
    let again = names(fill(&mut batcher));
    let mut fresh = Batcher::new(30);
    let shares = [FairShare::new(0, BULK), FairShare::new(0, BULK)];
    (0..20).for_each(|name| push(&mut fresh, &shares[name as usize % 2], name, 1 + name as usize % 9));
    assert_eq!(again, names(fill(&mut fresh)));
}

#[derive(Debug, Clone)]
enum Step {
    Push { share: usize, length: usize },
    Fill,
    PutBack,
    Drop(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..6, 1_usize..600).prop_map(|(share, length)| Step::Push { share, length }),
        2 => Just(Step::Fill),
        1 => Just(Step::PutBack),
        1 => (2_u32..9).prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn every_row_once_within_the_budget_and_with_its_group(steps in steps(), budget in 1_usize..2_000) {
        let shares: Vec<Arc<FairShare>> = (0..6)
            .map(|index| FairShare::new(index % 2, if index < 3 { BULK } else { Priority::Interactive }))
            .collect();
        let mut batcher = Batcher::new(budget);
        let (mut pushed, mut seen) = (Vec::new(), Vec::new());
        let take = |batch: Batch<(usize, usize, usize)>, seen: &mut Vec<usize>| {
            let tokens = batch.tokens();
            let rows = batch.into_rows();
            prop_assert!(rows.len() <= 1 || tokens <= budget);
            prop_assert_eq!(rows.iter().map(|row| row.2).sum::<usize>(), tokens);
            prop_assert!(rows.windows(2).all(|pair| pair[0].2 <= pair[1].2 && pair[0].1 == pair[1].1));
            seen.extend(rows.iter().map(|row| row.0));
            Ok(())
        };
        for step in steps {
            match step {
                Step::Push { share, length } => {
                    batcher.push(&shares[share], [(length, (pushed.len(), share % 2, length))]);
                    pushed.push(true);
                }
                Step::Fill | Step::PutBack => {
                    let mut batch = Batch::default();
                    batcher.fill(&mut batch);
                    prop_assert_eq!(batch.is_empty(), batcher.is_empty() && batch.tokens() == 0);
                    if matches!(step, Step::Fill) { take(batch, &mut seen)? } else { batcher.put_back(batch) }
                }
                Step::Drop(every) => {
                    let dropped = |name: usize| (name as u32).is_multiple_of(every);
                    batcher.retain(|row| !dropped(row.0));
                    let waiting = |name: &usize| !seen.contains(name);
                    let gone = (0..pushed.len()).filter(|name| dropped(*name)).filter(waiting);
                    gone.for_each(|name| pushed[name] = false);
                }
            }
        }
        while !batcher.is_empty() {
            let mut batch = Batch::default();
            batcher.fill(&mut batch);
            prop_assert!(!batch.is_empty());
            take(batch, &mut seen)?;
        }
        seen.sort_unstable();
        let expected: Vec<usize> = (0..pushed.len()).filter(|name| pushed[*name]).collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!((batcher.tokens(), batcher.active), (0, [0, 0]));
    }

    #[test]
    fn no_row_waits_for_ever(odd in 1_usize..500, others in prop::collection::vec(1_usize..60, 1..40)) {
        let mut batcher = Batcher::new(500);
        let shares = [FairShare::new(0, BULK), FairShare::new(0, BULK)];
        let mut supply = others.iter().cycle();
        let mut more = |batcher: &mut Batcher<(u32, usize)>, tokens: usize| {
            for share in &shares {
                let mut left = tokens;
                while left > 0 {
                    let length = *supply.next().unwrap();
                    push(batcher, share, 1, length);
                    left = left.saturating_sub(length);
                }
            }
        };
        more(&mut batcher, 1_000);
        push(&mut batcher, &shares[0], 7, odd);
        // New rows keep coming faster than they are computed; those before the odd one are two
        // batches each.
        let served = (0..MAX_PASSED_BATCHES + 12).any(|_| {
            more(&mut batcher, 500);
            names(fill(&mut batcher)).contains(&7)
        });
        prop_assert!(served);
    }
}
