use proptest::prelude::*;

use super::*;

/// A concept from `URI KIND CLASS|language:label|…`, where `*` marks preferred labels.
fn concept(text: &str) -> Concept {
    let mut parts = text.split('|');
    let head: Vec<&str> = parts.next().unwrap().split(' ').collect();
    let labels = parts.map(|part| {
        let (language, text) = part.split_once(':').unwrap();
        let bare = text.trim_start_matches('*');
        Label { language: language.to_owned(), text: bare.to_owned(), preferred: bare != text }
    });
    Concept {
        uri: head[0].to_owned(),
        kind: ConceptKind::of(head[1]).unwrap(),
        class: head[2].to_owned(),
        labels: labels.collect(),
    }
}

fn contents(concepts: &[&str], broader: &[(&str, &str)]) -> Contents {
    Contents {
        concepts: concepts.iter().map(|text| concept(text)).collect(),
        broader: broader.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
    }
}

fn shown(difference: &Difference) -> String {
    let Difference { change, uri, language, before, after, .. } = difference;
    format!("{} {uri} {language} {} -> {}", change.name(), before.join("+"), after.join("+"))
}

fn check(old: &Contents, new: &Contents, expected: &[&str]) {
    let found: Vec<String> = differences(old, new).iter().map(shown).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_difference_is_listed_once() {
    let old = contents(
        &[
            "u:1 skill A|es:*queso|es:quesos|en:*cheese",
            "u:2 skill A|es:*pan",
            "u:3 skill A|es:*vino",
            "g:1 group |es:*x",
        ],
        &[("u:1", "g:1"), ("u:2", "g:1"), ("u:3", "g:1")],
    );
    let new = contents(
        &[
            "u:1 skill B|es:*quesería|es:lácteos|en:*cheese",
            "u:2 occupation A|es:*pan|pt:*pão",
            "u:4 skill A|es:*sidra",
            "g:1 group |es:*x",
        ],
        &[("u:1", "g:1"), ("u:1", "g:2"), ("u:2", "g:1"), ("u:4", "g:1")],
    );
    check(
        &old,
        &new,
        &[
            "added u:4   -> ",
            "removed u:3   -> ",
            "renamed u:1 es queso -> quesería",
            "label_added u:1 es  -> lácteos",
            "label_added u:2 pt  -> pão",
            "label_removed u:1 es quesos -> ",
            "kind_changed u:2  skill -> occupation",
            "class_changed u:1  A -> B",
            "moved u:1  g:1 -> g:1+g:2",
        ],
    );
}

#[test]
fn a_label_that_only_becomes_the_name_is_a_new_name() {
    let named = |text: &str| contents(&[text], &[]);
    let check = |old: &str, new: &str, expected: &[&str]| check(&named(old), &named(new), expected);
    check("u:1 skill A|es:*a|es:b", "u:1 skill A|es:a|es:*b", &["renamed u:1 es a -> b"]);
    check("u:1 skill A|es:*a", "u:1 skill A|es:a", &["renamed u:1 es a -> "]);
    check("u:1 skill A|es:a", "u:1 skill A|es:*a", &["renamed u:1 es  -> a"]);
    check(
        "u:1 skill A|es:*a",
        "u:1 skill A|en:*a",
        &["label_added u:1 en  -> a", "label_removed u:1 es a -> "],
    );
}

/// The same difference seen from the other side.
fn mirrored(difference: &Difference) -> String {
    let change = match difference.change {
        Change::Added => Change::Removed,
        Change::Removed => Change::Added,
        Change::LabelAdded => Change::LabelRemoved,
        Change::LabelRemoved => Change::LabelAdded,
        same => same,
    };
    let (before, after) = (difference.after.clone(), difference.before.clone());
    shown(&Difference { change, before, after, ..difference.clone() })
}

prop_compose! {
    fn any_contents()(
        concepts in prop::collection::btree_map("[a-d]", ("skill|group", "[AB]", prop::collection::vec("(es|en):[*]?[xyz]", 0..5)), 0..4),
        broader in prop::collection::vec(("[a-d]", "[a-d]"), 0..5),
    ) -> Contents {
        let concepts = concepts.iter().map(|(uri, (kind, class, labels))| {
            let labels: String = labels.iter().map(|label| format!("|{label}")).collect();
            concept(&format!("{uri} {kind} {class}{labels}"))
        });
        Contents { concepts: concepts.collect(), broader }
    }
}

proptest! {
    #[test]
    fn a_taxonomy_has_no_difference_from_itself(one in any_contents()) {
        prop_assert_eq!(differences(&one, &one.clone()), []);
    }

    #[test]
    fn the_other_order_is_the_mirror_image(old in any_contents(), new in any_contents()) {
        let mut there: Vec<String> = differences(&old, &new).iter().map(shown).collect();
        let mut back: Vec<String> = differences(&new, &old).iter().map(mirrored).collect();
        there.sort_unstable();
        back.sort_unstable();
        prop_assert_eq!(there, back);
    }
}
