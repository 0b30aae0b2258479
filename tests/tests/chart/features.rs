//! What values turn on: kinds of GPU, scale, doors, schedules, databases and extensions.

use serde_json::{Value, json};

use crate::helm::{chart, examples, notes, render, render_example};
use crate::manifest::{env, id, items, kind, named, pods, text};
use crate::policy;

/// The pod of a Deployment.
fn pod<'a>(objects: &'a [Value], component: &str) -> &'a Value {
    let deployment = named(objects, &format!("Deployment/rel-observatory-{component}"));
    &deployment["spec"]["template"]["spec"]
}

#[test]
fn a_profile_says_everything_about_a_gpu() {
    let objects = render_example("gpu-profile");
    let pod = pod(&objects, "inference");
    let server = &pod["containers"][0];
    assert_eq!(server["resources"]["limits"]["nvidia.com/mig-1g.10gb"], json!("1"));
    assert_eq!(server["image"], json!("observatory/observatory:0.1.0-cuda-sm80"));
    assert_eq!(pod["runtimeClassName"], json!("nvidia"));
    let capability = json!({"nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "0"});
    assert_eq!(pod["nodeSelector"], capability);
    // The profile's and the global one; no CPU limit.
    assert_eq!(items(pod, "/tolerations").len(), 2);
    assert!(server["resources"]["limits"].get("cpu").is_none());
    let deployment = named(&objects, "Deployment/rel-observatory-inference");
    assert!(deployment["spec"].get("replicas").is_none(), "the autoscaler's affair");
}

#[test]
fn placement_is_the_components_own_or_else_the_global_one() {
    let set = "global.scheduling.priorityClassName=all,global.scheduling.nodeSelector.a=b,\
               workers.analyzer.priorityClassName=mine,workers.analyzer.nodeSelector.c=d";
    let objects = render(&[], &["--set", set]);
    let of = |component: &str| {
        let pod = pod(&objects, component);
        (pod["priorityClassName"].clone(), pod["nodeSelector"].clone())
    };
    assert_eq!(of("analyzer"), (json!("mine"), json!({"c": "d"})));
    assert_eq!(of("extractor"), (json!("all"), json!({"a": "b"})));
    for pod in pods(&objects) {
        assert_ne!(pod.spec.get("priorityClassName"), None, "{}", pod.owner);
    }
    assert_eq!(named(&objects, "Deployment/rel-observatory-extractor")["spec"]["minReadySeconds"], json!(5));
    let spread = text(pod(&objects, "extractor"), "/topologySpreadConstraints/0/whenUnsatisfiable");
    assert_eq!(spread, "ScheduleAnyway", "replicas are on several nodes where there are some");
}

#[test]
fn scale_follows_metrics_that_the_server_has() {
    let keda = render_example("gpu-profile");
    let scaled = named(&keda, "ScaledObject/rel-observatory-inference");
    assert_eq!(scaled["spec"]["minReplicaCount"], json!(2));
    let query = text(scaled, "/spec/triggers/0/metadata/query");
    let expected =
        "sum(observatory_inference_queued_tokens{namespace=\"labor\",pod=~\"rel-observatory-inference-.+\"})";
    assert_eq!(query, expected);
    assert_eq!(text(scaled, "/spec/triggers/0/metadata/threshold"), "50000");
    assert!(kind(&keda, "HorizontalPodAutoscaler").is_empty());

    let hpa = render_example("istio");
    let scaled = named(&hpa, "HorizontalPodAutoscaler/rel-observatory-inference");
    let metric = "/spec/metrics/0/pods/metric/name";
    assert_eq!(text(scaled, metric), "observatory_inference_queued_tokens");
    assert_eq!(text(scaled, "/spec/scaleTargetRef/name"), "rel-observatory-inference");
    assert!(kind(&hpa, "ScaledObject").is_empty());
}

#[test]
fn the_inference_server_alone_has_doors_a_test_and_nothing_else() {
    let objects = render_example("inference-alone");
    let components: Vec<_> = pods(&objects).iter().map(|pod| pod.component().to_owned()).collect();
    assert_eq!(components, ["inference", "test"]);
    let server = &pod(&objects, "inference")["containers"][0];
    assert_eq!(env(server, "OBSERVATORY_INFERENCE_HTTP_LISTEN"), Some("[::]:8080"));
    let service = named(&objects, "Service/rel-observatory-inference");
    let ports = items(service, "/spec/ports");
    let http = ports.iter().find(|port| text(port, "/name") == "http").expect("the HTTP port");
    assert_eq!((&http["port"], &http["appProtocol"]), (&json!(8080), &json!("https")));
    let policy = named(&objects, "NetworkPolicy/rel-observatory-inference-http");
    assert_eq!(policy["spec"]["ingress"][0]["ports"], json!([{"port": 8080, "protocol": "TCP"}]));
    assert_eq!(
        text(policy, "/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name"),
        "ingress-nginx"
    );
    let route = named(&objects, "GRPCRoute/rel-observatory-inference");
    let backend = json!([{"name": "rel-observatory-inference", "port": 50051}]);
    assert_eq!(route["spec"]["rules"][0]["backendRefs"], backend);
    let ingress = named(&objects, "Ingress/rel-observatory-inference");
    assert_eq!(text(ingress, "/spec/rules/0/http/paths/0/backend/service/port/name"), "http");
    assert_eq!(text(ingress, "/spec/tls/0/secretName"), "openai-certificate");

    let closed = render(&[], &[]);
    assert!(env(&pod(&closed, "inference")["containers"][0], "OBSERVATORY_INFERENCE_HTTP_LISTEN").is_none());
}

#[test]
fn schedules_start_runs_through_the_orchestrator() {
    let objects = render_example("ambient");
    let cron = named(&objects, "CronJob/rel-observatory-nightly");
    assert_eq!(text(cron, "/spec/timeZone"), "America/Bogota");
    assert_eq!(text(cron, "/spec/concurrencyPolicy"), "Forbid");
    let job = &cron["spec"]["jobTemplate"]["spec"];
    assert_eq!(job["backoffLimit"], json!(0), "a run that was started is not started again");
    let container = &job["template"]["spec"]["containers"][0];
    assert_eq!(
        container["args"],
        json!([
            "run",
            "start",
            "--json",
            "--no-start",
            "--since",
            "2d",
            "--country",
            "CO",
            "--country",
            "MX",
            "--stages",
            "extract,enhance,embed",
            "--watch"
        ])
    );
    let address = "http://rel-observatory-orchestrator.labor.svc:50051";
    assert_eq!(env(container, "OBSERVATORY_ENDPOINT"), Some(address));
    assert_eq!(
        env(container, "OBSERVATORY_ENDPOINT_TOKEN_FILE"),
        Some("/etc/observatory/endpoint-token/token")
    );
    assert_eq!(env(container, "OBSERVATORY_ENDPOINT_PLAINTEXT_TOKEN"), Some("true"), "the mesh encrypts");
    let calls = named(&objects, "NetworkPolicy/rel-observatory-calls");
    let callers = items(calls, "/spec/podSelector/matchExpressions/0/values");
    assert!(callers.contains(&json!("schedule")), "its pods may call");
}

#[test]
fn a_cluster_of_cloudnativepg_comes_with_what_the_migrations_need() {
    let objects = render_example("cnpg");
    let cluster = named(&objects, "Cluster/rel-observatory-db");
    assert_eq!(text(cluster, "/metadata/annotations/helm.sh~1resource-policy"), "keep");
    assert_eq!(cluster["spec"]["postgresql"]["parameters"]["max_connections"], json!("200"));
    let sql = items(cluster, "/spec/bootstrap/initdb/postInitApplicationSQL");
    let docs = std::fs::read_to_string(crate::helm::root().join("docs/configuration.md")).expect("the docs");
    for role in ["obs_owner", "obs_writer", "obs_reader"] {
        assert!(
            docs.contains(&format!("create role {role}"))
                && sql.contains(&json!(format!("create role {role}")))
        );
    }
    let extractor = &pod(&objects, "extractor")["containers"][0];
    let url = items(extractor, "/env").iter().find(|entry| text(entry, "/name") == "DATABASE_URL");
    let secret = json!({"name": "rel-observatory-db-app", "key": "uri"});
    assert_eq!(url.expect("the URL")["valueFrom"]["secretKeyRef"], secret);
    assert_eq!(env(extractor, "PGSSLMODE"), Some("verify-full"));
    let volumes = items(pod(&objects, "extractor"), "/volumes");
    let ca = volumes.iter().find(|volume| text(volume, "/name") == "database-ca").expect("the roots");
    assert_eq!(text(ca, "/secret/secretName"), "rel-observatory-db-ca");
    let way = named(&objects, "NetworkPolicy/rel-observatory-database");
    let label = "/spec/egress/0/to/0/podSelector/matchLabels/cnpg.io~1cluster";
    assert_eq!(text(way, label), "rel-observatory-db");
    let backup = named(&objects, "ScheduledBackup/rel-observatory-db");
    assert_eq!(text(backup, "/spec/method"), "volumeSnapshot");

    let shared = render_example("operations");
    assert!(kind(&shared, "Cluster").is_empty());
    let database = named(&shared, "Database/rel-observatory-db");
    assert_eq!(text(database, "/spec/cluster/name"), "shared");
    assert_eq!(text(database, "/spec/extensions/0/name"), "vector");
}

#[test]
fn what_people_add_is_in_the_pod_and_stays_restricted() {
    let objects = render_example("extensions");
    let deployment = named(&objects, "Deployment/rel-observatory-extractor");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [("team", "labor"), ("cost-center", "42"), ("tier", "cpu")] {
        assert_eq!(labels[key], json!(value));
    }
    let pod = pod(&objects, "extractor");
    assert_eq!(pod["schedulerName"], json!("batch"));
    assert_eq!(pod["dnsConfig"]["options"], json!([{"name": "ndots", "value": "2"}]));
    let init: Vec<&str> = items(pod, "/initContainers").iter().map(|each| text(each, "/name")).collect();
    assert_eq!(init, ["wait-for-schema", "prepare"]);
    let shipper = &pod["containers"][1];
    assert_eq!(shipper["securityContext"]["readOnlyRootFilesystem"], json!(true));
    let mounts = items(&pod["containers"][0], "/volumeMounts");
    assert!(mounts.iter().any(|mount| text(mount, "/mountPath") == "/etc/observatory/lexicon"));
    assert_eq!(named(&objects, "ConfigMap/rel-notes")["data"]["chart"], json!("observatory"));
    for object in objects
        .iter()
        .filter(|object| !["our-lexicon", "rel-notes"].contains(&text(object, "/metadata/name")))
    {
        assert_eq!(text(object, "/metadata/labels/team"), "labor", "{}", id(object));
    }
}

/// The text of observatory.toml.
fn configuration(arguments: &[&str]) -> toml::Table {
    let objects = render(&[], arguments);
    assert_eq!(policy::broken(&objects), Vec::<String>::new());
    let map = named(&objects, "ConfigMap/rel-observatory-config");
    text(map, "/data/observatory.toml").parse().expect("TOML")
}

#[test]
fn the_configuration_agrees_with_the_workers() {
    let set = "modules.extractor.batch_size=50,modules.scraper.settings.contact=me@example.org,\
               modules.scraper.settings.queries={a,b},workers.scraper.enabled=true,workers.enhancer.enabled=false";
    let text = "config=\"[modules.extractor]\\nbatch_size = 7\\nmax_retries = 3\\n[modules.analyzer.settings]\\nseed = 5\"";
    let read = configuration(&["--set", set, "--set-json", text]);
    let modules = read["modules"].as_table().expect("modules");
    let enabled = |name: &str| modules[name]["enabled"].as_bool().expect("a boolean");
    assert!(enabled("scraper") && enabled("extractor") && !enabled("enhancer"));
    let extractor = &modules["extractor"];
    assert_eq!(extractor["batch_size"].as_integer(), Some(50), "the map wins, and its numbers stay whole");
    assert_eq!(extractor["max_retries"].as_integer(), Some(3));
    assert_eq!(modules["analyzer"]["settings"]["seed"].as_integer(), Some(5));
    assert_eq!(modules["scraper"]["settings"]["queries"].as_array().map(Vec::len), Some(2));
    let defaults = configuration(&[]);
    assert_eq!(defaults["modules"]["scraper"]["enabled"].as_bool(), Some(false), "nobody answers for it");
}

#[test]
fn pods_restart_when_what_they_read_at_the_start_changes() {
    let sum = |arguments: &[&str], name: &str| {
        let objects = render(&[], arguments);
        let deployment = named(&objects, "Deployment/rel-observatory-embedder").clone();
        text(&deployment, &format!("/spec/template/metadata/annotations/checksum~1{name}")).to_owned()
    };
    let plain = sum(&[], "config");
    assert_ne!(plain, sum(&["--set", "modules.embedder.batch_size=9"], "config"));
    assert_eq!(sum(&[], "database"), "");
    let url = |url: &str| format!("migrations.mode=job,database.existingSecret.name=,database.url={url}");
    let first = sum(&["--set", &url("postgres://a@h/x")], "database");
    assert!(!first.is_empty() && first != sum(&["--set", &url("postgres://b@h/x")], "database"));
    assert_ne!(
        sum(&["--set-string", "database.revision=1"], "database"),
        sum(&["--set-string", "database.revision=2"], "database")
    );
    let objects = render(&[], &["--set", "database.reloader=true"]);
    let secret = "/metadata/annotations/secret.reloader.stakater.com~1reload";
    assert_eq!(text(named(&objects, "Deployment/rel-observatory-embedder"), secret), "observatory-database");
}

#[test]
fn the_notes_say_what_to_do_next() {
    let said = notes(&[]);
    // Five workers and the orchestrator, and one pod more of each during an upgrade.
    assert!(said.contains("5 for each of 12 pods, 60 of 100"), "{said}");
    assert!(said.contains("helm test --namespace labor rel") && said.contains("longer, its default is 5m"));
    assert!(said.contains("nobody may call it yet"));
    let alone = notes(&["--set", "orchestrator.enabled=false,inference.http.enabled=true"]);
    assert!(alone.contains("helm test") && alone.contains("networkPolicy.inference.httpFrom"), "{alone}");
    let strict = notes(&["--set", "mesh.mode=istio,mesh.strictMtls=true"]);
    assert!(strict.contains("helm test asks nothing without mesh.nativeSidecars"), "{strict}");
}

#[test]
fn every_example_is_in_the_readme() {
    let readme = std::fs::read_to_string(chart().join("README.md")).expect("README.md");
    for file in examples() {
        let name = format!("ci/{}", file.file_name().expect("a name").display());
        assert!(readme.contains(&name), "{name}");
    }
}

#[test]
fn servers_listen_on_both_families_and_the_embedder_keeps_its_vectors() {
    let objects = render(&[], &[]);
    let embedder = &pod(&objects, "embedder")["containers"][0];
    assert_eq!(env(embedder, "OBSERVATORY_LISTEN"), Some("[::]:50051"));
    assert_eq!(env(embedder, "OBSERVATORY_CACHE"), Some("/cache"));
    let extractor = &pod(&objects, "extractor")["containers"][0];
    assert_eq!(env(extractor, "OBSERVATORY_CACHE"), None);
    let without = render(&[], &["--set", "listenAddress=0.0.0.0,workers.embedder.cache.enabled=false"]);
    let embedder = &pod(&without, "embedder")["containers"][0];
    assert_eq!(env(embedder, "OBSERVATORY_METRICS_LISTEN"), Some("0.0.0.0:9464"));
    assert_eq!(env(embedder, "OBSERVATORY_CACHE"), None);
}
