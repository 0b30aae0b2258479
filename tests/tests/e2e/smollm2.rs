//! A published language model, SmolLM2-135M-Instruct, from its pinned package: what it writes keeps
//! to a schema, and the enhancer works with it.

use serde_json::{Value, json};
use sqlx::Row;

use crate::site::Site;

const NAME: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";
/// Few answers at a time, each with time enough on a busy machine.
const SETTINGS: &str = "[modules.enhancer]\nenabled = true\nbatch_size = 4\ntimeout = 600\n\n\
    [modules.enhancer.settings]\nmodel = \"HuggingFaceTB/SmolLM2-135M-Instruct\"\nconcurrency = 4\n\
    max_tokens = 512\nrequest_timeout = 300\n";
/// Short ones, with few skills each: the model writes an entry for every mention.
const ADS: [(&str, &str); 4] = [
    ("Analista contable", "Manejo de Excel y SAP."),
    ("Backend developer", "We ask for Python and Docker."),
    ("Auxiliar de bodega", "Experiencia en control de inventarios. Trabajo en equipo."),
    ("Data engineer", "SQL and Apache Airflow are required."),
];

fn site() -> Site {
    let site = Site::new();
    std::fs::create_dir(site.data()).unwrap();
    std::fs::write(site.data().join("observatory.toml"), SETTINGS).unwrap();
    let imported =
        site.run(&["models", "import", "--packaged=smollm2-135m-instruct", "--json"]).ended(0).json();
    assert_eq!(imported["name"], NAME, "{imported}");
    assert_eq!(imported["record"]["revision"], "0.1.2");
    site.run(&["up", "--wait-seconds", "120", "--no-model"]).ended(0);
    site
}

fn ads(site: &Site) -> String {
    let lines = ADS.iter().enumerate().map(|(index, (title, description))| {
        let ad = json!({ "portal": "p", "country": "CO", "url": format!("https://x.example/{index}"),
            "title": title, "description": description });
        format!("{ad}\n")
    });
    site.file("ads.jsonl", lines.collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn smollm2_keeps_to_a_schema_and_enhances_advertisements() {
    let site = site();
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["skills"], "properties": {
        "skills": { "type": "array", "minItems": 1, "maxItems": 4, "items": { "type": "string", "maxLength": 40 } } } });
    let schema_file = site.file("schema.json", schema.to_string());
    let asked = "List the skills in this job advertisement: we look for a developer with Python and Docker.";
    let said = site.run(&["infer", "generate", "--json-schema", &schema_file, asked, "--json"]).ended(0);
    let answer: Value = serde_json::from_str(said.json()["text"].as_str().unwrap()).unwrap();
    assert!(jsonschema::is_valid(&schema, &answer), "{answer}");
    assert!(answer.to_string().contains("Python"), "a model that knows words names it: {answer}");

    site.run(&["postings", "import", &ads(&site)]).ended(0);
    let run = site.run(&["run", "start", "--stages", "extract,enhance", "--watch", "--json"]).ended(0).json();
    assert_eq!((&run["state"], &run["facts"]["enhance"]["made_by"]), (&json!("succeeded"), &json!(NAME)), "{run}");
    let mut database = site.database().await;
    let rows = sqlx::query(
        "select count(distinct job_id) as postings,
                count(distinct job_id) filter (where llm_model = $1) as by_model,
                count(*) filter (where skill_type = 'explicit' and extraction_id is null) as untraceable,
                count(*) filter (where llm_model <> $1 and llm_model not like 'rules-%') as others,
                count(*) filter (where normalized_skill = '' or llm_confidence not between 0 and 1) as invalid
         from enhanced_skills",
    )
    .bind(NAME)
    .fetch_one(&mut database)
    .await
    .unwrap();
    let counted = |name: &str| usize::try_from(rows.get::<i64, _>(name)).unwrap();
    assert_eq!(counted("postings"), ADS.len());
    assert!(counted("by_model") >= 1, "at least one answer is usable");
    assert_eq!((counted("untraceable"), counted("others"), counted("invalid")), (0, 0, 0));
}
