//! Rendering the chart for many values by one call of helm, which takes longer to start and to read
//! the chart than to render it.
//!
//! The chart's own templates become named ones, and one template includes all of them for each
//! case. The schema of the values becomes that of each case.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::random::merge;
use crate::helm::{self, chart};

/// A copy of the chart that takes a list of values.
pub(super) struct Many {
    folder: tempfile::TempDir,
    defaults: Value,
}

/// Templates of a folder and those below: name and text.
fn templates(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder of templates") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(templates(&path));
        } else {
            let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            found.push((name, std::fs::read_to_string(&path).expect("a template")));
        }
    }
    found.sort();
    found
}

impl Many {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
            std::fs::write(path, text).expect("write a file");
        };
        for name in ["Chart.yaml", "values.yaml"] {
            write(name, &std::fs::read_to_string(chart().join(name)).expect(name));
        }
        for (name, text) in templates(&chart().join("dashboards")) {
            write(&format!("dashboards/{name}"), &text);
        }
        write("templates/values.yaml", "kind: Values\nvalues: {{ toJson .Values }}\n");
        let said = helm::helm(&["template", "rel", path(&folder)], &[]).expect("the defaults");
        let defaults = helm::parse(&said)[0]["values"].clone();

        let mut driver = String::from(CASE);
        for (name, text) in templates(&chart().join("templates")) {
            if name.ends_with(".tpl") {
                write(&format!("templates/{name}"), &text);
            } else if name.ends_with(".yaml") {
                let named = format!("{{{{- define \"many.{name}\" }}}}\n{text}\n{{{{- end }}}}\n");
                write(&format!("templates/_{name}.tpl"), &named);
                driver.push_str(&format!("---\n{{{{ include \"many.{name}\" $root }}}}\n"));
            }
        }
        write("templates/values.yaml", &format!("{driver}{{{{- end }}}}\n"));
        let text = std::fs::read_to_string(chart().join("values.schema.json")).expect("the schema");
        let mut case: Value = serde_json::from_str(&text).expect("JSON");
        let definitions = case["definitions"].take();
        case.as_object_mut().expect("an object").remove("definitions");
        let schema = json!({
            "$schema": case["$schema"].clone(),
            "definitions": definitions,
            "type": "object",
            "required": ["cases"],
            "properties": {"cases": {"type": "array", "items": case}},
        });
        write("values.schema.json", &schema.to_string());
        Self { folder, defaults }
    }

    /// The objects of each case, for a version of Kubernetes.
    pub(super) fn render(&self, cases: &[Value], version: &str) -> BTreeMap<usize, Vec<Value>> {
        let whole = |case: &Value| {
            let mut values = self.defaults.clone();
            merge(&mut values, case.clone());
            values
        };
        let values = json!({"cases": cases.iter().map(whole).collect::<Vec<_>>()});
        std::fs::write(self.folder.path().join("values.yaml"), values.to_string()).expect("write the values");
        let kube = format!("{version}.0");
        let text = helm::helm(&["template", "rel", path(&self.folder), "--kube-version", &kube], &[])
            .unwrap_or_else(|error| panic!("{error}\ncases: {}", json!(cases)));
        let mut objects: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        for object in helm::parse(&text) {
            // What people add themselves has no namespace, and nothing of the chart's in it.
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            if let Some(index) = namespace.strip_prefix("labor-") {
                objects.entry(index.parse().expect("a number")).or_default().push(object);
            }
        }
        objects
    }
}

/// The start of the template for each case: the release is another one by its namespace.
const CASE: &str = r#"{{- range $index, $values := .Values.cases }}
{{- $release := merge (dict "Namespace" (printf "labor-%d" $index)) $.Release }}
{{- $root := dict "Values" $values "Release" $release "Chart" $.Chart "Capabilities" $.Capabilities "Files" $.Files "Template" $.Template }}
"#;

fn path(folder: &tempfile::TempDir) -> &str {
    folder.path().to_str().expect("UTF-8 path")
}
