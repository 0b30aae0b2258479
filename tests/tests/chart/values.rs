//! The schema of the values: closed at every level, and bad values are refused with their path.

use serde_json::Value;

use crate::helm::{chart, render_text};

/// Each case: what is set (as --set-json), and what helm must say about it.
fn refuses(cases: &[(&str, &str)]) {
    for (set, expected) in cases {
        let error =
            render_text(&[], &["--set-json", set]).err().unwrap_or_else(|| panic!("{set} is accepted"));
        assert!(error.contains("don't meet the specifications of the schema"), "{set}: {error}");
        assert!(error.contains(expected), "{set}: {expected:?} is not in {error}");
    }
}

#[test]
fn refuses_bad_values_of_the_inference_server() {
    refuses(&[
        (r#"infrence={}"#, "infrence"),
        (r#"inference.gpus={"enabled":true}"#, "gpus"),
        (r#"inference.gpu.count=0"#, "inference.gpu.count"),
        (r#"inference.gpu.count="1""#, "inference.gpu.count"),
        (r#"inference.gpu.enabled="yes""#, "inference.gpu.enabled"),
        (r#"inference.gpu.resourceName="gpu""#, "inference.gpu.resourceName"),
        (r#"inference.replicas=-1"#, "inference.replicas"),
        (r#"inference.replicas=1.5"#, "inference.replicas"),
        (r#"inference.strategy.type="BlueGreen""#, "inference.strategy.type"),
        (
            r#"inference.strategy={"type":"RollingUpdate","rollingUpdate":{"maxSurge":0,"maxUnavailable":0}}"#,
            "inference.strategy",
        ),
        (
            r#"inference.strategy={"type":"Recreate","rollingUpdate":{"maxSurge":1,"maxUnavailable":0}}"#,
            "inference.strategy",
        ),
        (r#"inference.models.volume.type="hostPath""#, "inference.models.volume.type"),
        (r#"inference.models.volume.type="existingClaim""#, "inference.models.volume.existingClaim"),
        (r#"inference.models.volume.existingClaim="forgotten""#, "inference.models.volume.existingClaim"),
        (r#"inference.models.volume.readOnly=true"#, "inference.models.volume.readOnly"),
        (r#"inference.models.volume.pvc.size="20 GB""#, "inference.models.volume.pvc.size"),
        (r#"inference.models.volume.pvc.accessModes=[]"#, "inference.models.volume.pvc.accessModes"),
        (r#"inference.resources.limits.memory=null"#, "memory is required"),
        (r#"inference.resources.limits.memory=4"#, "inference.resources.limits.memory"),
        (r#"inference.probes.startupBudgetSeconds=0"#, "inference.probes.startupBudgetSeconds"),
        (r#"inference.drainSeconds="30s""#, "inference.drainSeconds"),
        (r#"inference.tolerations=[{"effect":"NoSchedul"}]"#, "inference.tolerations.0.effect"),
        (r#"inference.nodeSelector={"gpu":true}"#, "inference.nodeSelector.gpu"),
        (r#"inference.extraEnv=[{"name":"A"}]"#, "inference.extraEnv.0"),
    ]);
}

#[test]
fn refuses_tls_and_tokens_that_cannot_work() {
    let both = r#"inference.tls={"existingSecret":"s","ca":{"existingSecret":"","key":"ca.crt"},"clientCa":"#;
    let mutual = format!(r#"{both}{{"existingSecret":"c","key":"ca.crt"}}}}"#);
    refuses(&[
        (r#"inference.tls.existingSecret="Not A Name""#, "inference.tls.existingSecret"),
        (r#"inference.tls.secret="s""#, "secret"),
        (r#"inference.tls.ca.existingSecret="s""#, "inference.tls.ca"),
        (r#"inference.tls.clientCa.existingSecret="s""#, "inference.tls.clientCa"),
        (r#"inference.credentials.certificate.existingSecret="s""#, "inference.credentials.certificate"),
        (mutual.as_str(), "inference.credentials.certificate"),
        (r#"inference.clients.existingSecret="s""#, "inference"),
        (r#"inference.credentials.token.existingSecret="s""#, "inference"),
        (r#"inference.credentials.token.key="a b""#, "inference.credentials.token.key"),
    ]);
    let error = render_text(&[], &["--set", "mesh.mode=istio,inference.tls.existingSecret=s"]);
    assert!(error.is_err_and(|error| error.contains("inference.tls")), "a mesh balances what it can read");
}

#[test]
fn refuses_bad_values_of_everything_else() {
    refuses(&[
        (r#"image.tag="latest""#, "image.tag"),
        (r#"inference.image.tag="latest""#, "inference.image.tag"),
        (r#"image.digest="sha256:abc""#, "image.digest"),
        (r#"image.pullPolicy="Sometimes""#, "image.pullPolicy"),
        (r#"mesh.mode="consul""#, "mesh.mode"),
        (r#"migrations.mode="auto""#, "migrations.mode"),
        (r#"database.port=70000"#, "database.port"),
        (r#"database.url="mysql://x""#, "database.url"),
        (r#"database.existingSecret.name="""#, "database"),
        (r#"database={"url":"postgres://x/y","existingSecret":{"name":""}}"#, "database"),
        (r#"workers.scraper.volume={"type":"pvc"}"#, "workers.scraper"),
        (r#"workers.crawler={"enabled":true}"#, "crawler"),
        (r#"workers.scraper.replicas="2""#, "workers.scraper.replicas"),
        (r#"security.runAsUser=0"#, "security.runAsUser"),
        (r#"networkPolicy.portals.ports=[443,0]"#, "networkPolicy.portals.ports.1"),
        (r#"networkPolicy.dns.to=[]"#, "networkPolicy.dns.to"),
        (r#"networkPolicy.extraEgress={"crawler":[]}"#, "crawler"),
        (r#"podDisruptionBudget.maxUnavailable=0"#, "podDisruptionBudget.maxUnavailable"),
        (r#"monitoring.serviceMonitor.interval="30""#, "monitoring.serviceMonitor.interval"),
        (r#"serviceAccount.create=null"#, "create is required"),
    ]);
}

#[test]
fn accepts_every_form_of_a_schedule() {
    for schedule in
        ["@daily", "*/5 * * * *", "0,30 8-18 1-7 jan-mar mon-fri", "59 23 31 12 7", "00 02 * * SUN"]
    {
        let set = format!(r#"schedules=[{{"name":"n","schedule":"{schedule}"}}]"#);
        let run = r#"pipeline.anonymous=["run"]"#;
        render_text(&[], &["--set-json", run, "--set-json", &set])
            .unwrap_or_else(|error| panic!("{schedule}: {error}"));
    }
}

#[test]
fn accepts_the_same_places_with_good_values() {
    let cases = [
        r#"inference.gpu.count=1"#,
        r#"inference.gpu={"enabled":true,"profile":"l4"}"#,
        r#"inference.resources.limits.cpu=null"#,
        r#"inference.tolerations=[{"operator":"Exists"}]"#,
        r#"networkPolicy.database.to=[{"ipBlock":{"cidr":"2001:db8::/32","except":["2001:db8:1::/48"]}}]"#,
        r#"schedules=[]"#,
        r#"pipeline.anonymous=["run"]"#,
        r#"networkPolicy.clients.from=[{"ipBlock":{"cidr":"10.20.0.0/15","except":["10.21.128.0/17"]}}]"#,
        r#"networkPolicy.clients.from=[{"ipBlock":{"cidr":"2001:db8::/33","except":["2001:db8:7fff::/48"]}}]"#,
        r#"networkPolicy.clients.from=[{"ipBlock":{"cidr":"::/0","except":["::1/128","fd00::/8"]}}]"#,
        r#"inference.affinity={"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms":[{"matchExpressions":[{"key":"a","operator":"Gt","values":["3"]}]}]}}}"#,
        r#"log.filter="info,sqlx=warn""#,
        r#"inference.strategy={"type":"RollingUpdate","rollingUpdate":{"maxSurge":0,"maxUnavailable":1}}"#,
        r#"inference.nodeSelector={"gpu":"true"}"#,
        r#"inference.extraEnv=[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]"#,
        r#"database={"url":"postgres://x/y","existingSecret":{"name":""}}"#,
        r#"security.runAsUser=null"#,
        r#"workers.reporter.volume.type="emptyDir""#,
        r#"networkPolicy.extraEgress={"inference":[{"ports":[{"port":443}]}]}"#,
    ];
    for set in cases {
        let job = r#"migrations.mode="job""#;
        render_text(&[], &["--set-json", job, "--set-json", set])
            .unwrap_or_else(|error| panic!("{set}: {error}"));
    }
}

/// Places of the schema that describe an object but let unknown keys through, as a path list.
fn open_levels(schema: &Value, path: &str, open: &mut Vec<String>) {
    let Some(map) = schema.as_object() else {
        let items = schema.as_array().into_iter().flatten().enumerate();
        items.for_each(|(index, item)| open_levels(item, &format!("{path}/{index}"), open));
        return;
    };
    if map.get("type").and_then(Value::as_str) == Some("object") {
        let closed = match map.get("additionalProperties") {
            Some(Value::Bool(allowed)) => !allowed,
            Some(typed) => typed.get("type").is_some() || typed.get("$ref").is_some(),
            None => false,
        };
        if !closed {
            open.push(path.to_owned());
        }
    }
    map.iter().for_each(|(key, item)| open_levels(item, &format!("{path}/{key}"), open));
}

#[test]
fn the_schema_is_closed_at_every_level() {
    let text = std::fs::read_to_string(chart().join("values.schema.json")).expect("values.schema.json");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    let mut open = Vec::new();
    open_levels(&schema, "", &mut open);
    // Pieces of Kubernetes objects that are handed through; the validator sees them when they are
    // rendered.
    open.retain(|place| {
        let container = ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];
        let field = place.strip_prefix("/definitions/extraContainer/properties/");
        let source = place.strip_prefix("/definitions/extraVolume/properties/");
        let object = place.strip_prefix("/properties/extraObjects/items/anyOf/1");
        let handed_through = field.is_some_and(|field| container.contains(&field))
            || source.is_some_and(|source| !source.contains('/'))
            || object.is_some_and(|rest| rest.is_empty() || rest == "/properties/metadata");
        // What is in the modules the templates check: text and map alike.
        !handed_through && place != "/properties/modules"
    });
    assert_eq!(open, Vec::<String>::new());

    let mut found = Vec::new();
    open_levels(&serde_json::json!({"properties": {"a": {"type": "object"}}}), "", &mut found);
    assert_eq!(found, ["/properties/a"], "an open level is noticed");
}

#[test]
fn pods_take_no_more_connections_than_the_database_has() {
    let check = |set: &str, expected: Option<&str>| {
        let said = render_text(&[], &["--set", set]).err();
        match (said, expected) {
            (None, None) => {}
            (Some(said), Some(expected)) => assert!(said.contains(expected), "{set}: {said}"),
            (said, expected) => panic!("{set}: {said:?}, expected {expected:?}"),
        }
    };
    let scraper = "workers.scraper.enabled=true,modules.scraper.settings.contact=a@example.org";
    check(scraper, None);
    check(
        "database.connections=20",
        Some("20 for each of 12 pods are 240, database.maxConnections leaves 95"),
    );
    check("database.connections=20,database.maxConnections=300", None);
    check("workers.extractor.replicas=9", Some("5 for each of 20 pods are 100"));
    check("workers.extractor.replicas=9,database.maxConnections=105", None);
}
