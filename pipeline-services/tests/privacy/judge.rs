//! What the pipeline's own scrubber makes of the set.

use observatory_pipeline::testing::privacy::{scrub, scrub_url};

use crate::{
    case::Kind,
    score::{Scores, faults, table},
    set, stay,
};

/// What the project promises of every kind of personal data, and of the removals altogether.
const PROMISED: f64 = 0.98;

/// Prints the table by kind and country, and every fault with an example, before it judges.
#[test]
fn recall_and_precision() {
    let scores =
        Scores::of(
            &set::cases(),
            &stay::strings(),
            |text, is_url| {
                if is_url { scrub_url(text) } else { scrub(text).text }
            },
        );
    println!("{}\n{}", table(&scores), faults(&scores));
    let mut short: Vec<String> = Kind::ALL
        .into_iter()
        .filter(|kind| scores.recall(*kind) < PROMISED)
        .map(|kind| format!("recall of {} is {:.4}", kind.name(), scores.recall(kind)))
        .collect();
    if scores.precision() < PROMISED {
        short.push(format!("precision is {:.4}", scores.precision()));
    }
    assert!(short.is_empty(), "below {PROMISED}: {}", short.join(", "));
}
