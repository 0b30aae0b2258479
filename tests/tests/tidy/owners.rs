//! Every library has one owner: the files that may name it.

use crate::rust::{line_of, word_places};

/// A library (its names in code) and the beginnings of the paths that may use it.
struct Owned {
    names: &'static [&'static str],
    files: &'static [&'static str],
}

/// Tests, benches and examples may use what they need.
const EVERYWHERE: [&str; 4] = ["tests/", "/tests/", "benches/", "/examples/"];

const OWNED: [Owned; 4] = [
    Owned { names: &["sqlx", "pgvector"], files: &["pipeline-services/src/store"] },
    Owned {
        names: &["reqwest"],
        files: &[
            "client-cli/src/models",
            "pipeline-services/src/enhancer/endpoint",
            "pipeline-services/src/scraper/fetch",
        ],
    },
    Owned {
        names: &["candle_core", "candle_nn", "candle_transformers", "cudarc"],
        files: &[
            "inference-server/src/device",
            "inference-server/src/kernels",
            "inference-server/src/models",
        ],
    },
    Owned { names: &["typst", "typst_pdf", "typst_library"], files: &["pipeline-services/typeset/"] },
];

/// tonic is for files and folders of these names, in every crate.
const TONIC_NAMES: [&str; 5] = ["grpc", "inference", "api", "client", "health"];

/// The files that read pages of portals.
const PAGES: [&str; 1] = ["pipeline-services/src/scraper/"];

/// Uses of a library outside of its owner's files; `code` holds no comments and no text of strings.
pub(crate) fn trespasses(path: &str, code: &str) -> Vec<String> {
    if EVERYWHERE
        .iter()
        .any(|place| path.starts_with(place) || (place.starts_with('/') && path.contains(place)))
    {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let mut complain = |name: &str, at: usize| {
        wrong.push(format!("line {}: {name} is not for this file", line_of(code, at)))
    };
    for owned in OWNED.iter().filter(|owned| !owned.files.iter().any(|file| path.starts_with(file))) {
        for name in owned.names {
            uses(code, name).for_each(|at| complain(name, at));
        }
    }
    if !may_use_tonic(path) {
        ["tonic", "tonic_health", "tonic_reflection", "tonic_types"]
            .iter()
            .for_each(|name| uses(code, name).for_each(|at| complain(name, at)));
    }
    // The crate roots declare our own module of the same name.
    let declares_scraper = path == "pipeline-services/src/lib.rs" || path == "pipeline-services/src/main.rs";
    if !declares_scraper && !PAGES.iter().any(|place| path.starts_with(place)) {
        uses(code, "scraper").for_each(|at| complain("scraper", at));
    }
    wrong
}

fn may_use_tonic(path: &str) -> bool {
    let folders_and_stem = path.trim_end_matches(".rs").split('/').skip_while(|part| *part != "src").skip(1);
    path.starts_with("proto/") || folders_and_stem.into_iter().any(|part| TONIC_NAMES.contains(&part))
}

/// Places at which a path begins with this crate: the word, then "::", and nothing of ours before
/// it; or `use name;`.
fn uses<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    word_places(code, name).filter(move |at| {
        let before = code[..*at].trim_end();
        let after = code[at + name.len()..].trim_start();
        let inside = before.ends_with("::")
            && !before.trim_end_matches("::").trim_end().ends_with(['=', '(', '{', ';', ' ', ',']);
        let root = before.ends_with("::") && before.trim_end_matches("::").is_empty();
        (after.starts_with("::") && (!inside || root))
            || (before.ends_with("use") && after.starts_with([';', ' ']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_a_library_outside_its_files() {
        let check = |path: &str, code: &str, count: usize| {
            assert_eq!(trespasses(path, code).len(), count, "{path}: {code}");
        };
        check("pipeline-services/src/store/postings.rs", "use sqlx::PgConnection;", 0);
        check("pipeline-services/src/store.rs", "sqlx::query!()", 0);
        check("pipeline-services/src/extractor.rs", "fn f(c: &mut sqlx::PgConnection) {}", 1);
        check("pipeline-services/src/extractor.rs", "use pgvector::Vector;\nuse sqlx::Row;", 2);
        check("pipeline-services/tests/store.rs", "use sqlx::Row;", 0);
        check("pipeline-services/examples/load.rs", "use sqlx::Row;", 0);
        check("tests/src/database.rs", "use sqlx::Row;", 0);
        check("inference-server/src/models/weights.rs", "use candle_core::Tensor;", 0);
        check("inference-server/src/scheduler/batcher.rs", "use candle_core::Tensor;", 1);
        check("inference-server/src/scheduler/batcher.rs", "let candle_core = 1;", 0);
        check("pipeline-services/src/scraper/fetcher.rs", "use reqwest::Client;", 0);
        check("pipeline-services/src/scraper/page.rs", "use reqwest::Client;", 1);
        check("pipeline-services/src/reporter.rs", "use typst::World;", 1);
    }

    #[test]
    fn notices_tonic_outside_of_the_api() {
        let check = |path: &str, count: usize| {
            assert_eq!(trespasses(path, "use tonic::Status;").len(), count, "{path}");
        };
        check("inference-server/src/grpc.rs", 0);
        check("inference-server/src/grpc/embed.rs", 0);
        check("pipeline-services/src/inference.rs", 0);
        check("pipeline-services/src/orchestrator/api.rs", 0);
        check("client-cli/src/client.rs", 0);
        check("proto/src/lib.rs", 0);
        check("inference-server/src/scheduler/batcher.rs", 1);
        check("pipeline-services/src/extractor.rs", 1);
    }

    #[test]
    fn tells_the_scraper_crate_from_our_own_module() {
        let check = |path: &str, code: &str, count: usize| {
            assert_eq!(trespasses(path, code).len(), count, "{path}: {code}");
        };
        check("pipeline-services/src/scraper/page.rs", "use scraper::Html;", 0);
        check("pipeline-services/src/extractor/html.rs", "use scraper::Html;", 1);
        check("pipeline-services/src/worker.rs", "use crate::scraper::Scraper;", 0);
        check("pipeline-services/src/worker.rs", "use crate::{scraper, extractor};", 0);
        check("pipeline-services/src/lib.rs", "pub mod scraper;", 0);
        check("pipeline-services/src/worker.rs", "let scraper = 1; scraper.run()", 0);
    }
}
