//! Compiles a normalizer's map to the format of SentencePiece, which `tokenizer.json` embeds.
//!
//! Four bytes of length, a double array over the UTF-8 bytes of the keys (units as in darts-clone),
//! then the replacements, each terminated by a zero byte. The reader is `spm_precompiled` of the
//! `tokenizers` library.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Marks a unit with a value (darts-clone, layout of a unit).
const VALUE: u32 = 1 << 31;
/// Marks a unit whose node has a value (darts-clone, layout of a unit).
const HAS_VALUE: u32 = 1 << 8;
/// Positions reachable from a unit: one per byte value.
const REACH: usize = 256;

/// Compiles the map.
pub(super) fn compile(map: &BTreeMap<String, String>) -> Vec<u8> {
    let mut replacements = Vec::new();
    let mut trie = Trie::default();
    for (from, to) in map {
        trie.insert(from.as_bytes(), u32::try_from(replacements.len()).unwrap_or(VALUE - 1));
        replacements.extend_from_slice(to.as_bytes());
        replacements.push(0);
    }
    let units = DoubleArray::of(&trie);
    let length = u32::try_from(4 * units.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend(replacements);
    bytes
}

/// Nodes by number, the root first.
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    value: Option<u32>,
    children: BTreeMap<u8, usize>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Trie {
    fn insert(&mut self, key: &[u8], value: u32) {
        let mut at = 0;
        for byte in key {
            let next = self.nodes.len();
            at = *self.nodes[at].children.entry(*byte).or_insert(next);
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        self.nodes[at].value = Some(value);
    }
}

/// The array under construction. A node at position `p` with offset `o` has its child for byte `b`
/// at `p ^ o ^ b` and its value at `p ^ o`.
struct DoubleArray {
    units: Vec<u32>,
    free: BTreeSet<usize>,
    /// Positions that children are counted from. No two nodes share one, so that the byte of a unit
    /// identifies its parent.
    bases: HashSet<usize>,
}

impl DoubleArray {
    fn of(trie: &Trie) -> Vec<u32> {
        let mut array = Self { units: Vec::new(), free: BTreeSet::new(), bases: HashSet::new() };
        array.grow();
        // The root is at position 0, which no child may take.
        array.free.remove(&0);
        let mut waiting = vec![(0, 0)];
        while let Some((node, place)) = waiting.pop() {
            let node = &trie.nodes[node];
            let base = array.base(node);
            array.bases.insert(base);
            // Offsets below 2^21 are stored directly, shifted by ten bits; these maps stay far
            // below.
            array.units[place] |= u32::try_from((place ^ base) << 10).unwrap_or(0);
            if let Some(value) = node.value {
                array.units[place] |= HAS_VALUE;
                array.units[base] = VALUE | value;
                array.free.remove(&base);
            }
            for (byte, child) in &node.children {
                let at = base ^ usize::from(*byte);
                array.units[at] = u32::from(*byte);
                array.free.remove(&at);
                waiting.push((*child, at));
            }
        }
        array.units
    }

    fn grow(&mut self) {
        let from = self.units.len();
        self.units.resize(from + REACH, 0);
        self.free.extend(from..from + REACH);
    }

    /// True if a base position is unused and the positions of all children from it are free.
    fn fits(&self, base: usize, children: &[u8]) -> bool {
        !self.bases.contains(&base)
            && children.iter().all(|byte| self.free.contains(&(base ^ usize::from(*byte))))
    }

    /// Finds a base position for which the positions of all children are free.
    fn base(&mut self, node: &Node) -> usize {
        // A value is stored like a child for byte 0, which occurs in no key.
        let value = node.value.map(|_| 0_u8);
        let bytes: Vec<u8> = value.into_iter().chain(node.children.keys().copied()).collect();
        let Some(first) = bytes.first() else { return 0 };
        loop {
            // First fit: slower than keeping a list of candidates, but the map is compiled only
            // once.
            let found = self
                .free
                .iter()
                .map(|place| place ^ usize::from(*first))
                .find(|base| self.fits(*base, &bytes));
            if let Some(base) = found {
                return base;
            }
            self.grow();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reader's walk: the value of the whole key.
    fn find<'a>(bytes: &'a [u8], key: &str) -> Option<&'a str> {
        let (length, rest) = bytes.split_at(4);
        let length = u32::from_le_bytes(length.try_into().unwrap());
        let (units, replacements) = rest.split_at(usize::try_from(length).unwrap());
        let unit = |at: usize| u32::from_le_bytes(units[4 * at..4 * at + 4].try_into().unwrap());
        let offset = |unit: u32| usize::try_from(unit >> 10).unwrap();
        let mut at = offset(unit(0));
        let mut has_value = false;
        for byte in key.bytes() {
            at ^= usize::from(byte);
            let found = unit(at);
            if found & (VALUE | 0xFF) != u32::from(byte) {
                return None;
            }
            at ^= offset(found);
            has_value = found & HAS_VALUE != 0;
        }
        let start = has_value.then(|| usize::try_from(unit(at) & !VALUE).unwrap())?;
        let text = &replacements[start..];
        let end = text.iter().position(|byte| *byte == 0).unwrap();
        Some(std::str::from_utf8(&text[..end]).unwrap())
    }

    #[test]
    fn every_key_is_found_and_no_other() {
        let keys = (0x80..0x3000_u32).filter_map(char::from_u32).filter(|c| u32::from(*c).is_multiple_of(3));
        let mut map: BTreeMap<String, String> = keys.map(|c| (c.to_string(), format!("<{c}>"))).collect();
        map.insert("e\u{301}".to_owned(), "é".to_owned());
        map.insert("\u{1}".to_owned(), String::new());
        map.insert("e\u{301}\u{302}".to_owned(), "both".to_owned());
        let bytes = compile(&map);
        for (from, to) in &map {
            assert_eq!(find(&bytes, from), Some(to.as_str()), "{from:?}");
        }
        for absent in ["e", "\u{302}", "a", "\u{82}", "é", "e\u{302}"] {
            let expected = map.get(absent).map(String::as_str);
            assert_eq!(find(&bytes, absent), expected, "{absent:?}");
        }
    }
}
