//! TLS, client certificates and tokens between the pipeline services and the inference server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{render, render_example, render_text};
use crate::manifest::{Pod, env, items, named, pods, text};
use crate::policy;

/// The file of a mounted volume that a variable names: the Secret and the key it comes from.
fn source<'a>(pod: &Pod<'a>, container: &'a Value, variable: &str) -> Option<(&'a str, &'a str)> {
    let file = env(container, variable)?;
    let (folder, name) = file.rsplit_once('/').expect("an absolute path");
    let mount = items(container, "/volumeMounts").iter().find(|mount| text(mount, "/mountPath") == folder);
    let mount = mount.unwrap_or_else(|| panic!("{}: {file} is not mounted", pod.owner));
    assert!(mount.get("subPath").is_none(), "{}: {file} would never be renewed", pod.owner);
    assert_eq!(mount["readOnly"], json!(true), "{}: {file}", pod.owner);
    let volume = items(pod.spec, "/volumes").iter().find(|volume| volume.get("name") == mount.get("name"));
    let secret = &volume.unwrap_or_else(|| panic!("{}: no volume for {file}", pod.owner))["secret"];
    let item = items(secret, "/items").iter().find(|item| text(item, "/path") == name).expect("the file");
    Some((text(secret, "/secretName"), text(item, "/key")))
}

/// The container of a pod that has a variable.
fn with_variable<'a>(pod: &Pod<'a>, variable: &str) -> Option<&'a Value> {
    pod.containers().find(|container| env(container, variable).is_some())
}

#[test]
fn every_caller_speaks_tls_and_shows_what_the_values_name() {
    let objects = render_example("tls");
    let all = pods(&objects);
    let server = all.iter().find(|pod| pod.component() == "inference").expect("the inference server");
    let container = &server.spec["containers"][0];
    let expected = [
        ("OBSERVATORY_INFERENCE_TLS_CERT", ("inference-certificate", "tls.crt")),
        ("OBSERVATORY_INFERENCE_TLS_KEY", ("inference-certificate", "tls.key")),
        ("OBSERVATORY_INFERENCE_TLS_CLIENT_CA", ("callers-ca", "ca.crt")),
        ("OBSERVATORY_INFERENCE_CLIENTS_FILE", ("inference-clients", "clients.toml")),
    ];
    for (variable, from) in expected {
        assert_eq!(source(server, container, variable), Some(from), "{variable}");
    }
    let callers: Vec<_> =
        all.iter().filter_map(|pod| Some((pod, with_variable(pod, "OBSERVATORY_INFERENCE")?))).collect();
    let components: BTreeSet<&str> = callers.iter().map(|(pod, _)| pod.component()).collect();
    assert_eq!(components.len(), 7, "five workers, the orchestrator and the test: {components:?}");
    for (pod, container) in callers {
        let address = "https://rel-observatory-inference-headless.labor.svc:50051";
        assert_eq!(env(container, "OBSERVATORY_INFERENCE"), Some(address), "{}", pod.owner);
        let expected = [
            ("OBSERVATORY_INFERENCE_CA", ("inference-certificate", "ca.crt")),
            ("OBSERVATORY_INFERENCE_CERT", ("pipeline-certificate", "tls.crt")),
            ("OBSERVATORY_INFERENCE_KEY", ("pipeline-certificate", "tls.key")),
            ("OBSERVATORY_INFERENCE_TOKEN_FILE", ("pipeline-token", "token")),
        ];
        for (variable, from) in expected {
            assert_eq!(source(pod, container, variable), Some(from), "{}: {variable}", pod.owner);
        }
        assert_eq!(env(container, "OBSERVATORY_INFERENCE_PLAINTEXT_TOKEN"), None, "{}", pod.owner);
        let volumes = items(pod.spec, "/volumes").iter().map(|volume| &volume["secret"]);
        let servers = volumes.filter(|secret| secret["secretName"] == json!("inference-certificate"));
        for secret in servers {
            let keys = items(secret, "/items").iter().any(|item| text(item, "/key") == "tls.key");
            assert!(!keys, "{} holds the server's key", pod.owner);
        }
    }
    for name in ["inference", "inference-headless"] {
        let service = named(&objects, &format!("Service/rel-observatory-{name}"));
        assert_eq!(service["spec"]["ports"][0]["appProtocol"], json!("https"), "{name}");
    }
}

#[test]
fn the_pipelines_services_know_their_callers() {
    let objects = render_example("tls");
    let all = pods(&objects);
    let servers: Vec<_> =
        all.iter().filter_map(|pod| Some((pod, with_variable(pod, "OBSERVATORY_ANONYMOUS")?))).collect();
    assert_eq!(servers.len(), 6, "five workers and the orchestrator");
    for (pod, container) in servers {
        let expected = [
            ("OBSERVATORY_TLS_CERT", ("pipeline-server-certificate", "tls.crt")),
            ("OBSERVATORY_TLS_KEY", ("pipeline-server-certificate", "tls.key")),
            ("OBSERVATORY_TLS_CLIENT_CA", ("people-ca", "ca.crt")),
            ("OBSERVATORY_CLIENTS_FILE", ("pipeline-clients", "clients.toml")),
        ];
        for (variable, from) in expected {
            assert_eq!(source(pod, container, variable), Some(from), "{}: {variable}", pod.owner);
        }
        assert_eq!(env(container, "OBSERVATORY_ANONYMOUS"), Some("none"), "{}", pod.owner);
        let service = named(&objects, &format!("Service/rel-observatory-{}", pod.component()));
        assert_eq!(service["spec"]["ports"][0]["appProtocol"], json!("https"), "{}", pod.owner);
    }
    let test = all.iter().find(|pod| pod.component() == "test").expect("the test");
    let asks = with_variable(test, "OBSERVATORY_ENDPOINT").expect("it asks the orchestrator");
    let address = "https://rel-observatory-orchestrator.labor.svc:50051";
    assert_eq!(env(asks, "OBSERVATORY_ENDPOINT"), Some(address));
    let expected = [
        ("OBSERVATORY_ENDPOINT_CA", ("pipeline-server-certificate", "ca.crt")),
        ("OBSERVATORY_ENDPOINT_CERT", ("tester-certificate", "tls.crt")),
        ("OBSERVATORY_ENDPOINT_KEY", ("tester-certificate", "tls.key")),
        ("OBSERVATORY_ENDPOINT_TOKEN_FILE", ("tester-token", "token")),
    ];
    for (variable, from) in expected {
        assert_eq!(source(test, asks, variable), Some(from), "{variable}");
    }
}

#[test]
fn by_default_nobody_calls_the_pipelines_services() {
    let asked = |set: &str| {
        let objects = render(&[], &["--set", set]);
        assert_eq!(policy::broken(&objects), Vec::<String>::new(), "{set}");
        let all = pods(&objects);
        let orchestrator =
            all.iter().find(|pod| pod.component() == "orchestrator").expect("the orchestrator");
        let anonymous = env(&orchestrator.spec["containers"][0], "OBSERVATORY_ANONYMOUS").unwrap_or_default();
        let test = all.iter().find(|pod| pod.component() == "test");
        let asks = test.is_some_and(|pod| with_variable(pod, "OBSERVATORY_ENDPOINT").is_some());
        (anonymous.to_owned(), asks)
    };
    let expected = |anonymous: &str, asks| (anonymous.to_owned(), asks);
    assert_eq!(asked("nameOverride="), expected("none", false));
    assert_eq!(asked("pipeline.anonymous={read,run}"), expected("read,run", true));
    assert_eq!(asked("pipeline.anonymous={import}"), expected("import", false));
    // Without TLS the token would cross the network in the clear.
    let token = "pipeline.clients.existingSecret=c,pipeline.credentials.token.existingSecret=t";
    assert_eq!(asked(token), expected("none", false));
    assert_eq!(asked(&format!("{token},pipeline.tls.existingSecret=s")), expected("none", true));
    // No test is left, and no pod without containers.
    assert_eq!(asked("inference.enabled=false"), expected("none", false));
}

#[test]
fn probes_of_a_server_with_tls_are_http() {
    let mut objects = render_example("tls");
    assert_eq!(policy::broken(&objects), Vec::<String>::new());
    for object in &mut objects {
        let probe = "/spec/template/spec/containers/0/readinessProbe";
        if let Some(probe) = object.pointer_mut(probe).filter(|probe| probe.get("httpGet").is_some()) {
            assert_eq!(probe["httpGet"], json!({"port": "metrics", "path": "/readyz"}));
            *probe = json!({"grpc": {"port": 50051, "service": "ready"}});
        }
    }
    let broken = policy::broken(&objects);
    assert_eq!(broken.len(), 7, "each gRPC probe is noticed: {broken:?}");
}

#[test]
fn parts_of_it_by_themselves() {
    let check = |set: &str, variable: &str, expected: Option<(&str, &str)>| {
        let objects = render(&[], &["--set", set]);
        assert_eq!(policy::broken(&objects), Vec::<String>::new(), "{set}");
        let all = pods(&objects);
        let pod = all.iter().find(|pod| pod.component() == "embedder").expect("the embedder");
        assert_eq!(source(pod, &pod.spec["containers"][0], variable), expected, "{set}");
    };
    let tls = "inference.tls.existingSecret=s";
    check(tls, "OBSERVATORY_INFERENCE_CA", Some(("s", "ca.crt")));
    check(tls, "OBSERVATORY_INFERENCE_CERT", None);
    check(tls, "OBSERVATORY_INFERENCE_TOKEN_FILE", None);
    let roots = format!("{tls},inference.tls.ca.existingSecret=roots,inference.tls.ca.key=root.pem");
    check(&roots, "OBSERVATORY_INFERENCE_CA", Some(("roots", "root.pem")));
    let token =
        format!("{tls},inference.clients.existingSecret=c,inference.credentials.token.existingSecret=t");
    check(&token, "OBSERVATORY_INFERENCE_TOKEN_FILE", Some(("t", "token")));
}

#[test]
fn in_a_mesh_it_stays_plain_and_the_mesh_encrypts_the_token() {
    let secrets = "inference.clients.existingSecret=c,inference.credentials.token.existingSecret=t";
    for mesh in ["linkerd", "istio"] {
        let set = format!("mesh.mode={mesh},{secrets}");
        let objects = render(&[], &["--set", &set]);
        assert_eq!(policy::broken(&objects), Vec::<String>::new(), "{mesh}");
        let all = pods(&objects);
        let callers: Vec<_> =
            all.iter().filter_map(|pod| Some((pod, with_variable(pod, "OBSERVATORY_INFERENCE")?))).collect();
        assert_eq!(callers.len(), 6, "the test is outside of the mesh: it does not show the token");
        for (pod, container) in callers {
            let address = "http://rel-observatory-inference.labor.svc:50051";
            assert_eq!(env(container, "OBSERVATORY_INFERENCE"), Some(address), "{}", pod.owner);
            assert_eq!(source(pod, container, "OBSERVATORY_INFERENCE_TOKEN_FILE"), Some(("t", "token")));
            assert_eq!(env(container, "OBSERVATORY_INFERENCE_PLAINTEXT_TOKEN"), Some("true"));
        }
        let service = named(&objects, "Service/rel-observatory-inference");
        assert_eq!(service["spec"]["ports"][0]["appProtocol"], json!("grpc"));
    }
    let plain = render_text(&[], &[]).expect("the defaults render");
    assert!(
        !plain.contains("OBSERVATORY_INFERENCE_TOKEN") && !plain.contains("https://"),
        "nothing by default"
    );
}
