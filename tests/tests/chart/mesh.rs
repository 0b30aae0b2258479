//! Service meshes: who is inside, how proxies end, who may call whom.

use serde_json::{Value, json};

use crate::helm::{render, render_example};
use crate::manifest::{Pod, items, kind, named, pods, text};
use crate::policy;

/// The pod of a component.
fn pod_of<'a>(all: &'a [Pod<'a>], component: &str) -> &'a Pod<'a> {
    all.iter().find(|pod| pod.component() == component).unwrap_or_else(|| panic!("no pod of {component}"))
}

fn annotation<'a>(pod: &Pod<'a>, name: &str) -> &'a str {
    text(pod.metadata, &format!("/annotations/{}", name.replace('/', "~1")))
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().expect("seconds")
}

/// A proxy that ends before its server cuts off what the server still answers.
#[test]
fn proxies_outlive_the_drain_of_their_server() {
    for mesh in ["istio", "linkerd"] {
        for native in [false, true] {
            let set =
                format!("mesh.mode={mesh},mesh.nativeSidecars={native},workers.analyzer.drainSeconds=200");
            let objects = render(&[], &["--set", &set]);
            assert_eq!(policy::broken(&objects), Vec::<String>::new(), "{set}");
            let all = pods(&objects);
            let pod = pod_of(&all, "analyzer");
            let grace = pod.spec["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
            let proxy: Value =
                serde_json::from_str(annotation(pod, "proxy.istio.io/config")).unwrap_or_default();
            let waits = annotation(pod, "config.alpha.linkerd.io/proxy-wait-before-exit-seconds");
            let drains = match (mesh, native) {
                ("istio", _) => seconds(text(&proxy, "/terminationDrainDuration")),
                (_, false) => seconds(waits),
                _ => {
                    assert_eq!(waits, "", "a native sidecar ends after the server by itself");
                    205
                }
            };
            assert!((205..=grace).contains(&drains), "{set}: the proxy ends after {drains} s of {grace} s");
            if mesh == "istio" {
                assert_eq!(proxy["holdApplicationUntilProxyStarts"], json!(!native));
                assert_eq!(annotation(pod, "sidecar.istio.io/nativeSidecar") == "true", native);
                assert_eq!(annotation(pod, "traffic.sidecar.istio.io/excludeInboundPorts"), "9464");
            } else {
                let name = "config.beta.linkerd.io/proxy-enable-native-sidecar";
                assert_eq!(annotation(pod, name) == "true", native);
                assert_eq!(annotation(pod, "config.linkerd.io/skip-inbound-ports"), "9464");
            }
        }
    }
}

#[test]
fn the_test_runs_inside_of_a_mesh_that_admits_nobody_else() {
    let strict = "mesh.strictMtls=true,pipeline.anonymous={read}";
    let tests = |set: &str| {
        let objects = render(&[], &["--set", set]);
        pods(&objects).iter().find(|pod| pod.component() == "test").map(|pod| {
            (annotation(pod, "linkerd.io/inject").to_owned(), items(pod.spec, "/containers").len())
        })
    };
    let istio = format!("mesh.mode=istio,{strict}");
    assert_eq!(tests(&istio), None, "outside of the mesh nobody would answer");
    assert_eq!(tests(&format!("{istio},mesh.nativeSidecars=true")), Some((String::new(), 2)));
    let linkerd = format!("mesh.mode=linkerd,mesh.nativeSidecars=true,{strict}");
    assert_eq!(tests(&linkerd), Some(("enabled".to_owned(), 2)));
    assert_eq!(tests(&format!("mesh.mode=ambient,{strict}")), Some((String::new(), 2)));
    assert_eq!(tests("mesh.mode=linkerd"), Some(("disabled".to_owned(), 1)), "nothing is refused");

    let objects = render(&[], &["--set", &format!("{istio},mesh.nativeSidecars=true")]);
    let all = pods(&objects);
    let inject = "/labels/sidecar.istio.io~1inject";
    assert_eq!(text(pod_of(&all, "test").metadata, inject), "true");
    assert_eq!(
        text(pod_of(&all, "migrations").metadata, inject),
        "false",
        "the hook is before the mesh's policies"
    );
}

#[test]
fn istio_admits_by_identity_retries_and_leaves_out_broken_servers() {
    let objects = render_example("istio");
    let peers = named(&objects, "PeerAuthentication/rel-observatory");
    assert_eq!(text(peers, "/spec/mtls/mode"), "STRICT");
    let admits = named(&objects, "AuthorizationPolicy/rel-observatory-orchestrator");
    assert_eq!(text(admits, "/spec/action"), "ALLOW");
    let principals = items(admits, "/spec/rules/0/from/0/source/principals");
    assert!(principals.contains(&json!("*/ns/labor/sa/rel-observatory-extractor")));
    assert!(principals.contains(&json!("cluster.local/ns/tools/sa/notebook")));
    let server = named(&objects, "AuthorizationPolicy/rel-observatory-inference");
    assert!(
        !items(server, "/spec/rules/0/from/0/source/principals")
            .contains(&json!("cluster.local/ns/tools/sa/notebook"))
    );
    let rule = named(&objects, "DestinationRule/rel-observatory-inference");
    assert_eq!(rule["spec"]["trafficPolicy"]["outlierDetection"]["consecutiveGatewayErrors"], json!(5));
    let host = text(rule, "/spec/host");
    assert_eq!(host, "rel-observatory-inference.labor.svc.cluster.local");
    let service = named(&objects, "VirtualService/rel-observatory-inference");
    assert_eq!(service["spec"]["hosts"], json!([host]));
    assert_eq!(service["spec"]["http"][0]["retries"]["attempts"], json!(2));

    let without =
        render(&[], &["--set", "mesh.mode=istio,mesh.outlierDetection.consecutiveFailures=0,mesh.retries=0"]);
    assert!(kind(&without, "DestinationRule").is_empty() && kind(&without, "PeerAuthentication").is_empty());
    let service = named(&without, "VirtualService/rel-observatory-inference");
    assert_eq!(service["spec"]["http"][0]["retries"], json!({"attempts": 0}), "or Istio retries by itself");
}

#[test]
fn linkerd_admits_by_identity_and_probes_go_around_it() {
    let objects = render_example("mesh");
    for port in ["grpc", "http"] {
        let name = format!("rel-observatory-inference-{port}");
        let server = named(&objects, &format!("Server/{name}"));
        assert_eq!(text(server, "/spec/port"), port);
        let admits = named(&objects, &format!("AuthorizationPolicy/{name}"));
        assert_eq!(text(admits, "/spec/targetRef/name"), name);
        let required = text(admits, "/spec/requiredAuthenticationRefs/0/name");
        assert_eq!(required, "rel-observatory-inference");
    }
    let known = named(&objects, "MeshTLSAuthentication/rel-observatory-inference");
    let accounts = items(known, "/spec/identityRefs");
    for pod in pods(&objects).iter().filter(|pod| !["inference", "migrations"].contains(&pod.component())) {
        let account = text(pod.spec, "/serviceAccountName");
        assert!(accounts.iter().any(|each| text(each, "/name") == account), "{account} may not call");
    }
    let others = named(&objects, "MeshTLSAuthentication/rel-observatory-inference-others");
    let notebook = json!({"identities": ["notebook.labor.serviceaccount.identity.linkerd.cluster.local"]});
    assert_eq!(others["spec"], notebook, "an object has either accounts or identities");
    let admits = named(&objects, "AuthorizationPolicy/rel-observatory-inference-others-grpc");
    assert_eq!(text(admits, "/spec/targetRef/name"), "rel-observatory-inference-grpc");
    let strict = render(&[], &["--set", "mesh.mode=linkerd,mesh.strictMtls=true"]);
    let everybody = named(&strict, "MeshTLSAuthentication/rel-observatory-orchestrator");
    assert_eq!(everybody["spec"], json!({"identities": ["*"]}));
    let service = named(&objects, "Service/rel-observatory-inference");
    let annotations = &service["metadata"]["annotations"];
    assert_eq!(annotations["retry.linkerd.io/grpc"], json!("unavailable"));
    assert_eq!(annotations["balancer.linkerd.io/failure-accrual"], json!("consecutive"));
    let viz = named(&objects, "NetworkPolicy/rel-observatory-mesh");
    assert_eq!(viz["spec"]["ingress"][0]["ports"], json!([{"port": 4191, "protocol": "TCP"}]));
}

#[test]
fn in_ambient_mode_nodes_encrypt_and_callers_balance() {
    let objects = render_example("ambient");
    let all = pods(&objects);
    let server = pod_of(&all, "inference");
    assert_eq!(text(server.metadata, "/labels/istio.io~1dataplane-mode"), "ambient");
    assert_eq!(text(pod_of(&all, "schedule").metadata, "/labels/istio.io~1dataplane-mode"), "ambient");
    assert_eq!(text(pod_of(&all, "migrations").metadata, "/labels/istio.io~1dataplane-mode"), "none");
    let hbone = json!({"port": 15008, "protocol": "TCP"});
    for (policy, way) in [("to-inference", "ingress"), ("to-orchestrator", "ingress"), ("calls", "egress")] {
        let policy = named(&objects, &format!("NetworkPolicy/rel-observatory-{policy}"));
        assert!(items(policy, &format!("/spec/{way}/0/ports")).contains(&hbone), "{policy}");
    }
    let probes = named(&objects, "NetworkPolicy/rel-observatory-mesh");
    assert_eq!(text(probes, "/spec/ingress/0/from/0/ipBlock/cidr"), "169.254.7.127/32");
    let caller = &pod_of(&all, "embedder").spec["containers"][0];
    let address = crate::manifest::env(caller, "OBSERVATORY_INFERENCE").expect("an address");
    assert!(address.contains("-inference-headless."), "nobody balances requests but the caller: {address}");
    let peers = named(&objects, "PeerAuthentication/rel-observatory");
    assert_eq!(peers["spec"]["portLevelMtls"]["9464"]["mode"], json!("PERMISSIVE"));
}
