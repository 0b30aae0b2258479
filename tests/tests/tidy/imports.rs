//! Which room of a crate may import which: the tables of ARCHITECTURE.md, held to by the imports.
//!
//! A room is a top-level module with everything below it. An import that the table does not allow
//! fails, and so does an entry that nothing uses any longer, so that the tables stay true.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::paths_named;
use crate::rust::word_places;

/// A crate whose rooms have an order.
pub(crate) struct Crate {
    /// Folder of its sources.
    pub(crate) sources: &'static str,
    /// Each room and the rooms it may import, from the doors to the ground.
    pub(crate) rooms: &'static [(&'static str, &'static str)],
}

/// Roots of programs and of libraries, what tests reach, and tests of a whole crate: they may name
/// everything.
const ROOTS: [&str; 4] = ["lib", "main", "testing", "growth"];

/// Our other crates: the plain types of the pipeline know none of them.
const OTHER_CRATES: [&str; 4] =
    ["observatory_proto", "observatory_clustering", "observatory_typeset", "observatory_client"];

/// The crates with tables, in the order of their rooms from the doors to the ground.
pub(crate) const CRATES: [Crate; 2] = [INFERENCE, PIPELINE];

const INFERENCE: Crate = Crate {
    sources: "inference-server/src/",
    rooms: &[
        ("server", "config device grpc health http metrics registry scheduler service text"),
        ("config", "device registry scheduler service"),
        ("grpc", "error generation health metrics models registry scheduler service text"),
        ("http", "error generation health models registry scheduler service text"),
        ("service", "error generation metrics models registry scheduler text"),
        ("health", "metrics models registry"),
        ("registry", "device error generation kernels models scheduler text"),
        ("generation", "device error kernels metrics models scheduler text"),
        ("scheduler", "device error metrics models"),
        ("models", "device kernels text"),
        ("device", "kernels"),
        ("text", "error"),
        ("metrics", ""),
        ("error", ""),
        ("kernels", ""),
    ],
};

const PIPELINE: Crate = Crate {
    sources: "pipeline-services/src/",
    rooms: &[
        (
            "service",
            "analyzer api cache config domain embedder enhancer extractor inference lexicon metrics \
             orchestrator reporter scraper stage store telemetry vocabulary worker",
        ),
        ("config", "api domain inference worker"),
        ("metrics", "api domain"),
        (
            "api",
            "cache domain enhancer export extractor inference intake lexicon orchestrator reading \
             reporter spreadsheet stage store taxonomy telemetry text worker",
        ),
        ("worker", "domain intake stage store telemetry"),
        ("orchestrator", "domain store telemetry"),
        ("export", "domain spreadsheet store text"),
        ("scraper", "domain intake privacy reading stage store"),
        ("reporter", "domain spreadsheet stage store text"),
        ("extractor", "domain inference lexicon privacy stage store taxonomy telemetry text vocabulary"),
        ("enhancer", "domain inference lexicon reading stage store taxonomy telemetry text vocabulary"),
        ("embedder", "cache domain inference stage store"),
        ("analyzer", "domain stage store"),
        ("cache", "inference"),
        ("inference", "stage telemetry"),
        ("stage", "domain intake store telemetry"),
        ("intake", "cleaning domain privacy reading store telemetry text"),
        ("vocabulary", "lexicon store taxonomy"),
        ("store", "domain"),
        ("taxonomy", "domain lexicon text"),
        ("lexicon", "domain text"),
        ("cleaning", "privacy text"),
        ("reading", ""),
        ("spreadsheet", ""),
        ("privacy", "text"),
        ("telemetry", ""),
        ("text", "domain"),
        ("domain", ""),
    ],
};

impl Crate {
    /// The room that a file belongs to; `None` for roots and for files of other crates.
    fn room<'p>(&self, path: &'p str) -> Option<&'p str> {
        let inside = path.strip_prefix(self.sources)?;
        let room = inside.trim_end_matches(".rs").split('/').next()?;
        (path.ends_with(".rs") && !ROOTS.contains(&room)).then_some(room)
    }

    /// Rooms that a file imports; `code` holds no comments, strings or tests.
    fn imports(&self, path: &str, code: &str) -> BTreeSet<String> {
        let inside = path.strip_prefix(self.sources).unwrap_or_default();
        let named = paths_named(inside, code).into_iter().filter_map(|named| named.into_iter().next());
        named.filter(|room| self.rooms.iter().any(|(known, _)| known == room)).collect()
    }

    /// Complaints about the imports of these files.
    pub(crate) fn complaints<'f>(&self, files: impl Iterator<Item = (&'f str, &'f str)>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (path, code) in files {
            let Some(room) = self.room(path) else { continue };
            let Some((room, allowed)) = self.rooms.iter().find(|(known, _)| *known == room) else {
                wrong.push(format!("{path}: the room {room} is not in the table of imports.rs"));
                continue;
            };
            for import in self.imports(path, code) {
                if import != *room && !allowed.split_whitespace().any(|known| known == import) {
                    wrong.push(format!("{path}: {room} must not import {import}"));
                }
                used.entry(room).or_default().insert(import);
            }
        }
        for (room, allowed) in self.rooms {
            let unused = allowed
                .split_whitespace()
                .filter(|import| !used.get(room).is_some_and(|used| used.contains(*import)));
            wrong.extend(
                unused.map(|import| format!("{room} no longer imports {import}: take it out of the table")),
            );
        }
        wrong
    }

    /// A room that can reach itself, if there is one: the table must not allow circles.
    pub(crate) fn circle(&self) -> Option<&'static str> {
        self.rooms.iter().map(|(room, _)| *room).find(|room| self.reaches(room, room))
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(room) = open.pop() {
            let next = self.rooms.iter().find(|(known, _)| *known == room).map_or("", |(_, next)| *next);
            open.extend(next.split_whitespace().filter(|next| seen.insert(*next)));
        }
        seen.contains(to)
    }
}

/// Uses of our other crates by the plain types of the pipeline.
pub(crate) fn foreign_to_domain(path: &str, code: &str) -> Vec<String> {
    let is_domain = path.strip_prefix(PIPELINE.sources).is_some_and(|inside| inside.starts_with("domain"));
    let named = OTHER_CRATES.iter().filter(|name| is_domain && word_places(code, name).next().is_some());
    named.map(|name| format!("domain must not import {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Crate =
        Crate { sources: "a/src/", rooms: &[("top", "middle ground"), ("middle", "ground"), ("ground", "")] };

    /// Complaints about imports of `SMALL`, next to files that use every allowed edge.
    #[track_caller]
    fn check(path: &str, code: &str, expected: &[&str]) {
        let uses_all = [
            ("a/src/top.rs", "use crate::middle::M; use crate::ground::G;"),
            ("a/src/middle.rs", "use crate::ground::G;"),
        ];
        let files = uses_all.into_iter().chain([(path, code)]);
        assert_eq!(SMALL.complaints(files), expected, "{path}: {code}");
    }

    #[test]
    fn imports_against_the_table_are_noticed() {
        check("a/src/top/part.rs", "use crate::{ground::G, middle::M};", &[]);
        check("a/src/middle/part.rs", "use super::super::ground::G;", &[]);
        check("a/src/middle/part.rs", "use super::part::P;", &[]);
        check(
            "a/src/ground.rs",
            "use crate::middle::M;",
            &["a/src/ground.rs: ground must not import middle"],
        );
        check(
            "a/src/ground/part.rs",
            "fn f() { crate::top::run() }",
            &["a/src/ground/part.rs: ground must not import top"],
        );
        check("a/src/lib.rs", "pub use crate::top::Top;", &[]);
        check("b/src/ground.rs", "use crate::top::Top;", &[]);
        check("a/src/attic.rs", "", &["a/src/attic.rs: the room attic is not in the table of imports.rs"]);
    }

    #[test]
    fn an_edge_that_nothing_uses_is_noticed() {
        let files =
            [("a/src/top.rs", "use crate::middle::M; use crate::ground::G;"), ("a/src/middle.rs", "")];
        assert_eq!(
            SMALL.complaints(files.into_iter()),
            ["middle no longer imports ground: take it out of the table"]
        );
    }

    #[test]
    fn a_circle_in_a_table_is_noticed() {
        assert_eq!(SMALL.circle(), None);
        let round = Crate { sources: "a/src/", rooms: &[("a", "b"), ("b", "c"), ("c", "a")] };
        assert_eq!(round.circle(), Some("a"));
    }

    #[test]
    fn a_crate_named_by_plain_types_is_noticed() {
        let check = |path: &str, expected: usize| {
            assert_eq!(foreign_to_domain(path, "use observatory_proto::pipeline;").len(), expected, "{path}");
        };
        check("pipeline-services/src/domain/posting.rs", 1);
        check("pipeline-services/src/domain.rs", 1);
        check("pipeline-services/src/api.rs", 0);
    }
}
