//! Random values that fit each other.

use serde_json::{Value, json};

use super::dice::Dice;

const DIGEST: &str = "sha256:0f6a2c1b9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a";

/// What the parts have to agree on.
struct Plan {
    mesh: &'static str,
    has_sidecars: bool,
    is_native: bool,
    is_strict: bool,
    has_policies: bool,
    orchestrates: bool,
    runs: bool,
}

/// Puts the keys of `from` into `into`, map by map.
pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// One combination.
pub(super) fn values(dice: &mut Dice) -> Value {
    let mesh = dice.pick(&["none", "none", "linkerd", "istio", "ambient"]);
    let has_sidecars = ["linkerd", "istio"].contains(&mesh);
    let is_strict = mesh != "none" && dice.percent(50);
    let plan = Plan {
        mesh,
        has_sidecars,
        is_native: has_sidecars && dice.percent(50),
        is_strict,
        has_policies: dice.percent(60),
        orchestrates: dice.percent(60),
        runs: dice.percent(40),
    };
    let mut values = json!({});
    let parts = [
        release(dice),
        mesh_values(dice, &plan),
        database(dice),
        inference(dice, &plan),
        model_volume(dice),
        inference_access(dice, &plan),
        doors(dice, &plan),
        pipeline(dice, &plan),
        workers(dice, &plan),
        network(dice, &plan),
        monitoring(dice),
        schedules(dice, &plan),
        placement(dice),
        additions(dice),
    ];
    for part in parts {
        merge(&mut values, part);
    }
    values
}

fn release(dice: &mut Dice) -> Value {
    let pinned = dice.percent(30);
    let name = dice.pick(&["", "labor", "observatory-of-the-labor-market-in-peru"]);
    json!({
        "fullnameOverride": name,
        "nameOverride": dice.pick(&["", "obs", "jobs-1"]),
        "global": {
            "imageRegistry": dice.pick(&["", "registry.example.org:5000/mirror"]),
            "imagePullSecrets": if dice.percent(20) { json!([{"name": "mirror"}]) } else { json!([]) },
            "storageClass": dice.pick(&["", "fast"]),
        },
        "image": {"digest": if pinned { DIGEST } else { "" }, "tag": dice.pick(&["", "1.2.3"])},
        "inference": {"image": {"digest": if pinned { DIGEST } else { "" }}},
        "serviceAccount": {
            "create": dice.percent(80),
            "annotations": if dice.percent(20) { json!({"example.org/role": "on"}) } else { json!({}) },
        },
        "listenAddress": dice.pick(&["[::]", "0.0.0.0"]),
        "ipFamilyPolicy": dice.pick(&["", "", "PreferDualStack"]),
        "lameDuckSeconds": dice.between(0, 30),
        "minReadySeconds": dice.between(0, 10),
        "podDisruptionBudget": {"enabled": true, "maxUnavailable": dice.between(1, 2)},
    })
}

fn mesh_values(dice: &mut Dice, plan: &Plan) -> Value {
    let caller = match plan.mesh {
        "linkerd" => "notebook.tools.serviceaccount.identity.linkerd.cluster.local",
        _ => "cluster.local/ns/tools/sa/notebook",
    };
    json!({"mesh": {
        "mode": plan.mesh,
        "excludeDatabasePort": dice.percent(70),
        "nativeSidecars": plan.is_native,
        "strictMtls": plan.is_strict,
        "authorization": {
            "enabled": plan.is_strict && dice.percent(50),
            "inferenceCallers": dice.some(&[caller]),
        },
        "retries": dice.between(0, 3),
        "outlierDetection": {"consecutiveFailures": dice.between(0, 5)},
        "metricsNamespace": if plan.has_sidecars { dice.pick(&["", "monitoring"]) } else { "" },
    }})
}

fn database(dice: &mut Dice) -> Value {
    let connections = json!({
        "connections": dice.between(4, 20),
        "maxConnections": 2000,
        "sslMode": dice.pick(&["", "require", "verify-full"]),
        "revision": dice.pick(&["", "2"]),
        "reloader": dice.percent(20),
    });
    let mut values = match dice.between(0, 4) {
        0 => json!({
            "database": {"url": "postgres://u:p@db.example.org/x", "existingSecret": {"name": ""}},
            "migrations": {"mode": dice.pick(&["job", "off"])},
        }),
        1 => json!({
            "database": {
                "mode": "cnpg",
                "cnpg": {
                    "instances": dice.between(1, 3),
                    "backup": {
                        "enabled": dice.percent(60),
                        "method": dice.pick(&["volumeSnapshot", "plugin"]),
                        "plugin": {"parameters": {"barmanObjectName": "store"}},
                    },
                },
            },
            "migrations": {"mode": "job", "backoffLimit": dice.between(6, 10)},
        }),
        2 => json!({
            "database": {"mode": "cnpg", "cnpg": {"cluster": "shared"}},
            "migrations": {"mode": dice.pick(&["job", "hook", "off"])},
        }),
        _ => json!({
            "database": {
                "port": dice.pick(&[5432, 6543]),
                "ca": {"existingSecret": dice.pick(&["", "database-ca"])},
            },
            "migrations": {
                "mode": dice.pick(&["job", "hook", "off"]),
                "existingSecret": {"name": dice.pick(&["", "owner"])},
            },
        }),
    };
    merge(&mut values, json!({"database": connections}));
    values
}

fn inference(dice: &mut Dice, plan: &Plan) -> Value {
    let memory = dice.pick(&["8Gi", "24Gi"]);
    let mut limits = json!({"memory": memory});
    let mut requests = json!({"cpu": dice.pick(&["500m", "2"]), "memory": dice.pick(&["4Gi", "8192Mi"])});
    if dice.percent(20) {
        limits["hugepages-2Mi"] = json!("1Gi");
        requests["hugepages-2Mi"] = json!("1Gi");
    }
    if plan.runs && dice.percent(20) {
        limits["example.org/nic"] = json!("1");
        requests["example.org/nic"] = json!("1");
    }
    json!({"inference": {
        "enabled": plan.runs || dice.percent(50),
        "sharedMemory": dice.pick(&["64Mi", "2Gi"]),
        "resources": {"requests": requests, "limits": limits},
        "drainSeconds": dice.between(0, 120),
        "probes": {"startupBudgetSeconds": dice.between(1, 3600), "periodSeconds": dice.between(1, 30)},
        "models": {"names": dice.some(&["a/b", "c/d_e.f"])},
        "service": {"annotations": if dice.percent(20) { json!({"a.b/c": "1"}) } else { json!({}) }},
    }})
}

/// The volume of the models, and with it how many replicas there may be and how they are replaced.
fn model_volume(dice: &mut Dice) -> Value {
    let kind = dice.pick(&["pvc", "existingClaim", "emptyDir"]);
    let shares = kind != "pvc" || dice.percent(50);
    let mode = if shares { "ReadWriteMany" } else { "ReadWriteOnce" };
    let volume = json!({
        "type": kind,
        "existingClaim": if kind == "existingClaim" { "models" } else { "" },
        "readOnly": kind == "existingClaim" && dice.percent(50),
        "pvc": {"accessModes": [mode], "keep": dice.percent(50)},
    });
    let gpu = dice.percent(40);
    let strategy = match dice.between(0, 2) {
        0 => json!({"type": "Recreate"}),
        1 => json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        _ => json!({
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": u64::from(shares && !gpu), "maxUnavailable": 1},
        }),
    };
    let least = dice.between(1, 3);
    json!({"inference": {
        "models": {"volume": volume},
        "strategy": strategy,
        "gpu": {"enabled": gpu, "profile": dice.pick(&["", "h100", "a100-mig-1g.10gb"])},
        "runtimeClassName": dice.pick(&["", "nvidia"]),
        "replicas": if shares { dice.between(0, 3) } else { 1 },
        "autoscaling": {
            "type": if shares { dice.pick(&["none", "hpa", "keda"]) } else { "none" },
            "minReplicas": least,
            "maxReplicas": least + dice.between(0, 3),
            "queuedTokens": dice.between(1, 100_000),
            "requestsInFlight": dice.pick(&[0, 50]),
            "keda": {
                "fallbackReplicas": dice.between(0, 2),
                "authentication": dice.pick(&["", "prometheus"]),
            },
        },
    }})
}

/// TLS and callers of the inference server; a mesh encrypts by itself.
fn inference_access(dice: &mut Dice, plan: &Plan) -> Value {
    let encrypts = plan.mesh == "none" && dice.percent(50);
    let mutual = encrypts && dice.percent(50);
    let token = (encrypts || plan.mesh != "none") && dice.percent(50);
    let secret = |is_set: bool, name: &str| json!({"existingSecret": if is_set { name } else { "" }});
    json!({"inference": {
        "tls": {
            "existingSecret": if encrypts { "tls" } else { "" },
            "ca": secret(encrypts && dice.percent(30), "roots"),
            "clientCa": secret(mutual, "callers"),
        },
        "clients": secret(token || mutual, "clients"),
        "credentials": {"token": secret(token, "token"), "certificate": secret(mutual, "certificate")},
    }})
}

/// The HTTP port, routes and Ingresses.
fn doors(dice: &mut Dice, plan: &Plan) -> Value {
    let http = dice.percent(40);
    let route = |dice: &mut Dice| {
        json!({
            "enabled": dice.percent(30),
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": dice.some(&["a.example.org"]),
        })
    };
    let ingress = |dice: &mut Dice, port: &str| {
        json!({
            "enabled": dice.percent(30),
            "className": dice.pick(&["", "nginx"]),
            "port": port,
            "hosts": ["b.example.org"],
            "tlsSecret": dice.pick(&["", "b"]),
            "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"},
        })
    };
    let port = if http { dice.pick(&["grpc", "http"]) } else { "grpc" };
    let gateway =
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}]);
    json!({
        "inference": {
            "http": {"enabled": http, "port": dice.pick(&[8080, 8000])},
            "grpcRoute": route(dice),
            "ingress": ingress(dice, port),
        },
        "orchestrator": {"grpcRoute": route(dice), "ingress": ingress(dice, "grpc")},
        "networkPolicy": {
            "enabled": plan.has_policies,
            "clients": {"from": gateway},
            "inference": {"from": gateway, "httpFrom": gateway},
        },
    })
}

fn pipeline(dice: &mut Dice, plan: &Plan) -> Value {
    let encrypts = plan.mesh == "none" && dice.percent(40);
    let mut anonymous = dice.some(&["read", "import"]);
    anonymous.push("run");
    json!({"pipeline": {
        "tls": {
            "existingSecret": if encrypts { "pipeline-tls" } else { "" },
            "clientCa": {"existingSecret": if encrypts && dice.percent(40) { "people" } else { "" }},
        },
        "clients": {"existingSecret": dice.pick(&["", "pipeline-clients"])},
        "adminTokenSha256": if dice.percent(20) { "a".repeat(64) } else { String::new() },
        "anonymous": anonymous,
        "credentials": {
            "token": {"existingSecret": if encrypts { dice.pick(&["", "tester"]) } else { "" }},
            "certificate": {"existingSecret": if encrypts { dice.pick(&["", "tester"]) } else { "" }},
        },
    }})
}

fn workers(dice: &mut Dice, plan: &Plan) -> Value {
    let mut workers = json!({});
    for role in ["scraper", "extractor", "enhancer", "embedder", "analyzer", "reporter"] {
        workers[role] = json!({
            "enabled": dice.percent(18),
            "replicas": if role == "reporter" { 1 } else { dice.between(0, 3) },
            "drainSeconds": dice.between(0, 300),
        });
    }
    let kind = dice.pick(&["pvc", "existingClaim", "emptyDir"]);
    let claim = if kind == "existingClaim" { "reports" } else { "" };
    workers["reporter"]["volume"] = json!({"type": kind, "existingClaim": claim});
    workers["embedder"]["cache"] = json!({"enabled": dice.percent(50)});
    json!({
        "workers": workers,
        "orchestrator": {"enabled": plan.orchestrates, "replicas": dice.between(0, 2)},
        "config": dice.pick(&["", "[modules.extractor]\nbatch_size = 20\n"]),
        "modules": {
            "scraper": {"settings": {"contact": "https://example.org", "delay": 1.5}},
            "analyzer": {"timeout": dice.between(1, 86_400)},
        },
    })
}

fn network(dice: &mut Dice, plan: &Plan) -> Value {
    let outside = json!([{"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/32"]}}],
                          "ports": [{"port": 443, "endPort": 444, "protocol": "TCP"}]}]);
    let extra = if dice.percent(30) { json!({"enhancer": outside}) } else { json!({}) };
    json!({"networkPolicy": {
        "dns": {"ports": dice.pick(&[[53, 5353], [53, 54]])},
        "database": {"to": if dice.percent(30) {
            json!([{"ipBlock": {"cidr": "fd00:1::/32", "except": ["fd00:1:2::/48"]}}])
        } else {
            json!([])
        }},
        "metrics": {"enabled": plan.has_policies && dice.percent(30)},
        "extraEgress": extra,
    }})
}

fn monitoring(dice: &mut Dice) -> Value {
    let by_service = dice.percent(40);
    json!({"monitoring": {
        "serviceMonitor": {"enabled": by_service, "interval": "1m", "scrapeTimeout": "30s"},
        "podMonitor": {"enabled": !by_service && dice.percent(40)},
        "annotations": {"enabled": dice.percent(20)},
        "prometheusRule": {
            "enabled": dice.percent(30),
            "alertLabels": {"team": "labor"},
            "disabled": dice.some(&["ObservatoryTargetDown"]),
        },
        "dashboards": {"enabled": dice.percent(10)},
    }})
}

fn schedules(dice: &mut Dice, plan: &Plan) -> Value {
    // Outside of a mesh that admits nobody from there, nothing could be started.
    let reaches = !plan.has_sidecars || plan.is_native || !plan.is_strict;
    if !(plan.orchestrates && reaches && dice.percent(40)) {
        return json!({});
    }
    json!({"schedules": [{
        "name": "night",
        "schedule": dice.pick(&["30 2 * * *", "@daily"]),
        "timeZone": dice.pick(&["America/Lima", "Etc/UTC"]),
        "suspend": dice.percent(20),
        "watch": dice.percent(50),
        "run": {
            "since": dice.pick(&["", "7d"]),
            "countries": dice.some(&["CO", "PE"]),
            "portals": dice.some(&["elempleo"]),
            "limit": dice.between(0, 100_000_000),
        },
    }]})
}

fn placement(dice: &mut Dice) -> Value {
    let toleration = json!([{"key": "pool", "operator": "Equal", "value": "labor", "effect": "NoSchedule"}]);
    let zone = json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
                       "whenUnsatisfiable": "DoNotSchedule"}]);
    let affinity = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 50, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname",
                                           "labelSelector": {"matchLabels": {"a": "b"}}}}]}});
    let place = |dice: &mut Dice| {
        json!({
            "schedulerName": dice.pick(&["", "batch"]),
            "priorityClassName": dice.pick(&["", "labor"]),
            "nodeSelector": if dice.percent(30) { json!({"disk": "ssd"}) } else { json!({}) },
            "tolerations": if dice.percent(30) { toleration.clone() } else { json!([]) },
            "affinity": if dice.percent(30) { affinity.clone() } else { json!({}) },
            "topologySpreadConstraints": if dice.percent(30) { zone.clone() } else { json!([]) },
        })
    };
    json!({"global": {"scheduling": place(dice)}, "inference": place(dice), "orchestrator": place(dice),
           "workers": {"extractor": place(dice)}})
}

/// Labels, volumes, containers and objects that people add.
fn additions(dice: &mut Dice) -> Value {
    if dice.percent(50) {
        return json!({});
    }
    let resources = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}});
    let container = |name: &str| {
        json!([{"name": name, "image": "registry.example.org/a/b:1", "resources": resources,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "added", "mountPath": "/x"}]}])
    };
    let source = dice.pick(&["emptyDir", "configMap", "secret"]);
    let content = match source {
        "configMap" => json!({"name": "c"}),
        "secret" => json!({"secretName": "s"}),
        _ => json!({}),
    };
    let added = json!({
        "podLabels": {"tier": "on"},
        "podAnnotations": {"example.org/note": "08"},
        "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"},
                     {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "extraVolumes": [{"name": "added", source: content}],
        "extraVolumeMounts": [{"name": "added", "mountPath": "/added", "readOnly": true}],
        "extraContainers": container("next"),
        "extraInitContainers": container("first"),
    });
    json!({
        "commonLabels": {"team": "y"},
        "podLabels": {"cost": "1e3"},
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.10"], "options": [{"name": "ndots", "value": "2"}]},
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}],
        "inference": added, "orchestrator": added, "workers": {"embedder": added},
    })
}
