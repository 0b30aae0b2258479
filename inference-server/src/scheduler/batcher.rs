//! Chooses which rows share a forward pass: fair queueing over requests, packing by length.
//!
//! The unit is the row: rows of different requests for one model are packed into batches of at
//! most `budget` tokens. Models pack rows instead of padding them, so the cost of a batch is the
//! sum of its lengths.
//!
//! Whose row goes next is decided by fair queueing, counted in tokens. Between the two priority
//! classes it is start-time fair queueing (Goyal, Vin and Cheng, 1996). Between the [`FairShare`]s
//! of a class it is weighted fair queueing (Demers, Keshav and Shenker, 1989) in quanta of at most
//! one batch: the quantum goes first that would finish first if all shares were served at once. So
//! a large request does not delay a small one, and small ones finish one after the other; round
//! robin by rows would, under overload, start all of them and finish none. Which row of a share
//! goes next is decided by length, so that rows of equal length end up side by side, and by age.
//!
//! Invariants between calls:
//! - `shares` holds exactly the shares that have waiting rows; an empty one is removed at once.
//! - `ready[c]` holds the [`ShareRows::order_key`] of exactly the shares of class `c` in `shares`.
//!   Within [`Batcher::fill`] the shares that do not fit into the batch are set aside.
//! - `active[c]` is the number of shares of class `c` in `shares`, also within `fill`: the virtual
//!   clock must not run faster because a share was set aside.
//! - `tokens` is the sum of the lengths of all waiting rows; within a share, `by_age` and
//!   `by_length` hold the same rows.
//! - A share's [`FairShare::finish`] never moves back, except in [`Batcher::put_back`], which
//!   restores the clocks of the batch as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Speed of a class's virtual clock per token served, interactive and bulk: with work in both, bulk
/// gets one token in nine. A choice of policy, not a measurement: enough that bulk work always
/// moves, little enough that a person does not notice it.
const CLASS_PACE: [u64; 2] = [1, 8];
/// Units of virtual time in a token. Fixed point, so that one token divided among up to 65,536
/// shares still moves the clock.
const UNITS_PER_TOKEN: u64 = 1 << 16;
/// Number of batches that may pass over a row before it is the next one of its share, whatever its
/// length. A choice: rows of a length that fits badly wait at most this long, and packing by length
/// still has 16 batches to choose from.
const MAX_PASSED_BATCHES: u64 = 16;

/// Urgency of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A person is waiting.
    Interactive,
    /// Throughput matters.
    Bulk,
}

/// The lane of one request or one stream in fair queueing: all its rows together get one share of
/// their class.
#[derive(Debug)]
pub(crate) struct FairShare {
    id: u64,
    group: usize,
    priority: Priority,
    /// Virtual finish time: the time on the class's clock at which the rows served so far would
    /// have finished, had all shares been served at once.
    finish: AtomicU64,
}

impl FairShare {
    /// Creates a share. Its rows are batched with those of other shares of the same `group` only.
    pub(crate) fn new(group: usize, priority: Priority) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            group,
            priority,
            finish: AtomicU64::new(0),
        })
    }

    /// Priority of its rows.
    pub(crate) fn priority(&self) -> Priority {
        self.priority
    }

    fn class(&self) -> usize {
        self.priority as usize
    }

    // Relaxed: only the queue changes it, under its lock; it is atomic to be reached through an
    // `Arc`.
    fn finish(&self) -> u64 {
        self.finish.load(Ordering::Relaxed)
    }

    fn set_finish(&self, finish: u64) {
        self.finish.store(finish, Ordering::Relaxed);
    }
}

/// A row taken into a batch, with all that is needed to put it back.
#[derive(Debug)]
struct Selected<T> {
    share: Arc<FairShare>,
    /// Virtual time of the share before the row was taken.
    before: VirtualTime,
    arrival: u64,
    /// [`Batcher::batches`] when the row arrived.
    since: u64,
    length: usize,
    item: T,
}

/// Rows that go through the model together.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    rows: Vec<Selected<T>>,
    tokens: usize,
    /// Clocks before the first row was taken, for [`Batcher::put_back`].
    before: Option<Clocks>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), tokens: 0, before: None }
    }
}

impl<T> Batch<T> {
    /// Sum of the lengths, in tokens.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns true if it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns true if it holds a bulk row.
    pub(crate) fn has_bulk(&self) -> bool {
        self.rows.iter().any(|row| row.share.priority == Priority::Bulk)
    }

    /// Drops the rows for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.rows.retain(|row| keep(&row.item));
        self.tokens = self.rows.iter().map(|row| row.length).sum();
    }

    /// Returns the rows, shortest first, so that the model finds equal lengths side by side.
    pub(crate) fn into_rows(mut self) -> Vec<T> {
        self.rows.sort_by_key(|row| row.length);
        self.rows.into_iter().map(|row| row.item).collect()
    }
}

/// State of fair queueing, apart from the virtual time of each share.
#[derive(Debug, Clone, Copy, Default)]
struct Clocks {
    /// Per class, tokens served times its pace.
    finish: [u64; 2],
    /// Start tag of the row served last (Goyal's v(t)): a class that was idle starts here.
    floor: u64,
    /// Per class, the virtual clock of its shares: it advances by one token for each token that
    /// every active share was served.
    time: [u64; 2],
    /// Per class, the largest virtual finish time of a share.
    latest_finish: [u64; 2],
}

/// Position of a share with waiting rows on the virtual clock of its class.
#[derive(Debug, Clone, Copy, Default)]
struct VirtualTime {
    /// When the rows served so far would have finished.
    finish: u64,
    /// When the current quantum would finish.
    quantum_finish: u64,
    /// Tokens of the current quantum not served yet.
    quantum_left: usize,
}

impl VirtualTime {
    fn new(finish: u64, quantum: usize) -> Self {
        Self { finish, quantum_finish: finish + quantum as u64 * UNITS_PER_TOKEN, quantum_left: quantum }
    }

    /// After a row of `length` tokens that moved the share to `finish`; a finished quantum is
    /// followed by one of `next` tokens.
    fn after(self, length: usize, finish: u64, next: usize) -> Self {
        match self.quantum_left.saturating_sub(length) {
            0 => Self::new(finish, next),
            quantum_left => Self { finish, quantum_left, ..self },
        }
    }
}

struct WaitingRow<T> {
    length: usize,
    since: u64,
    item: T,
}

/// Waiting rows of one share.
struct ShareRows<T> {
    share: Arc<FairShare>,
    time: VirtualTime,
    tokens: usize,
    /// By arrival number.
    by_age: BTreeMap<u64, WaitingRow<T>>,
    /// Length and arrival number.
    by_length: BTreeSet<(usize, u64)>,
}

impl<T> ShareRows<T> {
    fn new(share: Arc<FairShare>) -> Self {
        let time = VirtualTime::default();
        Self { share, time, tokens: 0, by_age: BTreeMap::new(), by_length: BTreeSet::new() }
    }

    /// Sort key among the shares of a class; of equals the older share goes first.
    fn order_key(&self) -> (u64, u64) {
        (self.time.quantum_finish, self.share.id)
    }

    fn insert(&mut self, arrival: u64, row: WaitingRow<T>) {
        self.tokens += row.length;
        self.by_length.insert((row.length, arrival));
        self.by_age.insert(arrival, row);
    }

    fn remove(&mut self, arrival: u64) -> Option<WaitingRow<T>> {
        let row = self.by_age.remove(&arrival)?;
        self.by_length.remove(&(row.length, arrival));
        self.tokens -= row.length;
        Some(row)
    }

    /// Selects the oldest row if it was passed over too often, else the row nearest to `anchor` in
    /// length that fits into `room` tokens. Returns its arrival number.
    fn select(&self, room: usize, anchor: usize, batches: u64) -> Option<u64> {
        let (arrival, oldest) = self.by_age.first_key_value()?;
        if batches - oldest.since >= MAX_PASSED_BATCHES {
            // If it does not fit, the share sits this batch out: the row opens one of the next.
            return (oldest.length <= room).then_some(*arrival);
        }
        // Two look-ups in a tree instead of a scan: a bulk request has thousands of rows.
        let below = self.by_length.range(..=(anchor.min(room), u64::MAX)).next_back().map(|row| row.0);
        let above =
            self.by_length.range((anchor, 0)..).next().map(|row| row.0).filter(|length| *length <= room);
        let length = match (below, above) {
            (Some(below), Some(above)) if anchor - below <= above - anchor => below,
            (below, above) => above.or(below)?,
        };
        // Of equal lengths the oldest.
        self.by_length.range((length, 0)..).next().map(|row| row.1)
    }
}

/// All waiting rows, in the order of fair queueing.
pub(crate) struct Batcher<T> {
    budget: usize,
    /// By [`FairShare::id`].
    shares: HashMap<u64, ShareRows<T>>,
    /// Per class, the shares that may be served, by the end of their quanta.
    ready: [BTreeSet<(u64, u64)>; 2],
    /// Per class, the number of shares with waiting rows.
    active: [u64; 2],
    clocks: Clocks,
    /// Rows pushed so far: the arrival number of the newest.
    arrivals: u64,
    /// Batches started so far.
    batches: u64,
    tokens: usize,
}

impl<T> Batcher<T> {
    /// Creates an empty batcher whose batches hold at most `budget` tokens, or one row.
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            shares: HashMap::new(),
            ready: Default::default(),
            active: [0; 2],
            clocks: Clocks::default(),
            arrivals: 0,
            batches: 0,
            tokens: 0,
        }
    }

    /// Maximum number of tokens of a batch.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// Number of waiting tokens.
    #[cfg(test)]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns true if no row is waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Appends rows, each with its length in tokens, to their share.
    pub(crate) fn push(&mut self, share: &Arc<FairShare>, rows: impl IntoIterator<Item = (usize, T)>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        let class = share.class();
        if self.ready[class].is_empty() {
            // Idle time earns no credit, and leaves no debt.
            self.clocks.finish[class] = self.clocks.finish[class].max(self.clocks.floor);
            self.clocks.time[class] = self.clocks.time[class].max(self.clocks.latest_finish[class]);
        }
        let was_idle = !self.shares.contains_key(&share.id);
        let waiting = self.shares.entry(share.id).or_insert_with(|| ShareRows::new(Arc::clone(share)));
        for (length, item) in rows {
            self.arrivals += 1;
            self.tokens += length;
            waiting.insert(self.arrivals, WaitingRow { length, since: self.batches, item });
        }
        if was_idle {
            self.active[class] += 1;
            // A share that was idle starts at the clock, one that is ahead of it stays there: a
            // stream that hands in row by row gets no more than its share.
            let finish = share.finish().max(self.clocks.time[class]);
            waiting.time = VirtualTime::new(finish, waiting.tokens.min(self.budget));
            self.ready[class].insert(waiting.order_key());
        }
    }

    /// Adds rows to the batch until it is full or nothing fits. All rows of a batch are of one
    /// group.
    pub(crate) fn fill(&mut self, batch: &mut Batch<T>) {
        if self.is_empty() {
            return;
        }
        if batch.before.is_none() {
            batch.before = Some(self.clocks);
            self.batches += 1;
        }
        // Not put back at once: they would be popped again for ever.
        let mut set_aside = Vec::new();
        while (batch.is_empty() || batch.tokens < self.budget)
            && let Some((class, share)) = self.pop_next_share()
        {
            if let Some(arrival) = self.select_row(share, batch) {
                self.serve(share, arrival, batch);
            } else {
                set_aside.push((class, share));
            }
        }
        for (class, share) in set_aside {
            self.ready[class].extend(self.shares.get(&share).map(ShareRows::order_key));
        }
    }

    /// Takes the share that is served next off `ready`; returns its class and id.
    fn pop_next_share(&mut self) -> Option<(usize, u64)> {
        let with_rows = (0..2).filter(|class| !self.ready[*class].is_empty());
        // Of equal tags the first class, which is interactive.
        let class = with_rows.min_by_key(|class| self.clocks.finish[*class])?;
        let (_, share) = self.ready[class].pop_first()?;
        Some((class, share))
    }

    fn select_row(&self, share: u64, batch: &Batch<T>) -> Option<u64> {
        let rows = self.shares.get(&share)?;
        match batch.rows.first() {
            // The first row is the oldest and goes in whatever its length; it sets group and
            // anchor.
            None => rows.by_age.keys().next().copied(),
            Some(first) if first.share.group != rows.share.group => None,
            Some(first) => rows.select(self.budget - batch.tokens, first.length, self.batches),
        }
    }

    /// Moves a row into the batch and the clocks forward.
    fn serve(&mut self, share: u64, arrival: u64, batch: &mut Batch<T>) {
        let Some(rows) = self.shares.get_mut(&share) else { return };
        let Some(WaitingRow { length, since, item }) = rows.remove(arrival) else { return };
        let (owner, before) = (Arc::clone(&rows.share), rows.time);
        let class = owner.class();
        let finish = before.finish + length as u64 * UNITS_PER_TOKEN;
        owner.set_finish(finish);
        rows.time = before.after(length, finish, rows.tokens.min(self.budget));
        self.advance(class, length, finish);
        if let Some(rows) = self.shares.get(&share).filter(|rows| !rows.by_age.is_empty()) {
            self.ready[class].insert(rows.order_key());
        } else {
            self.shares.remove(&share);
            self.active[class] -= 1;
        }
        self.tokens -= length;
        batch.tokens += length;
        batch.rows.push(Selected { share: owner, before, arrival, since, length, item });
    }

    /// Moves the clocks forward by a row that brought its share to `finish`.
    fn advance(&mut self, class: usize, length: usize, finish: u64) {
        let clocks = &mut self.clocks;
        // The clock of weighted fair queueing: it advances by one token once each active share was
        // served one.
        clocks.time[class] += length as u64 * UNITS_PER_TOKEN / self.active[class].max(1);
        clocks.latest_finish[class] = clocks.latest_finish[class].max(finish);
        // Before the advance: Goyal's v(t) is the start tag of the row in service, not its end.
        clocks.floor = clocks.finish[class];
        clocks.finish[class] += length as u64 * CLASS_PACE[class];
    }

    /// Undoes the filling of a batch that was not computed, so that more urgent rows can go first.
    pub(crate) fn put_back(&mut self, batch: Batch<T>) {
        // Backwards, so that each share ends with the virtual time before its first row.
        for Selected { share, before, arrival, since, length, item } in batch.rows.into_iter().rev() {
            share.set_finish(before.finish);
            self.tokens += length;
            let rows = self.shares.entry(share.id).or_insert_with(|| ShareRows::new(Arc::clone(&share)));
            self.active[share.class()] += u64::from(rows.by_age.is_empty());
            self.ready[share.class()].remove(&rows.order_key());
            rows.insert(arrival, WaitingRow { length, since, item });
            rows.time = before;
            self.ready[share.class()].insert(rows.order_key());
        }
        self.clocks = batch.before.unwrap_or(self.clocks);
    }

    /// Drops the waiting rows for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for rows in self.shares.values_mut() {
            let dropped: Vec<u64> =
                rows.by_age.iter().filter(|(_, row)| !keep(&row.item)).map(|(arrival, _)| *arrival).collect();
            for arrival in dropped {
                self.tokens -= rows.remove(arrival).map_or(0, |row| row.length);
            }
        }
        let (ready, active) = (&mut self.ready, &mut self.active);
        self.shares.retain(|_, rows| {
            let keep = !rows.by_age.is_empty();
            if !keep {
                ready[rows.share.class()].remove(&rows.order_key());
                active[rows.share.class()] -= 1;
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests;
