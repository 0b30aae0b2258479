//! Random combinations of values: each passes the schema, renders, keeps every rule and fits the
//! schemas of Kubernetes.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use crate::helm::{self, KUBERNETES};
use crate::policy;

mod dice;
mod many;
mod random;

/// Combinations of one test, and of one call of helm.
const EACH: usize = 500;
const AT_ONCE: usize = 125;

/// What a schema looks at: which keys there are at each place, and of which type a value is.
struct Shapes(BTreeSet<u64>);

impl Shapes {
    /// Returns true if something of the document was not seen before.
    fn sees(&mut self, document: &Value) -> bool {
        let mut hasher = DefaultHasher::new();
        document["kind"].as_str().hash(&mut hasher);
        self.visit(document, hasher.finish())
    }

    fn visit(&mut self, value: &Value, place: u64) -> bool {
        let inside = |step: &str| {
            let mut hasher = DefaultHasher::new();
            (place, step).hash(&mut hasher);
            hasher.finish()
        };
        match value {
            Value::Object(map) => {
                // Keys that people choose say nothing about the form.
                let free = map.values().all(Value::is_string) && map.keys().any(|key| key.contains('.'));
                // Of few keys it matters which stand together: a volume has one source. Of the many
                // optional ones of a pod each is looked at by itself.
                let together = !free && map.len() <= 3;
                let keys: String = if together { map.keys().cloned().collect() } else { String::new() };
                let mut new = self.0.insert(inside(&keys));
                if !free {
                    for (key, item) in map {
                        new |= self.visit(item, inside(key));
                    }
                }
                new
            }
            Value::Array(items) => {
                let place = inside("[]");
                items.iter().fold(self.0.insert(place), |new, item| self.visit(item, place) | new)
            }
            Value::Null => self.0.insert(inside("null")),
            Value::Bool(_) => self.0.insert(inside("bool")),
            Value::Number(number) => self.0.insert(inside(if number.is_f64() { "float" } else { "int" })),
            Value::String(_) => self.0.insert(inside("string")),
        }
    }
}

fn renders_and_validates(seed: u64) {
    let mut dice = dice::Dice::new(seed);
    let many = many::Many::new();
    let mut shapes = Shapes(BTreeSet::new());
    let mut wrong = Vec::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let version = KUBERNETES[usize::try_from(seed).expect("a small seed") % KUBERNETES.len()];
    let mut telling: Vec<String> = Vec::new();
    let mut count = 0;
    for _ in 0..EACH / AT_ONCE {
        let cases: Vec<Value> = (0..AT_ONCE).map(|_| random::values(&mut dice)).collect();
        for (index, objects) in many.render(&cases, version) {
            count += 1;
            let case = &cases[index];
            let broken = policy::broken(&objects);
            if !broken.is_empty() {
                wrong.push(format!("{}\nvalues: {case}", broken.join("\n")));
            }
            // A document that shows nothing new to the schemas is not shown to them.
            telling.extend(
                objects.iter().filter(|object| shapes.sees(object)).map(std::string::ToString::to_string),
            );
        }
    }
    assert_eq!(count, EACH, "each combination renders something");
    assert!(wrong.is_empty(), "{} of {count} break a rule:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!((50..500).contains(&telling.len()), "{} documents differ in form", telling.len());
    let file = folder.path().join("documents.yaml");
    std::fs::write(&file, telling.join("\n---\n")).expect("write the documents");
    helm::validate(version, &[file]).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn five_hundred_random_combinations_render_and_validate() {
    renders_and_validates(1);
}

#[test]
fn five_hundred_others_render_and_validate() {
    renders_and_validates(2);
}

#[test]
fn a_third_five_hundred_render_and_validate() {
    renders_and_validates(3);
}

#[test]
fn a_fourth_five_hundred_render_and_validate() {
    renders_and_validates(4);
}
