//! Rules about names inside of a release and inside of a pod.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::manifest::{Pod, id, items, pods, text};

/// Kinds of volumes that the restricted Pod Security Standard admits.
const KINDS: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What is there twice.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// The texts at a path of each item.
fn texts<'a>(items: &'a [Value], pointer: &'a str) -> impl Iterator<Item = &'a str> {
    items.iter().map(move |item| text(item, pointer))
}

/// Of everything that a name stands for there is one.
pub(super) fn unique_names(objects: &[Value]) -> Vec<String> {
    let ids: Vec<String> =
        objects.iter().map(|object| format!("{} {}", text(object, "/apiVersion"), id(object))).collect();
    let mut wrong: Vec<String> =
        repeated(ids.iter().map(String::as_str)).iter().map(|id| format!("{id} is there twice")).collect();
    for pod in pods(objects) {
        let containers: Vec<&Value> = pod.containers().collect();
        let mut twice = repeated(containers.iter().map(|container| text(container, "/name")));
        twice.extend(repeated(texts(items(pod.spec, "/volumes"), "/name")));
        for container in containers {
            twice.extend(repeated(texts(items(container, "/env"), "/name")));
            twice.extend(repeated(texts(items(container, "/ports"), "/name")));
            twice.extend(repeated(texts(items(container, "/volumeMounts"), "/mountPath")));
        }
        wrong.extend(twice.iter().map(|name| format!("{}: {name} is there twice", pod.owner)));
    }
    wrong
}

/// Each mount has a volume, each volume is mounted, and none reaches the node.
pub(super) fn volumes(objects: &[Value]) -> Vec<String> {
    pods(objects).iter().flat_map(of_pod).collect()
}

fn of_pod(pod: &Pod) -> Vec<String> {
    let volumes = items(pod.spec, "/volumes");
    let mounted: BTreeSet<&str> =
        pod.containers().flat_map(|container| texts(items(container, "/volumeMounts"), "/name")).collect();
    let made: BTreeSet<&str> = texts(volumes, "/name").collect();
    let differ = made.symmetric_difference(&mounted);
    let mut wrong: Vec<String> =
        differ.map(|name| format!("{}: {name} is a volume or a mount, but not both", pod.owner)).collect();
    for volume in volumes {
        let kinds = volume.as_object().into_iter().flat_map(|volume| volume.keys());
        let other = kinds.filter(|kind| *kind != "name" && !KINDS.contains(&kind.as_str()));
        wrong.extend(other.map(|kind| format!("{}: a volume of the kind {kind}", pod.owner)));
    }
    wrong
}
