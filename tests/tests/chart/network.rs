//! Network policies, mesh settings and how callers find the inference server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{render, render_example, render_text};
use crate::manifest::{Pod, env, id, items, kind, named, pods, selects, text};

#[test]
fn network_policies_deny_first_and_cover_every_pod() {
    for name in ["ambient", "cpu", "external-db", "gpu", "mesh"] {
        let objects = render_example(name);
        let deny = named(&objects, "NetworkPolicy/rel-observatory-default-deny");
        assert_eq!(deny["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert!(deny["spec"].get("ingress").is_none() && deny["spec"].get("egress").is_none());
        for pod in pods(&objects) {
            let labels = &pod.metadata["labels"];
            assert!(selects(&deny["spec"]["podSelector"], labels), "{name}: {} is not covered", pod.owner);
        }
    }
    assert!(kind(&render_example("minimal"), "NetworkPolicy").is_empty(), "switched off");
}

/// The components that a policy of the "gpu" example selects.
fn selected(objects: &[Value], policy: &str) -> BTreeSet<String> {
    let policy = named(objects, policy);
    let all = pods(objects);
    let chosen = all.iter().filter(|pod| selects(&policy["spec"]["podSelector"], &pod.metadata["labels"]));
    chosen.map(|pod| pod.component().to_owned()).collect()
}

#[test]
fn network_edges_are_the_ones_the_system_needs() {
    let objects = render_example("gpu");
    let workers = ["analyzer", "embedder", "enhancer", "extractor", "reporter", "scraper"];
    let with =
        |others: &[&str]| workers.iter().chain(others).map(ToString::to_string).collect::<BTreeSet<_>>();

    let database = selected(&objects, "NetworkPolicy/rel-observatory-database");
    assert_eq!(database, with(&["migrations", "orchestrator"]));
    let uses_database = |pod: &Pod| {
        pod.containers().any(|container| {
            items(container, "/env").iter().any(|entry| text(entry, "/name") == "DATABASE_URL")
        })
    };
    for pod in pods(&objects) {
        assert_eq!(database.contains(pod.component()), uses_database(&pod), "{}", pod.owner);
    }

    assert_eq!(selected(&objects, "NetworkPolicy/rel-observatory-calls"), with(&["orchestrator", "test"]));
    assert_eq!(selected(&objects, "NetworkPolicy/rel-observatory-to-inference").len(), 1);
    assert_eq!(selected(&objects, "NetworkPolicy/rel-observatory-to-workers"), with(&[]));
    assert_eq!(
        selected(&objects, "NetworkPolicy/rel-observatory-portals"),
        BTreeSet::from(["scraper".to_owned()])
    );
    let portals = named(&objects, "NetworkPolicy/rel-observatory-portals");
    let refused = |peer: usize, inside: &[&str]| {
        let except = items(portals, &format!("/spec/egress/0/to/{peer}/ipBlock/except"));
        for network in inside {
            assert!(except.contains(&json!(network)), "the scraper must not reach {network}");
        }
    };
    refused(
        0,
        &["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"],
    );
    refused(0, &["192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"]);
    refused(
        1,
        &["::1/128", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8"],
    );
    let metrics = named(&objects, "NetworkPolicy/rel-observatory-metrics");
    assert_eq!(metrics["spec"]["ingress"][0]["ports"], json!([{"port": 9464, "protocol": "TCP"}]));
    assert!(
        kind(&render_example("cpu"), "NetworkPolicy").iter().all(|policy| !id(policy).ends_with("-metrics"))
    );
}

#[test]
fn dns_is_where_the_cluster_has_it_and_the_hook_has_a_way_of_its_own() {
    let objects = render_example("openshift");
    let dns = named(&objects, "NetworkPolicy/rel-observatory-dns");
    let rule = &dns["spec"]["egress"][0];
    let ports: Vec<_> =
        items(rule, "/ports").iter().map(|port| (&port["port"], text(port, "/protocol"))).collect();
    let (old, new) = (json!(53), json!(5353));
    assert_eq!(ports, [(&old, "UDP"), (&old, "TCP"), (&new, "UDP"), (&new, "TCP")]);
    assert_eq!(text(rule, "/to/1/ipBlock/cidr"), "169.254.20.10/32", "NodeLocal DNSCache");

    // The policies of the last revision know the old port, those of this one come after the hook.
    let hook = named(&objects, "NetworkPolicy/rel-observatory-migrations-hook");
    assert_eq!(hook["spec"]["egress"][0], *rule);
    let moved = render(&[], &["--set", "database.port=6543"]);
    let hook = named(&moved, "NetworkPolicy/rel-observatory-migrations-hook");
    assert_eq!(hook["spec"]["egress"][1]["ports"][0]["port"], json!(6543));
    let migrations = pods(&moved);
    let pod = migrations.iter().find(|pod| pod.component() == "migrations").expect("the migration");
    assert!(selects(&hook["spec"]["podSelector"], &pod.metadata["labels"]));
}

#[test]
fn network_policies_follow_the_values() {
    let objects = render_example("external-db");
    let database = named(&objects, "NetworkPolicy/rel-observatory-database");
    assert_eq!(
        database["spec"]["egress"],
        json!([{"ports": [{"port": 5433, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}]}])
    );
    let extra = named(&objects, "NetworkPolicy/rel-observatory-enhancer-extra");
    assert_eq!(extra["spec"]["egress"][0]["to"], json!([{"ipBlock": {"cidr": "203.0.113.10/32"}}]));

    let meshed = render_example("mesh");
    let ports = &named(&meshed, "NetworkPolicy/rel-observatory-to-inference")["spec"]["ingress"][0]["ports"];
    assert!(items(ports, "").contains(&json!({"port": 4143, "protocol": "TCP"})), "the proxy's port");
    let control = named(&meshed, "NetworkPolicy/rel-observatory-mesh");
    let labels = "/spec/egress/0/to/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
    assert_eq!(text(control, labels), "linkerd");
}

#[test]
fn a_mesh_takes_servers_and_leaves_jobs_alone() {
    let check = |mode: &str, server: (&str, &str), job: (&str, &str), skip: &str| {
        let set = format!("mesh.mode={mode},workers.extractor.podAnnotations.team=data");
        for pod in pods(&render(&[], &["--set", &set])) {
            let serves = !["migrations", "test"].contains(&pod.component());
            let (pointer, value) = if serves { server } else { job };
            assert_eq!(text(pod.metadata, pointer), value, "{mode}: {}", pod.owner);
            let skipped = text(pod.metadata, skip);
            assert_eq!(skipped, if serves { "5432" } else { "" }, "{mode}: {}", pod.owner);
        }
    };
    let linkerd = "/annotations/linkerd.io~1inject";
    check(
        "linkerd",
        (linkerd, "enabled"),
        (linkerd, "disabled"),
        "/annotations/config.linkerd.io~1skip-outbound-ports",
    );
    let istio = "/labels/sidecar.istio.io~1inject";
    let skip = "/annotations/traffic.sidecar.istio.io~1excludeOutboundPorts";
    check("istio", (istio, "true"), (istio, "false"), skip);
    let plain = render_text(&[], &[]).expect("the defaults render");
    assert!(!plain.contains("linkerd") && !plain.contains("istio"), "no mesh, no annotation");
}

#[test]
fn callers_balance_by_the_headless_name_unless_a_mesh_does_it() {
    for (mesh, host) in
        [("none", "rel-observatory-inference-headless"), ("istio", "rel-observatory-inference")]
    {
        let objects = render(&[], &["--set", &format!("mesh.mode={mesh}")]);
        let embedder = named(&objects, "Deployment/rel-observatory-embedder");
        let container = &embedder["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(env(container, "OBSERVATORY_INFERENCE"), Some(&*format!("http://{host}.labor.svc:50051")));
        let headless = named(&objects, "Service/rel-observatory-inference-headless");
        assert_eq!(headless["spec"]["clusterIP"], json!("None"));
        assert!(named(&objects, "Service/rel-observatory-inference")["spec"].get("clusterIP").is_none());
    }
    let service = &render_example("mesh");
    let annotations = &named(service, "Service/rel-observatory-inference")["metadata"]["annotations"];
    assert_eq!(annotations["balancer.alpha.linkerd.io/penalize-failures"], json!("true"));
}
