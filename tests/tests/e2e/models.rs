//! Models that decide about skills: served taggers, and language models, served and behind an
//! endpoint.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use sqlx::Row;
use tokio::net::TcpListener;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_served_tagger_is_a_source_of_mentions() {
    let site = Site::with("", &["tiny-e5", "xlmr-ner"]);
    site.run(&["postings", "import", &site.ads(60)]).ended(0);
    let run = site.run(&["run", "start", "--stages", "extract", "--watch", "--json"]).ended(0).json();
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["facts"]["extract"]["taggers"][0]["name"], "tests/xlmr-ner");
    let mut database = site.database().await;
    let marked: i64 = sqlx::query_scalar(
        "select count(*) from extracted_skills x join raw_jobs r using (job_id)
         where 'ner' = any (string_to_array(extraction_method, '+'))
           and substr(case source_field when 'title' then r.title when 'description' then r.description
                      else r.requirements end, span_start + 1, span_end - span_start) = skill_text",
    )
    .fetch_one(&mut database)
    .await
    .unwrap();
    let all: i64 = sqlx::query_scalar(
        "select count(*) from extracted_skills where 'ner' = any (string_to_array(extraction_method, '+'))",
    )
    .fetch_one(&mut database)
    .await
    .unwrap();
    assert!(all > 0 && marked == all, "{marked} of {all}");
    let answer =
        site.run(&["extract", "--text", "Manejo de Excel y SAP para analista contable"]).ended(0).lines();
    let methods: BTreeSet<&str> = answer[0]["skills"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|skill| skill["method"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect();
    assert!(methods.contains("ner"), "{methods:?}");
    let others: i64 = sqlx::query_scalar(
        "select count(*) from extracted_skills where 'lexicon' = any (string_to_array(extraction_method, '+'))",
    )
    .fetch_one(&mut database)
    .await
    .unwrap();
    assert!(others > 0, "the lexicon is asked as well");
}

#[test]
fn a_tagger_that_was_asked_for_and_is_not_served_fails_the_run() {
    let site = Site::with_settings("[modules.extractor.settings]\ntaggers = [\"tests/absent\"]\n");
    site.run(&["postings", "import", &site.ads(5)]).ended(0);
    let said = site.run(&["run", "start", "--stages", "extract", "--watch"]);
    assert_eq!(said.code, 1, "{}{}", said.stdout, said.stderr);
    let shown = format!("{}{}", said.stdout, said.stderr);
    assert!(shown.contains("no token classifier `tests/absent`"), "{shown}");
}

/// A chat completions endpoint that is busy once, gives one posting nonsense, and answers the
/// others.
struct LanguageModel {
    address: String,
    asked: Arc<AtomicU32>,
}

impl LanguageModel {
    async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU32::new(0));
        let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }
}

async fn answer(
    State(count): State<Arc<AtomicU32>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let allowed = headers.get("authorization").is_some_and(|key| key == "Bearer key-of-the-test");
    let (status, answer) = match count.fetch_add(1, Ordering::SeqCst) {
        _ if !allowed => (StatusCode::UNAUTHORIZED, json!({ "error": { "message": "who are you" } })),
        0 => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": { "message": "busy" } })),
        1 => (StatusCode::OK, completion("I would rather not say")),
        _ => (StatusCode::OK, completion(&skills(&body).to_string())),
    };
    (status, answer.to_string())
}

fn completion(text: &str) -> Value {
    json!({ "choices": [{ "message": { "content": text }, "finish_reason": "stop" }] })
}

/// Every mention in capitals, an inferred skill, and two that cannot be.
fn skills(body: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    let asked: Value = serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
    let named = asked["mentions"].as_array().unwrap().iter().map(|mention| {
        json!({ "mention": mention["mention"], "text": mention["text"], "label": mention["text"].as_str().unwrap().to_uppercase(),
            "same_as": null, "kind": "hard", "confidence": 0.7 })
    });
    let inferred = |label: &str, quote: &Value| {
        json!({ "label": label, "kind": "soft", "confidence": 0.8, "quote": quote,
            "reason": "trato con el público" })
    };
    json!({ "skills": named.collect::<Vec<_>>(), "implicit": [
        inferred("Paciencia", &asked["title"]),
        inferred("Empatía", &"no advertisement says this".into()),
        inferred("Una cosa sin nombre", &asked["title"])] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_enhances_and_each_row_says_who_made_it() {
    let model = LanguageModel::serve().await;
    let settings = format!(
        "[modules.enhancer.settings]\nendpoint = \"{}\"\nmodel = \"test-model\"\nconcurrency = 1\n",
        model.address
    );
    let site = Site::new();
    std::fs::create_dir(site.data()).unwrap();
    std::fs::write(site.data().join("observatory.toml"), settings).unwrap();
    let up = site
        .command(&["up", "--wait-seconds", "120"])
        .env("OBSERVATORY_LLM_API_KEY", "key-of-the-test")
        .output();
    assert!(up.unwrap().status.success());
    site.run(&["postings", "import", &site.ads(10)]).ended(0);
    let run = site.run(&["run", "start", "--stages", "extract,enhance", "--watch", "--json"]).ended(0).json();
    let facts = &run["facts"]["enhance"];
    assert_eq!(facts["made_by"], "test-model", "{run}");
    let postings = run["stages"][0]["done"].as_u64().unwrap();
    assert_eq!(u64::from(model.asked.load(Ordering::SeqCst)), postings + 1, "one was asked again");

    let mut database = site.database().await;
    let rows = sqlx::query(
        "select count(distinct job_id) filter (where llm_model = 'test-model') as by_model,
                count(distinct job_id) filter (where llm_reasoning = 'trato con el público'
                    and skill_type = 'implicit' and llm_model = 'test-model') as inferred,
                count(*) filter (where skill_type = 'explicit' and extraction_id is null
                    or cited_field is null) as untraceable,
                count(*) filter (where llm_model <> 'test-model' and llm_model not like 'rules-%') as others
         from enhanced_skills",
    )
    .fetch_one(&mut database)
    .await
    .unwrap();
    let counted = |name: &str| u64::try_from(rows.get::<i64, _>(name)).unwrap();
    assert_eq!(
        counted("by_model"),
        postings - 1,
        "one answer was not usable: that posting is left to the rules"
    );
    assert_eq!(counted("inferred"), postings - 1);
    assert_eq!((counted("untraceable"), counted("others")), (0, 0));
    let by_model = json!(postings - 1);
    assert_eq!(facts["answered_by"], json!({ "endpoint": by_model, "rules": 1 }), "{run}");
    assert_eq!(
        (&facts["rejected"]["quote_not_found"], &facts["rejected"]["unknown_skill"]),
        (&by_model, &by_model)
    );
    let problems = run["problems"].to_string();
    assert!(problems.contains("passed over for 1 postings: test-model"), "{problems}");

    let again = site.run(&["run", "start", "--stages", "enhance", "--watch", "--json"]).ended(0).json();
    assert_eq!(again["stages"][0]["up_to_date"].as_u64(), Some(postings), "nothing is asked twice");
}

/// A tiny model with random weights, whose texts may be as long as advertisements are in its few
/// tokens.
fn long_model(folder: &Path) -> PathBuf {
    let to = folder.join("qwen2");
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(Site::tiny_model("qwen2")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let path = to.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = json!(32_768);
    std::fs::write(path, config.to_string()).unwrap();
    to
}

/// What it answers keeps to the schema and means nothing: all the way through is what is shown. Its
/// names are none that anybody knows, so hardly one is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_served_language_model_with_random_weights_enhances_every_posting() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        "[modules.enhancer.settings]\nmodel = \"tests/qwen2\"\nconcurrency = 8\nmax_tokens = 200\n";
    let site = Site::with_folders(settings, &[long_model(folder.path())]);
    site.run(&["postings", "import", &site.ads(12)]).ended(0);
    let run = site.run(&["run", "start", "--stages", "extract,enhance", "--watch", "--json"]).ended(0).json();
    assert_eq!(
        (&run["state"], &run["facts"]["enhance"]["made_by"]),
        (&json!("succeeded"), &json!("tests/qwen2"))
    );
    let postings = run["stages"][0]["done"].as_u64().unwrap();
    let mut database = site.database().await;
    let rows = sqlx::query(
        "select count(*) filter (where duration_ms > 0 and version like '%tests/qwen2%') as timed,
                (select count(*) from enhanced_skills where skill_type = 'explicit') as explicit,
                (select count(*) from enhanced_skills where skill_type = 'explicit' and extraction_id is null) as untraceable
         from posting_stage where stage = 'enhance'",
    )
    .fetch_one(&mut database)
    .await
    .unwrap();
    let counted = |name: &str| u64::try_from(rows.get::<i64, _>(name)).unwrap();
    assert_eq!((counted("timed"), counted("untraceable")), (postings, 0));
    assert!(counted("explicit") > postings, "the mentions keep their skills");
}
