//! Which rows share a forward pass.
//!
//! The unit is the row: rows of different requests for one model are packed into batches of so many tokens. The model
//! packs rows instead of padding them, so the cost of a batch is the sum of its lengths. Who comes next is decided by
//! start-time fair queueing (Goyal, Vin and Cheng, 1996) counted in tokens, between the two classes and between the
//! lanes of a class; which row of a lane comes next by length, so that equal lengths stand side by side, and by age.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many times faster the clock of a class runs: with work in both, bulk gets a ninth of the tokens.
const PACE: [u64; 2] = [1, 8];
/// A row that this many batches went past is the next one of its lane, whatever its length.
const PATIENCE: u64 = 16;

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A person is waiting.
    Interactive,
    /// Throughput matters.
    Bulk,
}

/// Whose turn it is: the rows of one request or one stream, which together get one share of their class.
#[derive(Debug)]
pub struct Lane {
    id: u64,
    group: usize,
    priority: Priority,
    /// Tokens served to the lane, on the clock of its class.
    finish: AtomicU64,
}

impl Lane {
    /// A lane whose rows share batches with those of other lanes of the same `group`, and with no others.
    pub fn new(group: usize, priority: Priority) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            group,
            priority,
            finish: AtomicU64::new(0),
        })
    }

    /// How urgent its rows are.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    fn class(&self) -> usize {
        self.priority as usize
    }

    fn tag(&self) -> (u64, u64) {
        (self.finish.load(Ordering::Relaxed), self.id)
    }

    fn set_finish(&self, finish: u64) {
        self.finish.store(finish, Ordering::Relaxed);
    }
}

/// A row on its way: where it stood, so that it can be put back.
#[derive(Debug)]
struct Picked<T> {
    lane: Arc<Lane>,
    place: u64,
    since: u64,
    length: usize,
    item: T,
}

/// Rows that go through the model together.
#[derive(Debug)]
pub struct Batch<T> {
    rows: Vec<Picked<T>>,
    tokens: usize,
    before: Option<Clocks>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), tokens: 0, before: None }
    }
}

impl<T> Batch<T> {
    /// Sum of the lengths.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a bulk row is in it.
    pub fn has_bulk(&self) -> bool {
        self.rows.iter().any(|row| row.lane.priority == Priority::Bulk)
    }

    /// Drops the rows for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.rows.retain(|row| keep(&row.item));
        self.tokens = self.rows.iter().map(|row| row.length).sum();
    }

    /// The rows, shortest first, so that the model finds equal lengths side by side.
    pub fn into_rows(mut self) -> Vec<T> {
        self.rows.sort_by_key(|row| row.length);
        self.rows.into_iter().map(|row| row.item).collect()
    }
}

/// Where fair queueing stands, apart from the lanes' own clocks.
#[derive(Debug, Clone, Copy, Default)]
struct Clocks {
    /// Per class, tokens served times its pace.
    finish: [u64; 2],
    /// Start tag of the row served last: where a class begins that had nothing to do.
    floor: u64,
    /// The same for the lanes of each class.
    floors: [u64; 2],
}

struct Waiting<T> {
    length: usize,
    since: u64,
    item: T,
}

/// The rows of one lane.
struct Rows<T> {
    lane: Arc<Lane>,
    by_age: BTreeMap<u64, Waiting<T>>,
    by_length: BTreeSet<(usize, u64)>,
}

impl<T> Rows<T> {
    fn new(lane: Arc<Lane>) -> Self {
        Self { lane, by_age: BTreeMap::new(), by_length: BTreeSet::new() }
    }

    fn insert(&mut self, place: u64, row: Waiting<T>) {
        self.by_length.insert((row.length, place));
        self.by_age.insert(place, row);
    }

    fn remove(&mut self, place: u64) -> Option<Waiting<T>> {
        let row = self.by_age.remove(&place)?;
        self.by_length.remove(&(row.length, place));
        Some(row)
    }

    /// The oldest row where it has waited too long; else the row nearest to `anchor` in length that fits into `room`.
    fn choose(&self, room: usize, anchor: usize, batches: u64) -> Option<u64> {
        let (place, oldest) = self.by_age.first_key_value()?;
        if batches - oldest.since >= PATIENCE {
            return (oldest.length <= room).then_some(*place);
        }
        let below = self.by_length.range(..=(anchor.min(room), u64::MAX)).next_back().map(|row| row.0);
        let above =
            self.by_length.range((anchor, 0)..).next().map(|row| row.0).filter(|length| *length <= room);
        let length = match (below, above) {
            (Some(below), Some(above)) if anchor - below <= above - anchor => below,
            (below, above) => above.or(below)?,
        };
        self.by_length.range((length, 0)..).next().map(|row| row.1)
    }
}

/// The rows that wait, and whose turn it is.
pub struct Batcher<T> {
    budget: usize,
    lanes: HashMap<u64, Rows<T>>,
    /// Per class, the lanes that have rows, the least served first.
    ready: [BTreeSet<(u64, u64)>; 2],
    clocks: Clocks,
    places: u64,
    batches: u64,
    tokens: usize,
}

impl<T> Batcher<T> {
    /// Batches hold at most `budget` tokens, or one row.
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            lanes: HashMap::new(),
            ready: Default::default(),
            clocks: Clocks::default(),
            places: 0,
            batches: 0,
            tokens: 0,
        }
    }

    /// Tokens of a batch at most.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Tokens that wait.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Puts a row at the end of its lane.
    pub fn push(&mut self, lane: &Arc<Lane>, length: usize, item: T) {
        let class = lane.class();
        if self.ready[class].is_empty() {
            // Idle time earns no credit.
            self.clocks.finish[class] = self.clocks.finish[class].max(self.clocks.floor);
        }
        if !self.lanes.contains_key(&lane.id) {
            lane.set_finish(lane.tag().0.max(self.clocks.floors[class]));
        }
        self.places += 1;
        self.insert(lane, self.places, Waiting { length, since: self.batches, item });
    }

    fn insert(&mut self, lane: &Arc<Lane>, place: u64, row: Waiting<T>) {
        self.tokens += row.length;
        self.lanes.entry(lane.id).or_insert_with(|| Rows::new(Arc::clone(lane))).insert(place, row);
        self.ready[lane.class()].insert(lane.tag());
    }

    /// Adds rows to the batch until it is full or nothing fits; all rows of a batch are of one group.
    pub fn fill(&mut self, batch: &mut Batch<T>) {
        if self.is_empty() {
            return;
        }
        if batch.before.is_none() {
            batch.before = Some(self.clocks);
            self.batches += 1;
        }
        let mut aside = Vec::new();
        while (batch.is_empty() || batch.tokens < self.budget)
            && let Some((class, lane)) = self.turn()
        {
            if let Some(place) = self.choose(lane, batch) {
                self.take(lane, place, batch);
            } else {
                aside.push((class, lane));
            }
        }
        for (class, lane) in aside {
            self.ready[class].extend(self.lanes.get(&lane).map(|rows| rows.lane.tag()));
        }
    }

    /// The lane whose turn it is, taken off the list.
    fn turn(&mut self) -> Option<(usize, u64)> {
        let with_rows = (0..2).filter(|class| !self.ready[*class].is_empty());
        let class = with_rows.min_by_key(|class| self.clocks.finish[*class])?;
        let (_, lane) = self.ready[class].pop_first()?;
        Some((class, lane))
    }

    fn choose(&self, lane: u64, batch: &Batch<T>) -> Option<u64> {
        let rows = self.lanes.get(&lane)?;
        match batch.rows.first() {
            None => rows.by_age.keys().next().copied(),
            Some(first) if first.lane.group != rows.lane.group => None,
            Some(first) => rows.choose(self.budget - batch.tokens, first.length, self.batches),
        }
    }

    fn take(&mut self, lane: u64, place: u64, batch: &mut Batch<T>) {
        let Some(rows) = self.lanes.get_mut(&lane) else { return };
        let Some(Waiting { length, since, item }) = rows.remove(place) else { return };
        let (owner, tokens) = (Arc::clone(&rows.lane), length as u64);
        let (start, class) = (owner.tag().0, owner.class());
        owner.set_finish(start + tokens);
        if rows.by_age.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.ready[class].insert(owner.tag());
        }
        self.clocks.floors[class] = start;
        self.clocks.floor = self.clocks.finish[class];
        self.clocks.finish[class] += tokens * PACE[class];
        self.tokens -= length;
        batch.tokens += length;
        batch.rows.push(Picked { lane: owner, place, since, length, item });
    }

    /// Undoes the filling of a batch that was not computed, so that more urgent rows can go first.
    pub fn put_back(&mut self, batch: Batch<T>) {
        for Picked { lane, place, since, length, item } in batch.rows {
            self.ready[lane.class()].remove(&lane.tag());
            lane.set_finish(lane.tag().0.saturating_sub(length as u64));
            self.insert(&lane, place, Waiting { length, since, item });
        }
        self.clocks = batch.before.unwrap_or(self.clocks);
    }

    /// Drops the rows for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for rows in self.lanes.values_mut() {
            let gone: Vec<u64> =
                rows.by_age.iter().filter(|(_, row)| !keep(&row.item)).map(|(place, _)| *place).collect();
            for place in gone {
                self.tokens -= rows.remove(place).map_or(0, |row| row.length);
            }
        }
        let ready = &mut self.ready;
        self.lanes.retain(|_, rows| {
            let keep = !rows.by_age.is_empty();
            if !keep {
                ready[rows.lane.class()].remove(&rows.lane.tag());
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BULK: Priority = Priority::Bulk;

    /// Rows are (name, length).
    fn fill(batcher: &mut Batcher<(u32, usize)>) -> Batch<(u32, usize)> {
        let mut batch = Batch::default();
        batcher.fill(&mut batch);
        batch
    }

    fn push(batcher: &mut Batcher<(u32, usize)>, lane: &Arc<Lane>, name: u32, length: usize) {
        batcher.push(lane, length, (name, length));
    }

    fn names(batch: Batch<(u32, usize)>) -> Vec<u32> {
        batch.into_rows().into_iter().map(|row| row.0).collect()
    }

    /// All batches, as names of rows.
    fn drain(batcher: &mut Batcher<(u32, usize)>) -> Vec<Vec<u32>> {
        std::iter::repeat_with(|| names(fill(batcher))).take_while(|batch| !batch.is_empty()).collect()
    }

    #[test]
    fn a_lane_is_packed_by_length() {
        fn check(lengths: &[usize], budget: usize, expected: &[&[u32]]) {
            let (mut batcher, lane) = (Batcher::new(budget), Lane::new(0, BULK));
            for (name, length) in lengths.iter().enumerate() {
                push(&mut batcher, &lane, name as u32, *length);
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
        let lanes = [Lane::new(1, BULK), Lane::new(2, BULK), Lane::new(1, BULK)];
        for (name, lane) in [(0, 0), (1, 1), (2, 2), (3, 1)] {
            push(&mut batcher, &lanes[lane], name, 2);
        }
        assert_eq!(drain(&mut batcher), [[0, 2], [1, 3]]);
    }

    #[test]
    fn a_large_request_does_not_delay_a_small_one() {
        let mut batcher = Batcher::new(100);
        let (large, small) = (Lane::new(0, BULK), Lane::new(0, BULK));
        (0..1_000).for_each(|name| push(&mut batcher, &large, name, 10));
        assert_eq!(fill(&mut batcher).tokens(), 100);
        (2_000..2_010).for_each(|name| push(&mut batcher, &small, name, 10));
        let next: Vec<u32> = (0..2).flat_map(|_| names(fill(&mut batcher))).collect();
        assert_eq!(next.iter().filter(|name| **name >= 2_000).count(), 10, "{next:?}");
    }

    #[test]
    fn a_stream_that_hands_in_one_by_one_gets_no_more_than_its_share() {
        let mut batcher = Batcher::new(20);
        let (large, stream) = (Lane::new(0, BULK), Lane::new(0, BULK));
        (0..400).for_each(|name| push(&mut batcher, &large, name, 10));
        let mut from_stream = 0;
        for _ in 0..100 {
            push(&mut batcher, &stream, 9_999, 10);
            from_stream += names(fill(&mut batcher)).iter().filter(|name| **name == 9_999).count();
        }
        assert!((95..=105).contains(&from_stream), "{from_stream}");
    }

    #[test]
    fn bulk_gets_a_ninth_beside_interactive_work() {
        let mut batcher = Batcher::new(64);
        let (bulk, urgent) = (Lane::new(0, BULK), Lane::new(0, Priority::Interactive));
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
        let (bulk, urgent) = (Lane::new(0, BULK), Lane::new(0, Priority::Interactive));
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
        let lanes = [Lane::new(0, BULK), Lane::new(0, BULK)];
        (0..20).for_each(|name| push(&mut batcher, &lanes[name as usize % 2], name, 1 + name as usize % 9));
        let waiting = batcher.tokens();
        let batch = fill(&mut batcher);
        assert!(batch.has_bulk() && batcher.tokens() < waiting);
        batcher.put_back(batch);
        assert_eq!(batcher.tokens(), waiting);
        let again = names(fill(&mut batcher));
        let mut fresh = Batcher::new(30);
        let lanes = [Lane::new(0, BULK), Lane::new(0, BULK)];
        (0..20).for_each(|name| push(&mut fresh, &lanes[name as usize % 2], name, 1 + name as usize % 9));
        assert_eq!(again, names(fill(&mut fresh)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { lane: usize, length: usize },
        Fill,
        PutBack,
        Drop(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0_usize..6, 1_usize..600).prop_map(|(lane, length)| Step::Push { lane, length }),
            2 => Just(Step::Fill),
            1 => Just(Step::PutBack),
            1 => (2_u32..9).prop_map(Step::Drop),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn every_row_once_within_the_budget_and_with_its_group(steps in steps(), budget in 1_usize..2_000) {
            let lanes: Vec<Arc<Lane>> = (0..6)
                .map(|index| Lane::new(index % 2, if index < 3 { BULK } else { Priority::Interactive }))
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
                    Step::Push { lane, length } => {
                        batcher.push(&lanes[lane], length, (pushed.len(), lane % 2, length));
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
            prop_assert_eq!(batcher.tokens(), 0);
        }

        #[test]
        fn no_row_waits_for_ever(odd in 1_usize..500, others in prop::collection::vec(1_usize..60, 1..40)) {
            let mut batcher = Batcher::new(500);
            let lanes = [Lane::new(0, BULK), Lane::new(0, BULK)];
            let mut supply = others.iter().cycle();
            let mut more = |batcher: &mut Batcher<(u32, usize)>, tokens: usize| {
                for lane in &lanes {
                    let mut left = tokens;
                    while left > 0 {
                        let length = *supply.next().unwrap();
                        push(batcher, lane, 1, length);
                        left = left.saturating_sub(length);
                    }
                }
            };
            more(&mut batcher, 1_000);
            push(&mut batcher, &lanes[0], 7, odd);
            // New rows keep coming faster than they are computed; those before the odd one are two batches each.
            let served = (0..PATIENCE + 12).any(|_| {
                more(&mut batcher, 500);
                names(fill(&mut batcher)).contains(&7)
            });
            prop_assert!(served);
        }
    }
}
