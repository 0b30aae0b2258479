//! The Helm chart, rendered by the real helm and checked against the real Kubernetes schemas.
//!
//! Needs no cluster: admission, defaulting, quotas and scheduling are not covered here.

#[path = "chart/combinations.rs"]
mod combinations;
#[path = "chart/features.rs"]
mod features;
#[path = "chart/helm.rs"]
mod helm;
#[path = "chart/image.rs"]
mod image;
#[path = "chart/manifest.rs"]
mod manifest;
#[path = "chart/mesh.rs"]
mod mesh;
#[path = "chart/monitoring.rs"]
mod monitoring;
#[path = "chart/network.rs"]
mod network;
#[path = "chart/policy.rs"]
mod policy;
#[path = "chart/refused.rs"]
mod refused;
#[path = "chart/tls.rs"]
mod tls;
#[path = "chart/values.rs"]
mod values;

use serde_json::{Value, json};

use helm::{KUBERNETES, example, examples, render, render_example, render_text};
use manifest::{env, id, items, kind, named, pods, text};

#[test]
fn lints_strictly_with_every_example() {
    for file in examples() {
        let said = helm::lint(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{}: {said}", file.display());
    }
}

/// Checks every example; what several of them render is checked once.
fn fits_the_schemas_of(version: &str) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let examples = examples();
    assert!(examples.len() >= 14, "only {} examples", examples.len());
    let mut seen = std::collections::BTreeSet::new();
    let mut files = Vec::new();
    for values in examples {
        let text = render_text(&[&values], &["--kube-version", &format!("{version}.0")])
            .unwrap_or_else(|error| panic!("{}: {error}", values.display()));
        let documents: Vec<&str> =
            text.split("---\n").filter(|text| seen.insert((*text).to_owned())).collect();
        let file = folder.path().join(values.file_name().expect("file name"));
        std::fs::write(&file, documents.join("---\n")).expect("write a manifest");
        files.push(file);
    }
    helm::validate(version, &files).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn fits_the_schemas_of_the_oldest_kubernetes() {
    fits_the_schemas_of(KUBERNETES[0]);
}

#[test]
fn fits_the_schemas_of_a_middle_kubernetes() {
    fits_the_schemas_of(KUBERNETES[1]);
}

#[test]
fn fits_the_schemas_of_the_newest_kubernetes() {
    fits_the_schemas_of(KUBERNETES[2]);
}

#[test]
fn the_validator_refuses_wrong_objects_and_unknown_kinds() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let check = |object: Value, expected: &str| {
        let file = folder.path().join("object.yaml");
        std::fs::write(&file, object.to_string()).expect("write an object");
        let error = helm::validate("1.34", &[file]).expect_err("the object is wrong");
        assert!(error.contains(expected), "{expected:?} is not in {error}");
    };
    let metadata = json!({"name": "x"});
    check(
        json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": metadata}),
        "no schema in Kubernetes 1.34 for policy/v1beta1 PodDisruptionBudget",
    );
    check(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
               "spec": {"containers": [{"name": "x", "image": "x", "imagePullPolcy": "Never"}]}}),
        "imagePullPolcy",
    );
    let said = "WARN x.yaml Couldn't find schema for kind ServiceMonitor with api version monitoring.coreos.com/v1 for";
    assert!(helm::unknown_kinds(said).is_empty());
}

#[test]
fn every_example_keeps_every_rule() {
    for file in examples() {
        let broken = policy::broken(&render(&[&file], &[]));
        assert!(broken.is_empty(), "{}:\n{}", file.display(), broken.join("\n"));
    }
}

/// Ways to break a good release: the rule that must notice, the object, the place in it, the new
/// value.
const BREAKS: &str = r#"
restricted security | Deployment/rel-observatory-inference | /spec/template/spec/containers/0/securityContext | {}
restricted security | Deployment/rel-observatory-extractor | /spec/template/spec/initContainers/0/securityContext | {}
restricted security | Pod/rel-observatory-test | /spec/containers/0/volumeMounts | []
requests and limits | Job/rel-observatory-migrations-1 | /spec/template/spec/containers/0/resources/limits | {}
requests and limits | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/resources/requests/cpu | "5"
requests and limits | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/resources/requests/memory | "9Gi"
probes | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/readinessProbe/grpc/service | ""
probes | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/startupProbe/grpc/port | 1
grace period | Deployment/rel-observatory-extractor | /spec/template/spec/terminationGracePeriodSeconds | 44
pinned images | Deployment/rel-observatory-extractor | /spec/template/spec/containers/0/image | "host:5000/a"
pinned images | Deployment/rel-observatory-extractor | /spec/template/spec/containers/0/image | "a:latest"
disruption budgets | Deployment/rel-observatory-inference | /spec/replicas | 1
disruption budgets | Deployment/rel-observatory-analyzer | /spec/replicas | 2
disruption budgets | PodDisruptionBudget/rel-observatory-inference | /spec/unhealthyPodEvictionPolicy | "IfHealthyBudget"
rollouts | Deployment/rel-observatory-reporter | /spec/strategy | {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
rollouts | Deployment/rel-observatory-reporter | /spec/strategy | {"type": "Recreate"}
rollouts | Deployment/rel-observatory-extractor | /spec/strategy | {"type": "RollingUpdate"}
unique names | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/env/0/name | "HOME"
unique names | Deployment/rel-observatory-analyzer | /metadata/name | "rel-observatory-reporter"
unique names | Deployment/rel-observatory-analyzer | /spec/template/spec/volumes/1/name | "tmp"
unique names | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/volumeMounts/1/mountPath | "/tmp"
volumes | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/volumeMounts/1/name | "tmp"
volumes | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/volumeMounts/1/name | "config2"
volumes | Deployment/rel-observatory-analyzer | /spec/template/spec/volumes/0 | {"name": "tmp", "hostPath": {"path": "/"}}
denied by default | Deployment/rel-observatory-analyzer | /spec/template/metadata/labels/app.kubernetes.io~1instance | "other"
no service account tokens | ServiceAccount/rel-observatory-analyzer | /automountServiceAccountToken | true
stable selectors | Deployment/rel-observatory-analyzer | /spec/selector/matchLabels | {"version": "1"}
services reach a port | Service/rel-observatory-analyzer | /spec/ports/0/targetPort | "http"
strings are strings | Deployment/rel-observatory-analyzer | /metadata/labels | {"on": true}
strings are strings | Deployment/rel-observatory-analyzer | /spec/template/spec/containers/0/env/0/value | 5
"#;

#[test]
fn every_rule_can_fail() {
    let two =
        "migrations.mode=job,inference.replicas=2,inference.models.volume.pvc.accessModes={ReadWriteMany}";
    let good = render(&[], &["--set", two]);
    assert_eq!(policy::broken(&good), Vec::<String>::new());
    let mut shown = std::collections::BTreeSet::new();
    for line in BREAKS.lines().filter(|line| !line.is_empty()) {
        let [rule, object, pointer, value] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let mut objects = good.clone();
        let target = objects.iter_mut().find(|candidate| id(candidate) == object).expect(object);
        *target.pointer_mut(pointer).expect(line) = serde_json::from_str(value).expect(line);
        let broken = policy::broken(&objects);
        assert!(broken.iter().any(|what| what.starts_with(rule)), "{line}: {broken:?}");
        shown.insert(rule);
    }
    assert_eq!(shown.len(), policy::RULES.len(), "each rule is shown to fail");
}

#[test]
fn every_mix_of_mesh_migrations_and_volume_keeps_every_rule() {
    let mixes = ["none", "linkerd", "istio"].into_iter().flat_map(|mesh| {
        [("hook", "pvc"), ("job", "emptyDir"), ("off", "existingClaim")]
            .map(|(mode, volume)| (mesh, mode, volume))
    });
    for (mesh, mode, volume) in mixes {
        let mut arguments = vec!["--set".to_owned(), format!("mesh.mode={mesh},migrations.mode={mode}")];
        for place in ["inference.models.volume", "workers.reporter.volume"] {
            let claim = if volume == "existingClaim" { "mine" } else { "" };
            arguments
                .extend(["--set".into(), format!("{place}.type={volume},{place}.existingClaim={claim}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let broken = policy::broken(&render(&[], &arguments));
        assert!(broken.is_empty(), "{mesh} {mode} {volume}:\n{}", broken.join("\n"));
    }
}

#[test]
fn gpu_values_ask_for_the_gpu_its_node_and_the_models() {
    let objects = render_example("gpu");
    let spec = &named(&objects, "Deployment/rel-observatory-inference")["spec"];
    let pod = &spec["template"]["spec"];
    let server = &pod["containers"][0];
    for kind in ["requests", "limits"] {
        assert_eq!(server["resources"][kind]["nvidia.com/gpu"], json!("1"), "{kind}");
    }
    assert_eq!(
        pod["tolerations"],
        json!([
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "dedicated", "operator": "Equal", "value": "inference", "effect": "NoSchedule"},
        ])
    );
    assert_eq!(pod["nodeSelector"], json!({"nvidia.com/gpu.present": "true"}));
    assert_eq!(pod["runtimeClassName"], json!("nvidia"));
    assert_eq!(spec["strategy"], json!({"type": "Recreate", "rollingUpdate": null}));
    assert_eq!(server["image"], json!("observatory/observatory:0.1.0-cuda"));
    assert_eq!(env(server, "OBSERVATORY_INFERENCE_DEVICE"), Some("cuda"));
    let models = "intfloat/multilingual-e5-base,jjzha/escoxlmr_skill_extraction";
    assert_eq!(env(server, "OBSERVATORY_INFERENCE_MODEL"), Some(models));
    assert_eq!(server["startupProbe"]["failureThreshold"], json!(121), "1205 s in steps of 10 s");
    assert_eq!(pod["terminationGracePeriodSeconds"], json!(80), "5 + 60 + 15");

    let volume =
        |name| items(pod, "/volumes").iter().find(|volume| text(volume, "/name") == name).expect(name);
    assert_eq!(volume("models")["persistentVolumeClaim"]["claimName"], json!("rel-observatory-models"));
    assert_eq!(volume("shm")["emptyDir"], json!({"medium": "Memory", "sizeLimit": "1Gi"}));
    let mount = |path| items(server, "/volumeMounts").iter().any(|mount| text(mount, "/mountPath") == path);
    assert!(mount(env(server, "OBSERVATORY_MODELS").expect("the model store")) && mount("/dev/shm"));
    let claim = named(&objects, "PersistentVolumeClaim/rel-observatory-models");
    assert_eq!(claim["metadata"]["annotations"]["helm.sh/resource-policy"], json!("keep"));
    assert_eq!(claim["spec"]["storageClassName"], json!("fast-local"));
}

#[test]
fn a_gpu_slice_replaces_the_whole_gpu_and_no_gpu_leaves_no_trace() {
    let slice = "inference.gpu.enabled=true,inference.gpu.resourceName=nvidia.com/mig-1g\\.10gb";
    let objects = render(&[], &["--set", slice]);
    let limits = &named(&objects, "Deployment/rel-observatory-inference")["spec"]["template"]["spec"]["containers"]
        [0]["resources"]["limits"];
    assert_eq!(limits["nvidia.com/mig-1g.10gb"], json!("1"));
    assert!(limits.get("nvidia.com/gpu").is_none());

    let cpu = render_text(&[&example("cpu")], &[]).expect("cpu values render");
    assert!(!cpu.contains("nvidia") && !cpu.contains("cuda"), "a CPU release names no GPU");
}

#[test]
fn start_up_thresholds_cover_the_budget() {
    for (budget, period, expected) in [(600, 10, 60), (601, 10, 61), (1, 10, 1), (7, 3, 3)] {
        let set =
            format!("inference.probes.startupBudgetSeconds={budget},inference.probes.periodSeconds={period}");
        let objects = render(&[], &["--set", &set, "--show-only", "templates/inference.yaml"]);
        let deployment = named(&objects, "Deployment/rel-observatory-inference");
        let threshold =
            &deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]["failureThreshold"];
        assert_eq!(threshold, &json!(expected), "{budget} s in steps of {period} s");
    }
}

#[test]
fn model_volumes_are_a_claim_of_the_chart_an_existing_one_or_scratch() {
    let check = |arguments: &[&str], volume: Value, claims: usize| {
        let objects = render(&[], arguments);
        let deployment = named(&objects, "Deployment/rel-observatory-inference");
        let volumes = items(deployment, "/spec/template/spec/volumes");
        let models = volumes.iter().find(|volume| text(volume, "/name") == "models").expect("models");
        assert_eq!(models, &volume);
        let made = kind(&objects, "PersistentVolumeClaim");
        assert_eq!(
            made.iter().filter(|claim| id(claim).ends_with("-models")).count(),
            claims,
            "{arguments:?}"
        );
    };
    let claim = |name| json!({"name": "models", "persistentVolumeClaim": {"claimName": name}});
    check(&[], claim("rel-observatory-models"), 1);
    let place = "inference.models.volume";
    let existing = format!("{place}.type=existingClaim,{place}.existingClaim=mine");
    check(&["--set", &existing], claim("mine"), 0);
    let scratch = format!("{place}.type=emptyDir");
    check(&["--set", &scratch], json!({"name": "models", "emptyDir": {"sizeLimit": "20Gi"}}), 0);
}

#[test]
fn migrations_by_hook_need_nothing_that_the_release_makes() {
    let objects = render_example("cpu");
    let job = named(&objects, "Job/rel-observatory-migrations");
    let hook = |object: &Value| text(object, "/metadata/annotations/helm.sh~1hook").to_owned();
    let weight =
        |object: &Value| text(object, "/metadata/annotations/helm.sh~1hook-weight").parse::<i32>().ok();
    assert_eq!(hook(job), "pre-install,pre-upgrade");
    let account = named(&objects, "ServiceAccount/rel-observatory-migrations-hook");
    let way = named(&objects, "NetworkPolicy/rel-observatory-migrations-hook");
    for before in [account, way] {
        assert_eq!(hook(before), "pre-install,pre-upgrade");
        assert!(weight(before) < weight(job), "{} is there before the Job", id(before));
        let policy = text(before, "/metadata/annotations/helm.sh~1hook-delete-policy");
        assert_eq!(policy, "before-hook-creation,hook-succeeded", "{} goes after it", id(before));
    }
    assert_eq!(
        job.pointer("/spec/template/spec/serviceAccountName"),
        Some(&json!("rel-observatory-migrations-hook"))
    );
    // What the job mode makes has other names: Helm takes over nothing that a hook has made.
    let by_job = render(&[], &["--set", "migrations.mode=job"]);
    let names: Vec<String> = by_job.iter().map(id).collect();
    for object in objects.iter().filter(|object| !hook(object).is_empty() && hook(object) != "test") {
        assert!(!names.contains(&id(object)), "{} is in both modes", id(object));
    }

    let pod = job["spec"]["template"]["spec"].to_string();
    for object in &objects {
        let made = ["Secret", "ConfigMap", "PersistentVolumeClaim"].contains(&text(object, "/kind"));
        assert!(!made || !pod.contains(text(object, "/metadata/name")), "the hook needs {}", id(object));
    }
    assert_eq!(kind(&objects, "ConfigMap").len(), 1, "that of the configuration");
}

#[test]
fn migrations_by_job_carry_the_revision_and_off_has_none() {
    let by_job = render_example("mesh");
    let job = named(&by_job, "Job/rel-observatory-migrations-1");
    assert!(job["metadata"].get("annotations").is_none(), "an ordinary object of the release");
    assert_eq!(job["spec"]["ttlSecondsAfterFinished"], json!(86400));
    assert!(kind(&render(&[], &["--set", "migrations.mode=off"]), "Job").is_empty());

    let objects = render_example("external-db");
    let url = |owner: &str| {
        let pod = pods(&objects).into_iter().find(|pod| pod.owner == owner).expect(owner).spec;
        let env = items(pod, "/containers/0/env").iter().find(|entry| text(entry, "/name") == "DATABASE_URL");
        env.expect("DATABASE_URL")["valueFrom"]["secretKeyRef"].clone()
    };
    assert_eq!(
        url("Job/rel-observatory-migrations"),
        json!({"name": "managed-postgres", "key": "owner-url"})
    );
    assert_eq!(
        url("Deployment/rel-observatory-embedder"),
        json!({"name": "managed-postgres", "key": "writer-url"})
    );
}

#[test]
fn every_user_of_the_schema_waits_for_it() {
    for name in ["ambient", "cnpg", "cpu", "external-db", "gpu", "mesh", "minimal", "tls"] {
        for pod in pods(&render_example(name)) {
            let waits =
                items(pod.spec, "/initContainers").iter().any(|init| text(init, "/args/0") == "wait-schema");
            let waits_not = ["inference", "migrations", "schedule", "test"].contains(&pod.component());
            assert_ne!(waits, waits_not, "{name}: {}", pod.owner);
        }
    }
}

#[test]
fn the_schema_to_wait_for_is_the_newest_of_the_image() {
    let check = |arguments: &[&str], expected: Value| {
        let objects = render(&[], arguments);
        let embedder = named(&objects, "Deployment/rel-observatory-embedder");
        assert_eq!(embedder["spec"]["template"]["spec"]["initContainers"][0]["args"], expected);
    };
    check(&[], json!(["wait-schema", "--timeout", "600"]));
    check(&["--set", "migrations.waitSeconds=5"], json!(["wait-schema", "--timeout", "5"]));
}

/// The words that YAML 1.1 readers turn into booleans, numbers and nulls.
#[test]
fn strings_survive_every_reader_of_yaml() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("values.yaml");
    let words = ["y", "on", "no", "null", "~", "08", "1e3", "0x10", "1_000", "12:30:45", "2026-01-01", ""];
    let map: Value =
        words.iter().enumerate().map(|(index, word)| (format!("k{index}"), json!(word))).collect();
    // Blanks, colons and tildes are no label.
    let labels: Value = (0..words.len())
        .filter(|index| ![4, 9].contains(index))
        .map(|index| (format!("k{index}"), json!(words[index])))
        .collect();
    let env: Vec<Value> = words
        .iter()
        .enumerate()
        .map(|(index, word)| json!({"name": format!("K{index}"), "value": word}))
        .collect();
    let values = json!({
        "log": {"filter": "on"},
        "commonLabels": labels,
        "podLabels": labels,
        "modules": {"extractor": {"settings": {"word": "on"}}},
        "inference": {"nodeSelector": labels, "podAnnotations": map, "extraEnv": env, "service": {"annotations": map}},
        "serviceAccount": {"annotations": map},
    });
    std::fs::write(&file, values.to_string()).expect("write values");

    let objects = render(&[&file], &[]);
    assert_eq!(policy::broken(&objects), Vec::<String>::new());
    let template = &named(&objects, "Deployment/rel-observatory-inference")["spec"]["template"];
    assert_eq!(template["spec"]["nodeSelector"], labels);
    let container = &template["spec"]["containers"][0];
    for (index, word) in words.iter().enumerate() {
        assert_eq!(env_of(container, &format!("K{index}")), *word);
        assert_eq!(text(template, &format!("/metadata/annotations/k{index}")), *word);
    }
    let text = render_text(&[&file], &[]).expect("the values render");
    let manifest = folder.path().join("manifest.yaml");
    std::fs::write(&manifest, text).expect("write the manifest");
    helm::validate("1.37", &[manifest]).expect("a YAML 1.1 reader finds strings as well");
}

fn env_of<'a>(container: &'a Value, name: &str) -> &'a str {
    env(container, name).unwrap_or_else(|| panic!("{name} is not set"))
}
