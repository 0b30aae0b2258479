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
