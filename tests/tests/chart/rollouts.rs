//! Rules about how pods are replaced and how many there are.

use serde_json::{Value, json};

use crate::manifest::{id, items, kind, named, selects, text};

/// A budget for every Deployment that always has several replicas, none for one replica, each
/// selecting exactly its pods and none keeping a crashed pod on its node.
pub(super) fn disruption_budgets(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let budgets = kind(objects, "PodDisruptionBudget");
    for deployment in kind(objects, "Deployment") {
        let replicas = replicas(objects, deployment);
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let count = budgets.iter().filter(|budget| selects(&budget["spec"]["selector"], labels)).count();
        if count != usize::from(replicas > 1) {
            wrong.push(format!("{}: {count} budgets for {replicas} replicas", id(deployment)));
        }
    }
    let keeps = budgets
        .into_iter()
        .filter(|budget| text(budget, "/spec/unhealthyPodEvictionPolicy") != "AlwaysAllow");
    wrong.extend(keeps.map(|budget| format!("{}: keeps a pod that crashes", id(budget))));
    wrong
}

/// Replicas that a Deployment has at least: its own number, or its autoscaler's.
fn replicas(objects: &[Value], deployment: &Value) -> u64 {
    if let Some(replicas) = deployment.pointer("/spec/replicas").and_then(Value::as_u64) {
        return replicas;
    }
    let name = text(deployment, "/metadata/name");
    let scaled = ["HorizontalPodAutoscaler", "ScaledObject"].map(|scaler| kind(objects, scaler)).concat();
    let scaler = scaled.iter().find(|scaler| text(scaler, "/spec/scaleTargetRef/name") == name);
    let least = ["/spec/minReplicas", "/spec/minReplicaCount"]
        .map(|pointer| scaler.and_then(|scaler| scaler.pointer(pointer)).and_then(Value::as_u64));
    least[0].or(least[1]).unwrap_or_else(|| panic!("nothing says how many replicas {name} has"))
}

/// A new pod never waits for what the old one holds, and going back to `Recreate` clears what the
/// API server has filled in.
pub(super) fn rollouts(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for deployment in kind(objects, "Deployment") {
        let strategy = &deployment["spec"]["strategy"];
        let rolling = strategy.get("rollingUpdate");
        let is_right = match text(strategy, "/type") {
            "Recreate" => rolling == Some(&Value::Null),
            "RollingUpdate" => rolling.is_some_and(|rolling| {
                let surge = rolling.get("maxSurge").and_then(Value::as_u64);
                surge == Some(0) || surge.is_some() && !holds(objects, deployment)
            }),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{}: {strategy}", id(deployment)));
        }
    }
    wrong
}

/// Whether a pod of the Deployment holds a GPU, or a claim of the chart that one node can mount.
fn holds(objects: &[Value], deployment: &Value) -> bool {
    let containers = items(deployment, "/spec/template/spec/containers");
    let mut limits =
        containers.iter().filter_map(|container| container.pointer("/resources/limits")?.as_object());
    let single = |volume: &Value| {
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        let wanted = format!("PersistentVolumeClaim/{claim}");
        objects.iter().any(|object| id(object) == wanted)
            && !items(named(objects, &wanted), "/spec/accessModes").contains(&json!("ReadWriteMany"))
    };
    limits.any(|limits| limits.keys().any(|name| name.starts_with("nvidia.com/")))
        || items(deployment, "/spec/template/spec/volumes").iter().any(single)
}
