//! Callers of the pipeline's services: who may do what, and those who would hold up others.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use observatory_client::{Connection, Credentials, Flags};
use observatory_pipeline::testing::domain::run::RunState;
use observatory_proto::pipeline::v1::{
    BuildReportRequest, CleanupRequest, EnableCountryRequest, ExportRequest, ExtractRequest,
    GetStatusRequest, ImportPostingsRequest, ListRunsRequest, ProcessRequest, StartRunRequest,
    export_service_client::ExportServiceClient, extractor_service_client::ExtractorServiceClient,
    orchestrator_service_client::OrchestratorServiceClient, posting_service_client::PostingServiceClient,
    report_service_client::ReportServiceClient, stage_service_client::StageServiceClient,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_types::StatusExt;

use super::{
    ground::{Ground, Trial, pause},
    proxy::Proxy,
};
use crate::{
    credentials::Authority,
    site::{Said, Site},
};

async fn connect(address: &str, token: Option<&str>) -> Connection {
    let token = token.map(|token| token.to_owned().into());
    let credentials = Credentials { flags: Flags::ENDPOINT, token, ..Credentials::default() };
    credentials.server(address).unwrap().connect().await.unwrap()
}

/// What a call of each kind ends in.
async fn calls(connection: &Connection) -> [(&'static str, Code); 7] {
    fn code<T>(answer: Result<T, Status>) -> Code {
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }
    let mut runs = OrchestratorServiceClient::new(connection.clone());
    let mut stages = StageServiceClient::new(connection.clone());
    let mut postings = PostingServiceClient::new(connection.clone());
    let mut reports = ReportServiceClient::new(connection.clone());
    let mut exports = ExportServiceClient::new(connection.clone());
    let export = ExportRequest { subject: "postings".into(), format: "csv".into(), ..Default::default() };
    let report = BuildReportRequest { formats: vec!["csv".into()], ..Default::default() };
    let stage = || "embed".to_owned();
    [
        ("list", code(runs.list_runs(ListRunsRequest::default()).await)),
        ("export", code(exports.export(export).await)),
        ("import", code(postings.import_postings(tokio_stream::empty::<ImportPostingsRequest>()).await)),
        ("process", code(stages.process(ProcessRequest { stage: stage(), batch_size: 1 }).await)),
        ("report", code(reports.build_report(report).await)),
        ("country", code(postings.enable_country(EnableCountryRequest { code: "UY".into() }).await)),
        ("cleanup", code(stages.cleanup(CleanupRequest { stage: stage() }).await)),
    ]
}

/// Names of the calls that ended in a code.
fn ending(found: &[(&'static str, Code)], code: Code) -> Vec<&'static str> {
    found.iter().filter(|(_, found)| *found == code).map(|(name, _)| *name).collect()
}

const ALL: [&str; 7] = ["list", "export", "import", "process", "report", "country", "cleanup"];

/// The stack of the machine's owner: nobody without its token, from wherever they come.
async fn only_the_owner_calls_the_local_stack(site: &Site) {
    let status = site.run(&["status", "--json"]).ended(0).json();
    let processes = status["processes"].as_array().unwrap();
    let process = processes.iter().find(|process| process["name"] == "pipeline-services").unwrap();
    let address = process["address"].as_str().unwrap();
    let proxy = Proxy::to(address.parse().unwrap()).await;
    for address in [address.to_owned(), proxy.address.to_string()] {
        for token in [None, Some("invented")] {
            let found = calls(&connect(&address, token).await).await;
            assert_eq!(ending(&found, Code::Unauthenticated), ALL, "{address} {token:?}");
        }
    }
    let file = site.data().join("secrets/pipeline-services-token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap();
    let found = calls(&connect(&proxy.address.to_string(), Some(token.trim())).await).await;
    assert_eq!(ending(&found, Code::Unauthenticated), [""; 0]);
    assert_eq!(ending(&found, Code::PermissionDenied), [""; 0]);
    site.run(&["countries", "list"]).ended(0);
    // Where the endpoint is named, its token has to be named too.
    let endpoint = format!("http://{address}");
    let said = site.run(&["countries", "list", "--endpoint", &endpoint]).ended(2);
    assert!(said.stderr.contains("hint: pass a token with --endpoint-token-file"), "{}", said.stderr);
    let file = file.to_str().unwrap();
    site.run(&["countries", "list", "--endpoint", &endpoint, "--endpoint-token-file", file]).ended(0);
}

fn entry(name: &str, token: &str, rest: &str) -> String {
    format!("[{name}]\ntoken_sha256 = \"{}\"\n{rest}\n", hex::encode(Sha256::digest(token)))
}

/// A clients file: each may do what its scopes say, as often as its quota says, and changes are
/// seen.
async fn clients_have_their_scopes(ground: &Ground, trial: &Trial) {
    let text = entry("reader", "r", "scopes = [\"read\"]")
        + &entry("collector", "i", "scopes = [\"read\", \"import\"]")
        + &entry("operator", "o", "scopes = [\"run\"]")
        + &entry("admin", "a", "scopes = [\"admin\"]")
        + &entry("seldom", "s", "scopes = [\"read\"]\ncalls_per_minute = 2");
    let file = ground.site.file("callers.toml", &text);
    let process = trial.start_with("all", &["--clients-file", &file]);
    let address = process.endpoint();
    for (token, may) in [
        ("r", &["list", "export"][..]),
        ("i", &["list", "export", "import"]),
        ("o", &["process", "report"]),
        ("a", &ALL),
    ] {
        let found = calls(&connect(&address, Some(token)).await).await;
        let denied: Vec<&str> = ALL.into_iter().filter(|name| !may.contains(name)).collect();
        assert_eq!(ending(&found, Code::PermissionDenied), denied, "{token}: {found:?}");
        assert_eq!(ending(&found, Code::Unauthenticated), [""; 0]);
    }
    let start = |token: &'static str| {
        let address = address.clone();
        async move {
            let mut runs = OrchestratorServiceClient::new(connect(&address, Some(token)).await);
            runs.start_run(StartRunRequest::default()).await.map(|_| ())
        }
    };
    let refused = start("r").await.unwrap_err();
    assert_eq!(refused.message(), "OrchestratorService/StartRun needs the scope run; reader has read");
    let mut seldom = OrchestratorServiceClient::new(connect(&address, Some("s")).await);
    let mut list = async || seldom.list_runs(ListRunsRequest::default()).await.map(|_| ());
    assert!(list().await.is_ok() && list().await.is_ok());
    let refused = list().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let again = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(again > Duration::from_secs(5) && again <= Duration::from_secs(30), "{again:?}");
    // A client that is taken out of the file is gone, and one that comes in is there, without a
    // restart.
    fs::write(
        &file,
        text.replace("[reader]", "[other]")
            .replace(&hex::encode(Sha256::digest("r")), &hex::encode(Sha256::digest("n"))),
    )
    .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while calls(&connect(&address, Some("n")).await).await[0].1 != Code::Ok {
        assert!(Instant::now() < deadline, "the clients file is not read again");
        pause(200).await;
    }
    assert_eq!(calls(&connect(&address, Some("r")).await).await[0].1, Code::Unauthenticated);
}

/// TLS with certificates of clients, asked by the program for people.
fn certificates_are_known(ground: &Ground, trial: &Trial) {
    let (site, authority) = (&ground.site, Authority::new());
    let (certificate, key) = authority.issue(site, "pipeline", "localhost");
    let (mine, my_key) = authority.issue(site, "me", "lab");
    let (strange, strange_key) = Authority::new().issue(site, "stranger", "lab");
    let ca = site.file("pipeline-ca.pem", authority.pem());
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
    let process = trial.start_with("orchestrator", &flags);
    let port = process.endpoint().rsplit_once(':').unwrap().1.to_owned();
    let ask = |scheme: &str, more: &[&str]| -> Said {
        let endpoint = format!("{scheme}://localhost:{port}");
        site.run(&[&["countries", "list", "--endpoint", &endpoint], more].concat())
    };
    let with = |certificate: &str, key: &str| {
        ask("https", &["--endpoint-ca", &ca, "--endpoint-cert", certificate, "--endpoint-key", key])
    };
    with(&mine, &my_key).ended(0);
    let strange = with(&strange, &strange_key).ended(2);
    assert!(strange.stderr.contains("--endpoint-cert"), "{}", strange.stderr);
    let bare = ask("https", &["--endpoint-ca", &ca]).ended(2);
    assert!(bare.stderr.contains("--endpoint-cert"), "{}", bare.stderr);
    let distrusting = ask("https", &[]).ended(2);
    assert!(distrusting.stderr.contains("with --endpoint-ca"), "{}", distrusting.stderr);
    ask("http", &[]).ended(2);
    assert_eq!((process.probe("/livez"), process.probe("/readyz"), process.probe("/x")), (200, 200, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_may_do_what_is_said_of_them() {
    let ground = Ground::bare().await;
    only_the_owner_calls_the_local_stack(&ground.site).await;
    let trial = ground.trial().await;
    clients_have_their_scopes(&ground, &trial).await;
    certificates_are_known(&ground, &trial);
}

/// Many streams that send nothing: they are refused at once where there are too many, and others
/// come through.
async fn idle_imports(address: &str) {
    let connection = connect(address, None).await;
    let mut open = Vec::new();
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..80 {
        let (sender, receiver) = mpsc::channel::<ImportPostingsRequest>(1);
        open.push(sender);
        let mut postings = PostingServiceClient::new(connection.clone());
        answers.spawn(async move { postings.import_postings(ReceiverStream::new(receiver)).await });
    }
    // A quarter of 256 calls may last; the other streams are refused while those are open.
    for _ in 64..80 {
        let refused = answers.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    }
    let begun = Instant::now();
    let mut runs = OrchestratorServiceClient::new(connection);
    runs.get_status(GetStatusRequest::default()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(open);
    while let Some(answer) = answers.join_next().await {
        assert_eq!(answer.unwrap().unwrap().into_inner().lines, 0);
    }
}

/// Connections that say nothing: more than there is room for keep nobody out.
async fn silent_connections(address: &str, probe: impl Fn() -> u16) {
    let host = address.strip_prefix("http://").unwrap();
    let silent: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(host).unwrap()).collect();
    let mut runs = OrchestratorServiceClient::new(connect(address, None).await);
    runs.list_runs(ListRunsRequest::default()).await.unwrap();
    assert_eq!(probe(), 200);
    drop(silent);
}

/// A message that is small on the way and large when it is read.
async fn a_compressed_flood(address: &str) {
    let connection = connect(address, None).await;
    let mut extractor =
        ExtractorServiceClient::new(connection.clone()).send_compressed(CompressionEncoding::Gzip);
    let flood = ExtractRequest { document_json: "a".repeat(64 << 20), ..Default::default() };
    let mut answers = extractor.extract(tokio_stream::once(flood)).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap_err();
    assert!(refused.message().contains("limit"), "{refused}");
    let small = ExtractRequest {
        document_json: r#"{"id": 1, "title": "x", "description": "Excel", "country": "CO"}"#.to_owned(),
        ..Default::default()
    };
    let mut answers = extractor.extract(tokio_stream::once(small)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().result_json.contains("Excel"));
}

/// Reports are written below their directory only, and are downloaded through the service.
async fn reports_stay_below_their_directory(ground: &Ground, trial: &Trial, address: &str) {
    let run_id = trial.run(&super::ground::STAGES).await;
    assert_eq!(trial.finish(run_id).await.state, RunState::Succeeded);
    let elsewhere = ground.site.dir.path().join("elsewhere");
    let mut reports = ReportServiceClient::new(connect(address, None).await);
    let mut build = async |directory: &str| {
        let formats = vec!["csv".to_owned()];
        let (run_id, directory) = (run_id.to_string(), directory.to_owned());
        let request = BuildReportRequest { run_id, formats, directory, excel: false };
        reports.build_report(request).await.map(|answer| answer.into_inner().report.unwrap())
    };
    for outside in [elsewhere.to_str().unwrap(), "../elsewhere", "a/../../elsewhere", ".", "/etc"] {
        let refused = build(outside).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{outside}");
        assert!(refused.message().contains("is not below the directory of reports"), "{refused}");
    }
    assert!(!elsewhere.exists());
    let inside = build("special/one").await.unwrap();
    assert!(inside.directory.ends_with("/reports/special/one"), "{}", inside.directory);

    let mine = ground.site.dir.path().join("mine");
    let out = mine.to_str().unwrap();
    let id = run_id.to_string();
    let ask = |arguments: &[&str]| ground.site.run(&[arguments, &["--endpoint", address, "--json"]].concat());
    let built = ask(&["report", "build", "--run", &id, "--format", "csv", "--out", out]).ended(0).json();
    assert_eq!(built["directory"], out);
    let files = built["artefacts"].as_array().unwrap();
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let content = fs::read(mine.join(file["name"].as_str().unwrap())).unwrap();
        assert_eq!(file["sha256"], hex::encode(Sha256::digest(&content)), "{file}");
    }
    let names = fs::read_dir(&mine).unwrap().count();
    assert_eq!(names, files.len(), "nothing else is left");
    let again = ground.site.dir.path().join("again");
    let report = built["report_id"].as_str().unwrap();
    ask(&["report", "get", report, "--out", again.to_str().unwrap()]).ended(0);
    assert_eq!(fs::read_dir(&again).unwrap().count(), names);
    // What was changed on the server is not passed off as the report.
    fs::write(trial.reports().join(&id).join(files[0]["name"].as_str().unwrap()), "changed").unwrap();
    let said = ask(&["report", "get", report, "--out", again.to_str().unwrap()]).ended(2);
    assert!(said.stderr.contains("do not match the report; build it again"), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_hold_up_nobody() {
    let ground = Ground::bare().await;
    let trial = ground.trial().await;
    let process = trial.start_with("all", &["--max-connections", "40"]);
    let address = process.endpoint();
    idle_imports(&address).await;
    silent_connections(&address, || process.probe("/readyz")).await;
    a_compressed_flood(&address).await;
    reports_stay_below_their_directory(&ground, &trial, &address).await;
}
