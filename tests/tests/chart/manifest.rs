//! Looking into rendered objects.

use serde_json::Value;

/// The text at a path, or an empty string.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items at a path, or none.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// "Kind/name" of an object, for messages.
pub(crate) fn id(object: &Value) -> String {
    format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// The objects of one kind.
pub(crate) fn kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| text(object, "/kind") == kind).collect()
}

/// The object with this kind and name.
pub(crate) fn named<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    let found = objects.iter().find(|object| id(object) == wanted);
    let known = || objects.iter().map(id).collect::<Vec<_>>().join(" ");
    found.unwrap_or_else(|| panic!("{wanted} is not rendered; there are {}", known()))
}

/// A pod that a rendered object makes: the object's id, the pod's metadata and its spec.
pub(crate) struct Pod<'a> {
    pub(crate) owner: String,
    pub(crate) metadata: &'a Value,
    pub(crate) spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// Init containers and containers.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        items(self.spec, "/initContainers").iter().chain(items(self.spec, "/containers"))
    }

    /// The value of the label "app.kubernetes.io/component".
    pub(crate) fn component(&self) -> &'a str {
        text(self.metadata, "/labels/app.kubernetes.io~1component")
    }
}

/// Every pod of a manifest: of Deployments, of Jobs and CronJobs, and plain ones.
pub(crate) fn pods(objects: &[Value]) -> Vec<Pod<'_>> {
    let pod = |object| {
        let (metadata, spec) = match text(object, "/kind") {
            "Deployment" | "Job" => ("/spec/template/metadata", "/spec/template/spec"),
            "CronJob" => ("/spec/jobTemplate/spec/template/metadata", "/spec/jobTemplate/spec/template/spec"),
            "Pod" => ("/metadata", "/spec"),
            _ => return None,
        };
        Some(Pod { owner: id(object), metadata: object.pointer(metadata)?, spec: object.pointer(spec)? })
    };
    objects.iter().filter_map(pod).collect()
}

/// The value of an environment variable given in plain text.
pub(crate) fn env<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let entry = items(container, "/env").iter().find(|entry| text(entry, "/name") == name)?;
    entry.get("value").and_then(Value::as_str)
}

/// Whether a label selector (matchLabels and matchExpressions with In) selects these labels.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let equal = wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)));
    let within =
        items(selector, "/matchExpressions").iter().all(|expression| match text(expression, "/operator") {
            "In" => {
                let label = labels.get(text(expression, "/key"));
                label.is_some_and(|label| items(expression, "/values").contains(label))
            }
            "DoesNotExist" => labels.get(text(expression, "/key")).is_none(),
            other => panic!("the selector operator {other} is not known here"),
        });
    equal && within
}
