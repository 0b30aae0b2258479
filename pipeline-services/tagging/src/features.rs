//! What the model sees of a word: the word and its neighbours, their parts, shapes and clusters,
//! and where in the text they stand.
//!
//! A feature is a hash of its template and values. Four hundred thousand known ones among 2^32
//! values take a strange one for theirs once in ten thousand times, which the weights bear.

use crate::{
    clusters::Clusters,
    context::{Context, contexts},
    gazetteer::Gazetteer,
    words::{Gap, Words},
};

/// A hash that is built up: FNV-1a over bytes, rotate and multiply over values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Hash(u64);

impl Hash {
    /// Offset basis and prime of 64-bit FNV.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;

    /// The hash of a number, itself.
    pub(crate) const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The hash of a text.
    pub(crate) fn of(text: &str) -> Self {
        text.bytes().fold(Self(Self::BASIS), Self::with_byte)
    }

    const fn with_byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(Self::PRIME))
    }

    /// This hash and another value in order.
    pub(crate) const fn with(self, next: Self) -> Self {
        // The multiplier of MurmurHash3's finaliser.
        Self((self.0.rotate_left(23) ^ next.0).wrapping_mul(0xff51_afd7_ed55_8ccd))
    }

    /// All of its bits.
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    /// Both halves folded into one.
    pub(crate) const fn short(self) -> u32 {
        (self.0 ^ (self.0 >> 32)) as u32
    }
}

/// Features of a text, word by word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Features {
    hashes: Vec<u32>,
    ends: Vec<usize>,
}

impl Features {
    /// Number of words.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Features of word `index`.
    pub(crate) fn of(&self, index: usize) -> &[u32] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.hashes[start..self.ends[index]]
    }

    /// Reads a text.
    pub(crate) fn new(words: &Words<'_>, names: &Gazetteer, clusters: &Clusters) -> Self {
        let view = View::new(words, names, clusters);
        // About as many as a word has.
        let mut out =
            Self { hashes: Vec::with_capacity(words.len() * 70), ends: Vec::with_capacity(words.len()) };
        for index in 0..words.len() {
            let mut word = Word { view: &view, index, out: &mut out.hashes };
            word.itself_and_neighbours();
            word.parts();
            word.shapes();
            word.place();
            word.clusters();
            word.names();
            out.ends.push(out.hashes.len());
        }
        out
    }
}

/// What was read of a text once for all of its words.
struct View<'a> {
    words: &'a Words<'a>,
    contexts: Vec<Context>,
    /// Kind of the name that a word is part of, and the part.
    names: Vec<Hash>,
    /// Coarse, middle and fine cluster of a word.
    clusters: Vec<[Hash; 3]>,
}

impl<'a> View<'a> {
    fn new(words: &'a Words<'a>, names: &Gazetteer, clusters: &Clusters) -> Self {
        let mut parts = vec![Hash::default(); words.len()];
        for name in names.find(words) {
            for (index, part) in parts.iter_mut().enumerate().take(name.end).skip(name.first) {
                let place = u64::from(index == name.first) + 2 * u64::from(index + 1 == name.end);
                *part = Hash::new(1 + name.kind as u64 * 4 + place);
            }
        }
        let clusters = (0..words.len())
            .map(|index| clusters.of(words.hash(index)).map(|cluster| Hash::new(cluster.into())))
            .collect();
        Self { words, contexts: contexts(words), names: parts, clusters }
    }
}

/// Value of a neighbour that is not there.
const NOBODY: Hash = Hash::new(1);

/// The features of one word. Templates are numbered by tens, neighbours within them.
struct Word<'a> {
    view: &'a View<'a>,
    index: usize,
    out: &'a mut Vec<u32>,
}

impl Word<'_> {
    fn add<const N: usize>(&mut self, template: u64, values: [Hash; N]) {
        let mut hash = Hash::new(template);
        for value in values {
            hash = hash.with(value);
        }
        self.out.push(hash.short());
    }

    /// A property of the word at a distance.
    fn at(&self, distance: isize, of: impl Fn(usize) -> Hash) -> Hash {
        let index = self.index.checked_add_signed(distance);
        index.filter(|index| *index < self.view.words.len()).map_or(NOBODY, of)
    }

    fn word(&self, distance: isize) -> Hash {
        self.at(distance, |index| self.view.words.hash(index))
    }

    fn stem(&self, distance: isize) -> Hash {
        self.at(distance, |index| self.view.words.stem_hash(index))
    }

    fn cluster(&self, grain: usize, distance: isize) -> Hash {
        self.at(distance, |index| self.view.clusters[index][grain])
    }

    fn name(&self, distance: isize) -> Hash {
        self.at(distance, |index| self.view.names[index])
    }

    fn shape(&self, distance: isize) -> Hash {
        self.at(distance, |index| {
            let item = &self.view.words.items()[index];
            Hash::new(2 + item.shape as u64 * 3 + item.gap as u64)
        })
    }

    fn context(&self) -> &Context {
        &self.view.contexts[self.index]
    }

    /// Words since the beginning of the sentence, six for more.
    fn depth(&self) -> Hash {
        Hash::new((self.index - self.context().sentence).min(6) as u64)
    }

    fn itself_and_neighbours(&mut self) {
        self.add(1, []);
        for (template, distance) in (10..).zip(-2..=2) {
            self.add(template, [self.word(distance)]);
        }
        for (template, distance) in (20..).zip(-1..=1) {
            self.add(template, [self.stem(distance)]);
        }
        for (template, (left, right)) in (30..).zip([(-1, 0), (0, 1), (-2, -1), (1, 2), (-1, 1)]) {
            self.add(template, [self.stem(left), self.stem(right)]);
        }
    }

    /// Beginnings and endings of two to five letters.
    fn parts(&mut self) {
        let words = self.view.words;
        let text = words.folded(self.index);
        let mut hash = Hash::new(0);
        for (letters, letter) in text.chars().enumerate().take(6) {
            if (2..=5).contains(&letters) {
                self.add(40 + letters as u64, [hash]);
            }
            hash = hash.with(Hash::new(letter.into()));
        }
        let mut hash = Hash::new(0);
        for (letters, letter) in text.chars().rev().enumerate().take(6) {
            if (2..=5).contains(&letters) {
                self.add(50 + letters as u64, [hash]);
            }
            hash = hash.with(Hash::new(letter.into()));
        }
    }

    fn shapes(&mut self) {
        for (template, distance) in (70..).zip(-2..=2) {
            self.add(template, [self.shape(distance)]);
        }
        self.add(75, [self.shape(-1), self.shape(0), self.shape(1)]);
    }

    fn place(&mut self) {
        let (context, words) = (*self.context(), self.view.words);
        let depth = self.depth();
        let opening = words.stem_hash(context.sentence);
        self.add(80, [depth]);
        self.add(82, [context.heading]);
        self.add(83, [context.heading, depth]);
        self.add(84, [context.heading, self.word(0)]);
        self.add(85, [opening]);
        self.add(86, [opening, depth]);
        // The infinitive at the beginning of a duty.
        self.add(87, [depth, ending(words.folded(self.index), 2)]);
        self.add(89, [opening, context.heading]);
    }

    fn clusters(&mut self) {
        const COARSE: usize = 0;
        const MIDDLE: usize = 1;
        const FINE: usize = 2;
        let (context, depth) = (*self.context(), self.depth());
        for (template, distance) in (90..).zip(-1..=1) {
            self.add(template, [self.cluster(MIDDLE, distance)]);
        }
        let own = self.cluster(MIDDLE, 0);
        self.add(93, [self.cluster(COARSE, 0)]);
        self.add(94, [self.cluster(FINE, 0)]);
        self.add(95, [self.view.clusters[context.sentence][MIDDLE], depth]);
        self.add(96, [own, context.heading]);
        self.add(97, [own, Hash::new(depth.value().min(2))]);
    }

    fn names(&mut self) {
        let own = self.name(0);
        for (template, distance) in (100..).zip(-1..=1) {
            self.add(template, [self.name(distance)]);
        }
        self.add(105, [own, self.name(1)]);
        self.add(106, [own, Hash::new(self.depth().value().min(2))]);
        self.add(107, [own, self.context().heading]);
    }
}

/// Hash of the last letters of a word.
fn ending(word: &str, letters: usize) -> Hash {
    let start = word.char_indices().rev().nth(letters - 1).map_or(0, |(start, _)| start);
    Hash::of(&word[start..])
}

/// Returns whether nothing stands between a word and the one before it.
pub(crate) fn is_glued(words: &Words<'_>, index: usize) -> bool {
    words.items().get(index).is_some_and(|word| word.gap == Gap::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Features {
        Features::new(&Words::new(text), &Gazetteer::default(), &Clusters::default())
    }

    #[test]
    fn a_word_is_seen_alike_in_like_surroundings() {
        let (left, right) = (read("manejo de Excel y SAP"), read("MANEJO DE EXCEL Y SAP"));
        assert_eq!((left.len(), right.len()), (5, 5));
        let shared = left.of(2).iter().filter(|feature| right.of(2).contains(feature)).count();
        // Only the shapes differ.
        assert_eq!(left.of(2).len() - shared, 5);
        assert_eq!(read("").len(), 0);
    }
}
