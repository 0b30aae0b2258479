//! The rules every rendered manifest must keep. Each returns what breaks it, so that a test can
//! show it fail.

use serde_json::{Value, json};

use crate::manifest::{env, id, items, kind, pods, selects, text};

mod rollouts;
mod volumes;

/// A rule over a whole manifest: its name and the check.
pub(crate) type Rule = (&'static str, fn(&[Value]) -> Vec<String>);

/// The rules that hold for every values file.
pub(crate) const RULES: [Rule; 14] = [
    ("restricted security", restricted_security),
    ("requests and limits", requests_and_limits),
    ("probes", probes),
    ("grace period", grace_period),
    ("pinned images", pinned_images),
    ("disruption budgets", rollouts::disruption_budgets),
    ("rollouts", rollouts::rollouts),
    ("unique names", volumes::unique_names),
    ("volumes", volumes::volumes),
    ("denied by default", denied_by_default),
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
            let place = format!("{} {}", pod.owner, text(container, "/name"));
            // A CPU limit only slows a pod down: people may leave it out.
            for pointer in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                if text(container, &format!("/resources{pointer}")).is_empty() {
                    wrong.push(format!("{place}: resources{pointer} is missing"));
                }
            }
            let requests = container.pointer("/resources/requests").and_then(Value::as_object);
            for (name, asked) in requests.into_iter().flatten() {
                let limit = container["resources"]["limits"].get(name).and_then(Value::as_str);
                let asked = asked.as_str().unwrap_or_default();
                if limit.is_some_and(|limit| quantity(asked) > quantity(limit)) {
                    wrong.push(format!("{place}: {asked} of {name} are more than the limit"));
                }
            }
        }
    }
    wrong
}

/// A quantity of Kubernetes as a number.
fn quantity(text: &str) -> f64 {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let units = ["", "k", "M", "G", "T", "P"];
    let factor = match (unit, units.iter().position(|known| *known == unit.trim_end_matches('i'))) {
        ("m", _) => 0.001,
        (_, Some(power)) if unit.ends_with('i') => 1024_f64.powi(power as i32),
        // "Ki" is the only one with a capital K.
        _ if unit == "Ki" => 1024.0,
        (_, Some(power)) => 1000_f64.powi(power as i32),
        _ => f64::NAN,
    };
    number.parse::<f64>().unwrap_or(f64::NAN) * factor
}

/// A kubelet's gRPC probe speaks no TLS and has no identity in a mesh: a server that asks for
/// either is probed over HTTP, as it may be in linkerd.
fn probes(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let asks_identity = !kind(objects, "MeshTLSAuthentication").is_empty();
    for deployment in kind(objects, "Deployment") {
        let Some(container) = server(deployment) else { continue };
        let certificates = ["OBSERVATORY_INFERENCE_TLS_CERT", "OBSERVATORY_TLS_CERT"];
        let encrypted = asks_identity || certificates.iter().any(|name| env(container, name).is_some());
        let meshed = "/spec/template/metadata/annotations/linkerd.io~1inject";
        let by_http = encrypted || text(deployment, meshed) == "enabled";
        // Of the inference server, whose models take minutes: each of them is loaded or has failed.
        let models = env(container, "OBSERVATORY_INFERENCE_LISTEN").is_some();
        for (probe, service, path) in [
            ("startupProbe", if models { "started" } else { "" }, "/livez"),
            ("livenessProbe", "", "/livez"),
            ("readinessProbe", "ready", "/readyz"),
        ] {
            let grpc = asks(container, &format!("/{probe}/grpc"), ("/service", service), "containerPort");
            let http = asks(container, &format!("/{probe}/httpGet"), ("/path", path), "name");
            if !(grpc && !encrypted || http && by_http) {
                wrong.push(format!("{}: {probe} does not ask for {service:?}", id(deployment)));
            }
        }
    }
    wrong
}

/// Whether a probe asks for this key's value on a port that the container opens.
fn asks(container: &Value, probe: &str, (key, wanted): (&str, &str), port: &str) -> bool {
    container.pointer(probe).is_some_and(|asked| {
        text(asked, key) == wanted
            && items(container, "/ports").iter().any(|open| open.get(port) == asked.get("port"))
    })
}

/// The container of a Deployment that is the chart's own.
fn server(deployment: &Value) -> Option<&Value> {
    items(deployment, "/spec/template/spec/containers").first()
}

fn grace_period(objects: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for deployment in kind(objects, "Deployment") {
        let pointer = "/spec/template/spec/terminationGracePeriodSeconds";
        let grace = deployment.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        if let Some(container) = server(deployment) {
            let seconds = |name: &str| {
                let prefixes = ["OBSERVATORY", "OBSERVATORY_INFERENCE"];
                let mut found =
                    prefixes.iter().filter_map(|prefix| env(container, &format!("{prefix}_{name}")));
                found.next()?.parse::<u64>().ok()
            };
            let ends = seconds("LAME_DUCK_SECONDS").zip(seconds("DRAIN_SECONDS"));
            if ends.is_none_or(|(serves_on, drains)| grace < serves_on + drains + 10) {
                wrong.push(format!("{}: {grace} s of grace for {ends:?}", id(deployment)));
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

/// Where the chart has network policies, each pod is under the one that denies everything.
fn denied_by_default(objects: &[Value]) -> Vec<String> {
    let policies = kind(objects, "NetworkPolicy");
    let Some(deny) = policies.iter().find(|policy| id(policy).ends_with("-default-deny")) else {
        return policies.into_iter().map(|policy| format!("{}: and nothing is denied", id(policy))).collect();
    };
    let open = pods(objects)
        .into_iter()
        .filter(|pod| !selects(&deny["spec"]["podSelector"], &pod.metadata["labels"]));
    open.map(|pod| format!("{} is open", pod.owner)).collect()
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
