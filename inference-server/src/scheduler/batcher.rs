//! Which rows share a forward pass.
//!
//! The unit is the row: rows of different requests for one model are packed into batches of so many
//! tokens. The model packs rows instead of padding them, so the cost of a batch is the sum of its
//! lengths. Who comes next is decided by fair queueing counted in tokens. Between the two classes
//! it is start-time fair queueing (Goyal, Vin and Cheng, 1996). Between the lanes of a class it is
//! weighted fair queueing (Demers, Keshav and Shenker, 1989) in portions of a batch at most: the
//! portion goes first that would be done first if all lanes were served at once. So a large request
//! does not delay a small one, and small ones are finished one after the other: served in turns row
//! by row, under overload all of them would be begun and none done. Which row of a lane comes next
//! is decided by length, so that equal lengths stand side by side, and by age.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many times faster the clock of a class runs: with work in both, bulk gets a ninth of the
/// tokens.
const PACE: [u64; 2] = [1, 8];
/// Units of the lanes' clocks in a token, so that a share of one token of many lanes is not
/// nothing.
const TOKEN: u64 = 1 << 16;
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

/// Whose turn it is: the rows of one request or one stream, which together get one share of their
/// class.
#[derive(Debug)]
pub(crate) struct Lane {
    id: u64,
    group: usize,
    priority: Priority,
    /// Where the lane stands on the clock of its class: when what it was served would have been
    /// done, had all lanes been served at once.
    finish: AtomicU64,
}

impl Lane {
    /// A lane whose rows share batches with those of other lanes of the same `group`, and with no
    /// others.
    pub(crate) fn new(group: usize, priority: Priority) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            group,
            priority,
            finish: AtomicU64::new(0),
        })
    }

    /// How urgent its rows are.
    pub(crate) fn priority(&self) -> Priority {
        self.priority
    }

    fn class(&self) -> usize {
        self.priority as usize
    }

    fn finish(&self) -> u64 {
        self.finish.load(Ordering::Relaxed)
    }

    fn set_finish(&self, finish: u64) {
        self.finish.store(finish, Ordering::Relaxed);
    }
}

/// A row on its way: where it stood, so that it can be put back.
#[derive(Debug)]
struct Picked<T> {
    lane: Arc<Lane>,
    /// Where the lane stood before.
    stood: Standing,
    place: u64,
    since: u64,
    length: usize,
    item: T,
}

/// Rows that go through the model together.
#[derive(Debug)]
pub(crate) struct Batch<T> {
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
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether there is nothing to compute.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a bulk row is in it.
    pub(crate) fn has_bulk(&self) -> bool {
        self.rows.iter().any(|row| row.lane.priority == Priority::Bulk)
    }

    /// Drops the rows for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.rows.retain(|row| keep(&row.item));
        self.tokens = self.rows.iter().map(|row| row.length).sum();
    }

    /// The rows, shortest first, so that the model finds equal lengths side by side.
    pub(crate) fn into_rows(mut self) -> Vec<T> {
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
    /// Per class, the clock of its lanes: it advances by a token for each token that every lane
    /// with rows was served.
    time: [u64; 2],
    /// Per class, the farthest that a lane stood on that clock.
    farthest: [u64; 2],
}

/// Where a lane with rows stands on the clock of its class.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// When what it was served would have been done.
    finish: u64,
    /// When its portion would be done, and the tokens of it that wait.
    portion_ends: u64,
    portion: usize,
}

impl Standing {
    fn new(finish: u64, portion: usize) -> Self {
        Self { finish, portion_ends: finish + portion as u64 * TOKEN, portion }
    }
}

struct Waiting<T> {
    length: usize,
    since: u64,
    item: T,
}

/// The rows of one lane.
struct Rows<T> {
    lane: Arc<Lane>,
    standing: Standing,
    tokens: usize,
    by_age: BTreeMap<u64, Waiting<T>>,
    by_length: BTreeSet<(usize, u64)>,
}

impl<T> Rows<T> {
    fn new(lane: Arc<Lane>) -> Self {
        let standing = Standing::default();
        Self { lane, standing, tokens: 0, by_age: BTreeMap::new(), by_length: BTreeSet::new() }
    }

    /// What the lanes of a class are sorted by.
    fn tag(&self) -> (u64, u64) {
        (self.standing.portion_ends, self.lane.id)
    }

    fn insert(&mut self, place: u64, row: Waiting<T>) {
        self.tokens += row.length;
        self.by_length.insert((row.length, place));
        self.by_age.insert(place, row);
    }

    fn remove(&mut self, place: u64) -> Option<Waiting<T>> {
        let row = self.by_age.remove(&place)?;
        self.by_length.remove(&(row.length, place));
        self.tokens -= row.length;
        Some(row)
    }

    /// The oldest row where it has waited too long; else the row nearest to `anchor` in length that
    /// fits into `room`.
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
pub(crate) struct Batcher<T> {
    budget: usize,
    lanes: HashMap<u64, Rows<T>>,
    /// Per class, the lanes that have rows, by the end of their portions.
    ready: [BTreeSet<(u64, u64)>; 2],
    /// Per class, how many lanes have rows.
    lanes_of: [u64; 2],
    clocks: Clocks,
    places: u64,
    batches: u64,
    tokens: usize,
}

impl<T> Batcher<T> {
    /// Batches hold at most `budget` tokens, or one row.
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            lanes: HashMap::new(),
            ready: Default::default(),
            lanes_of: [0; 2],
            clocks: Clocks::default(),
            places: 0,
            batches: 0,
            tokens: 0,
        }
    }

    /// Tokens of a batch at most.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// Tokens that wait.
    #[cfg(test)]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether no row waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Puts rows, each with its length, at the end of their lane.
    pub(crate) fn push(&mut self, lane: &Arc<Lane>, rows: impl IntoIterator<Item = (usize, T)>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        let class = lane.class();
        if self.ready[class].is_empty() {
            // Idle time earns no credit, and leaves no debt.
            self.clocks.finish[class] = self.clocks.finish[class].max(self.clocks.floor);
            self.clocks.time[class] = self.clocks.time[class].max(self.clocks.farthest[class]);
        }
        let idle = !self.lanes.contains_key(&lane.id);
        let waiting = self.lanes.entry(lane.id).or_insert_with(|| Rows::new(Arc::clone(lane)));
        for (length, item) in rows {
            self.places += 1;
            self.tokens += length;
            waiting.insert(self.places, Waiting { length, since: self.batches, item });
        }
        if idle {
            self.lanes_of[class] += 1;
            let finish = lane.finish().max(self.clocks.time[class]);
            waiting.standing = Standing::new(finish, waiting.tokens.min(self.budget));
            self.ready[class].insert(waiting.tag());
        }
    }

    /// Adds rows to the batch until it is full or nothing fits; all rows of a batch are of one
    /// group.
    pub(crate) fn fill(&mut self, batch: &mut Batch<T>) {
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
            self.ready[class].extend(self.lanes.get(&lane).map(Rows::tag));
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
        let (owner, stood) = (Arc::clone(&rows.lane), rows.standing);
        let class = owner.class();
        let finish = stood.finish + length as u64 * TOKEN;
        owner.set_finish(finish);
        rows.standing = match stood.portion.saturating_sub(length) {
            0 => Standing::new(finish, rows.tokens.min(self.budget)),
            portion => Standing { finish, portion, ..stood },
        };
        self.advance(class, length, finish);
        if let Some(rows) = self.lanes.get(&lane).filter(|rows| !rows.by_age.is_empty()) {
            self.ready[class].insert(rows.tag());
        } else {
            self.lanes.remove(&lane);
            self.lanes_of[class] -= 1;
        }
        self.tokens -= length;
        batch.tokens += length;
        batch.rows.push(Picked { lane: owner, stood, place, since, length, item });
    }

    /// Moves the clocks on by a row that brought its lane to `finish`.
    fn advance(&mut self, class: usize, length: usize, finish: u64) {
        let clocks = &mut self.clocks;
        clocks.time[class] += length as u64 * TOKEN / self.lanes_of[class].max(1);
        clocks.farthest[class] = clocks.farthest[class].max(finish);
        clocks.floor = clocks.finish[class];
        clocks.finish[class] += length as u64 * PACE[class];
    }

    /// Undoes the filling of a batch that was not computed, so that more urgent rows can go first.
    pub(crate) fn put_back(&mut self, batch: Batch<T>) {
        for Picked { lane, stood, place, since, length, item } in batch.rows.into_iter().rev() {
            lane.set_finish(stood.finish);
            self.tokens += length;
            let rows = self.lanes.entry(lane.id).or_insert_with(|| Rows::new(Arc::clone(&lane)));
            self.lanes_of[lane.class()] += u64::from(rows.by_age.is_empty());
            self.ready[lane.class()].remove(&rows.tag());
            rows.insert(place, Waiting { length, since, item });
            rows.standing = stood;
            self.ready[lane.class()].insert(rows.tag());
        }
        self.clocks = batch.before.unwrap_or(self.clocks);
    }

    /// Drops the rows for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for rows in self.lanes.values_mut() {
            let gone: Vec<u64> =
                rows.by_age.iter().filter(|(_, row)| !keep(&row.item)).map(|(place, _)| *place).collect();
            for place in gone {
                self.tokens -= rows.remove(place).map_or(0, |row| row.length);
            }
        }
        let (ready, lanes_of) = (&mut self.ready, &mut self.lanes_of);
        self.lanes.retain(|_, rows| {
            let keep = !rows.by_age.is_empty();
            if !keep {
                ready[rows.lane.class()].remove(&rows.tag());
                lanes_of[rows.lane.class()] -= 1;
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
        batcher.push(lane, [(length, (name, length))]);
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
        batcher.push(&large, (0..1_000).map(|name| (10, (name, 10))));
        assert_eq!(fill(&mut batcher).tokens(), 100);
        batcher.push(&small, (2_000..2_010).map(|name| (10, (name, 10))));
        let next: Vec<u32> = (0..2).flat_map(|_| names(fill(&mut batcher))).collect();
        assert_eq!(next.iter().filter(|name| **name >= 2_000).count(), 10, "{next:?}");
    }

    #[test]
    fn equal_requests_are_finished_one_after_the_other() {
        let mut batcher = Batcher::new(100);
        let lanes: Vec<Arc<Lane>> = (0..50).map(|_| Lane::new(0, BULK)).collect();
        let rows = |name: u32| (1..=6).map(move |length| (length, (name, length)));
        (0..30).for_each(|name| batcher.push(&lanes[name as usize], rows(name)));
        let mut finished = Vec::new();
        for name in 30.. {
            if let Some(lane) = lanes.get(name as usize) {
                batcher.push(lane, rows(name));
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
        let large = Lane::new(0, BULK);
        batcher.push(&large, (0..300).map(|_| (10, (1, 10))));
        (0..9).for_each(|_| push(&mut batcher, &Lane::new(0, BULK), 0, 100));
        let mut large_tokens = 0;
        for _ in 0..300 {
            // Always nine small ones beside it, each of another caller.
            let batch = fill(&mut batcher).into_rows();
            large_tokens += batch.iter().filter(|row| row.0 == 1).map(|row| row.1).sum::<usize>();
            for _ in batch.iter().filter(|row| row.0 == 0) {
                push(&mut batcher, &Lane::new(0, BULK), 0, 100);
            }
        }
        assert!((2_500..=3_000).contains(&large_tokens), "{large_tokens} of a tenth of 30,000");
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
                        batcher.push(&lanes[lane], [(length, (pushed.len(), lane % 2, length))]);
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
            prop_assert_eq!((batcher.tokens(), batcher.lanes_of), (0, [0, 0]));
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
            // New rows keep coming faster than they are computed; those before the odd one are two
            // batches each.
            let served = (0..PATIENCE + 12).any(|_| {
                more(&mut batcher, 500);
                names(fill(&mut batcher)).contains(&7)
            });
            prop_assert!(served);
        }
    }
}
