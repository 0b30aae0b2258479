//! The rules every rendered manifest must keep. Each returns what breaks it, so that a test can
//! show it fail.

use serde_json::{Value, json};

use crate::manifest::{env, id, items, kind, pods, selects, text};

/// A rule over a whole manifest: its name and the check.
pub(crate) type Rule = (&'static str, fn(&[Value]) -> Vec<String>);

/// The rules that hold for every values file.
pub(crate) const RULES: [Rule; 10] = [
    ("restricted security", restricted_security),
    ("requests and limits", requests_and_limits),
    ("probes", probes),
    ("grace period", grace_period),
    ("pinned images", pinned_images),
    ("disruption budgets", disruption_budgets),
    ("no service account tokens", no_tokens),
    ("stable selectors", stable_selectors),
    ("services reach a port", services_reach_a_port),
    ("strings are strings", strings_are_strings),
];

/// Everything the rules find wrong.
pub(crate) fn broken(objects: &[Value]) -> Vec<String> {
    RULES
        .iter()
        .flat_map(|(name, rule)| rule(objects).into_iter().map(move |what| format!("{name}: {what}")))
        .collect()
}

fn restricted_security(objects: &[Value]) -> Vec<String> {
    let pod_wants = [("/runAsNonRoot", json!(true)), ("/seccompProfile/type", json!("RuntimeDefault"))];
    let container_wants = [
        ("/allowPrivilegeEscalation", json!(false)),
        ("/readOnlyRootFilesystem", json!(true)),
        ("/runAsNonRoot", json!(true)),
        ("/capabilities/drop", json!(["ALL"])),
        ("/seccompProfile/type", json!("RuntimeDefault")),
    ];
    let mut wrong = Vec::new();
    let mut check = |place: String, context: Option<&Value>, wants: &[(&str, Value)]| {
        for (pointer, wanted) in wants {
            if context.and_then(|context| context.pointer(pointer)) != Some(wanted) {
                wrong.push(format!("{place}: securityContext{pointer} is not {wanted}"));
            }
        }
    };
    for pod in pods(objects) {
        check(pod.owner.clone(), pod.spec.get("securityContext"), &pod_wants);
        for container in pod.containers() {
            let place = format!("{} {}", pod.owner, text(container, "/name"));
            check(place, container.get("securityContext"), &container_wants);
        }
    }
    wrong.extend(writable_tmp(objects));
    wrong
}

/// A read-only root filesystem needs a volume where programs put temporary files.
fn writable_tmp(objects: &[Value]) -> Vec<String> {
    let tmp = |container: &Value| {
        items(container, "/volumeMounts").iter().any(|mount| text(mount, "/mountPath") == "/tmp")
    };
    let owners = pods(objects).into_iter().filter(|pod| !pod.containers().all(tmp));
    owners.map(|pod| format!("{}: a container has no /tmp", pod.owner)).collect()
}

fn requests_and_limits(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for pod in pods(objects) {
        for container in pod.containers() {
            for pointer in ["/requests/cpu", "/requests/memory", "/limits/cpu", "/limits/memory"] {
                if text(container, &format!("/resources{pointer}")).is_empty() {
                    wrong.push(format!(
                        "{} {}: resources{pointer} is missing",
                        pod.owner,
                        text(container, "/name")
                    ));
                }
            }
        }
    }
    wrong
}

/// A kubelet's gRPC probe speaks no TLS: a server that does is asked over HTTP.
fn probes(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for deployment in kind(objects, "Deployment") {
        for container in items(deployment, "/spec/template/spec/containers") {
            let certificates = ["OBSERVATORY_INFERENCE_TLS_CERT", "OBSERVATORY_TLS_CERT"];
            let encrypted = certificates.iter().any(|name| env(container, name).is_some());
            for (probe, service, path) in [
                ("startupProbe", "", "/livez"),
                ("livenessProbe", "", "/livez"),
                ("readinessProbe", "ready", "/readyz"),
            ] {
                let (how, key, wanted, listens) = match encrypted {
                    false => ("grpc", "/service", service, "containerPort"),
                    true => ("httpGet", "/path", path, "name"),
                };
                let asked = container.pointer(&format!("/{probe}/{how}"));
                let open = |asked: &Value| {
                    items(container, "/ports").iter().any(|port| port.get(listens) == asked.get("port"))
                };
                if !asked.is_some_and(|asked| text(asked, key) == wanted && open(asked)) {
                    wrong.push(format!("{}: {probe} does not ask for {wanted:?}", id(deployment)));
                }
            }
        }
    }
    wrong
}

fn grace_period(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for deployment in kind(objects, "Deployment") {
        let pointer = "/spec/template/spec/terminationGracePeriodSeconds";
        let grace = deployment.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        for container in items(deployment, "/spec/template/spec/containers") {
            let drain = ["OBSERVATORY_DRAIN_SECONDS", "OBSERVATORY_INFERENCE_DRAIN_SECONDS"]
                .iter()
                .find_map(|name| env(container, name)?.parse::<u64>().ok());
            if drain.is_none_or(|drain| grace != 5 + drain + 10) {
                wrong.push(format!("{}: {grace} s of grace for a drain of {drain:?}", id(deployment)));
            }
        }
    }
    wrong
}

/// The tag or digest of an image reference; the colon of a registry's port is none.
fn image_version(image: &str) -> Option<&str> {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once('@').or_else(|| name.split_once(':')).map(|(_, version)| version)
}

fn pinned_images(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for pod in pods(objects) {
        for container in pod.containers() {
            let image = text(container, "/image");
            if !image_version(image).is_some_and(|version| !version.is_empty() && version != "latest") {
                wrong.push(format!("{}: the image {image} names no version", pod.owner));
            }
        }
    }
    wrong
}

/// A budget for every Deployment with several replicas, none for one replica, each selecting
/// exactly its pods.
fn disruption_budgets(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let budgets = kind(objects, "PodDisruptionBudget");
    for deployment in kind(objects, "Deployment") {
        let replicas = deployment.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or_default();
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let count = budgets.iter().filter(|budget| selects(&budget["spec"]["selector"], labels)).count();
        if count != usize::from(replicas > 1) {
            wrong.push(format!("{}: {count} budgets for {replicas} replicas", id(deployment)));
        }
    }
    wrong
}

fn no_tokens(objects: &[Value]) -> Vec<String> {
    let off = |value: &Value| value.get("automountServiceAccountToken") == Some(&json!(false));
    let accounts = kind(objects, "ServiceAccount").into_iter().filter(|account| !off(account)).map(id);
    let pods = pods(objects).into_iter().filter(|pod| !off(pod.spec)).map(|pod| pod.owner);
    accounts.chain(pods).map(|owner| format!("{owner}: mounts a token")).collect()
}

/// Selectors are immutable: only labels that no version changes, and they select the Deployment's
/// own pods.
fn stable_selectors(objects: &[Value]) -> Vec<String> {
    let stable =
        json!(["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"]);
    let mut wrong = Vec::new();
    for deployment in kind(objects, "Deployment") {
        let selector = &deployment["spec"]["selector"];
        let labels = selector["matchLabels"].as_object().cloned().unwrap_or_default();
        let mut keys: Vec<&String> = labels.keys().collect();
        keys.sort();
        if json!(keys) != stable {
            wrong.push(format!("{}: selects by {keys:?}", id(deployment)));
        }
        if !selects(selector, &deployment["spec"]["template"]["metadata"]["labels"]) {
            wrong.push(format!("{}: does not select its own pods", id(deployment)));
        }
    }
    wrong
}

fn services_reach_a_port(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let deployments = kind(objects, "Deployment");
    for service in kind(objects, "Service") {
        let selector = json!({"matchLabels": service["spec"]["selector"]});
        let behind: Vec<_> = deployments
            .iter()
            .filter(|deployment| selects(&selector, &deployment["spec"]["template"]["metadata"]["labels"]))
            .collect();
        let [deployment] = behind.as_slice() else {
            wrong.push(format!("{}: {} Deployments behind it", id(service), behind.len()));
            continue;
        };
        let ports = items(deployment, "/spec/template/spec/containers/0/ports");
        for port in items(service, "/spec/ports") {
            if !ports.iter().any(|open| open.get("name") == port.get("targetPort")) {
                wrong.push(format!("{}: no container port {}", id(service), port["targetPort"]));
            }
        }
    }
    wrong
}

/// Labels, annotations, selectors and environment values must come out of the YAML as strings.
fn strings_are_strings(objects: &[Value]) -> Vec<String> {
    fn visit(value: &Value, path: &str, wrong: &mut Vec<String>) {
        let Some(map) = value.as_object() else {
            let items = value.as_array().into_iter().flatten().enumerate();
            items.for_each(|(index, item)| visit(item, &format!("{path}/{index}"), wrong));
            return;
        };
        for (key, item) in map {
            let place = format!("{path}/{key}");
            match key.as_str() {
                "labels" | "annotations" | "matchLabels" | "nodeSelector" | "stringData" | "data" => {
                    let other =
                        item.as_object().into_iter().flatten().filter(|(_, value)| !value.is_string());
                    wrong.extend(other.map(|(key, value)| format!("{place}/{key} is {value}")));
                }
                "env" => {
                    let values = items(item, "").iter().filter_map(|entry| entry.get("value"));
                    wrong.extend(
                        values
                            .filter(|value| !value.is_string())
                            .map(|value| format!("{place} holds {value}")),
                    );
                }
                _ => visit(item, &place, wrong),
            }
        }
    }
    let mut wrong = Vec::new();
    objects.iter().for_each(|object| visit(object, &id(object), &mut wrong));
    wrong
}
