//! The hierarchy of a taxonomy: which concept is above which.
//!
//! A concept may have several above it; a hierarchy in which one is above itself is refused by the
//! importers, since nobody could walk up to its top.

use std::collections::{BTreeMap, HashSet};

/// URIs of a cycle, from a concept up to itself, if there is one. Edges lead from a concept to the
/// one above it.
pub(super) fn cycle<'uri>(edges: impl IntoIterator<Item = (&'uri str, &'uri str)>) -> Option<Vec<&'uri str>> {
    // Ordered, so that the same files name the same cycle.
    let mut above: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    edges.into_iter().for_each(|(from, to)| above.entry(from).or_default().push(to));
    let mut done = HashSet::new();
    for start in above.keys() {
        // The chain from the start, each with how many of those above it were followed. Not by
        // recursion: a file may hold a chain that is longer than the stack.
        let mut chain: Vec<(&str, usize)> = vec![(start, 0)];
        let mut within = HashSet::from([*start]);
        while let Some((uri, followed)) = chain.last_mut() {
            let next = above.get(uri).and_then(|all| all.get(*followed)).copied();
            *followed += 1;
            match next {
                Some(next) if within.contains(next) => {
                    let turn = chain.iter().skip_while(|(uri, _)| *uri != next).map(|(uri, _)| *uri);
                    return Some(turn.chain([next]).collect());
                }
                Some(next) if done.contains(next) => {}
                Some(next) => {
                    within.insert(next);
                    chain.push((next, 0));
                }
                None => {
                    let uri = *uri;
                    within.remove(uri);
                    done.insert(uri);
                    chain.pop();
                }
            }
        }
    }
    None
}

/// A cycle as messages write it.
pub(super) fn shown(cycle: &[&str]) -> String {
    cycle.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_and_named() {
        let check = |edges: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(
                cycle(edges.iter().copied()).map(|uris| shown(&uris)).as_deref(),
                expected,
                "{edges:?}"
            );
        };
        check(&[], None);
        check(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")], None);
        check(&[("a", "a")], Some("a -> a"));
        check(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")], Some("b -> c -> d -> b"));
        check(&[("z", "y"), ("y", "z"), ("a", "b")], Some("y -> z -> y"));
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let uris: Vec<String> = (0..200_000).map(|number| format!("u:{number}")).collect();
        let edges = || uris.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
        assert_eq!(cycle(edges()), None);
        let closed = edges().chain([(uris[199_999].as_str(), "u:0")]);
        assert_eq!(cycle(closed).map(|uris| uris.len()), Some(200_001));
    }
}
