//! What a report counts: the postings that its run covers, on every page and in every file.

use std::path::Path;

use observatory_pipeline::testing::{
    domain::{
        posting::NewPosting,
        run::{StageName, facts::AnalyzeFacts},
    },
    reporter::{
        ReportDocument,
        document::{Filter, Notice},
        stage::{ReporterStage, Settings},
    },
    spreadsheet::Dialect,
    store::{
        PgPool,
        analyses::{self, Cluster, Clustering, Point},
        runs::{self, RunOptions},
    },
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{ad, put};

/// Three postings of Colombia that name Excel, two of Argentina that name English, each of them
/// baking; the first text is seen in both countries. Those of Argentina are recent: one was
/// collected today, one published today, of one it is only known that it was heard of today. Those
/// of Colombia are old, also the one whose file was imported today.
async fn store(pool: &PgPool) {
    let abroad = |number| NewPosting {
        portal: "bumeran".to_owned(),
        country: "AR".to_owned(),
        url: format!("https://www.bumeran.example/empleos/panadero-{}", 20_000 + number),
        ..ad(number)
    };
    put(pool, vec![ad(0), ad(1), ad(2), abroad(0), abroad(3), abroad(4)]).await;
    for statement in [
        "update sighting set first_collected = null, last_collected = null, last_seen = '2026-01-01'",
        "update sighting set first_collected = '2026-01-01', last_collected = now() where url like '%-20000'",
        "update sighting set posted_date = current_date where url like '%-20003'",
        "update sighting set last_seen = now() where url like '%-20004'",
        "update sighting set last_seen = now(), posted_date = '2025-08-04' where url like '%-10001'",
        "update sighting set last_seen = now(), posted_date = current_date, first_collected = '2025-08-04',
             last_collected = '2025-08-05' where url like '%-10002'",
        "insert into skill (label, kind, category)
         values ('Hornear', 'hard', 'knowledge'), ('Excel', 'hard', 'tool'), ('Inglés', 'hard', 'language')",
        "insert into enhanced_skills (job_id, normalized_skill, skill_type, llm_confidence, llm_model, skill_id, kind, category)
         select distinct s.job_id, k.label, 'explicit', 0.9, 'rules', k.skill_id, k.kind, k.category
         from sighting s join skill k on k.label = 'Hornear' or k.label = case s.country when 'CO' then 'Excel' else 'Inglés' end
         where s.country = 'CO' or not exists (
             select from sighting o where o.job_id = s.job_id and o.country = 'CO')",
        "insert into posting_occupation (job_id, uri, label, score, isco, cuoc, version)
         select job_id, 'o:1', case when title like '%1' then 'baker' else 'panadero/panadera' end, 0.9, '7512', '75120', 'test'
         from raw_jobs where country = 'CO'",
        "insert into posting_occupation (job_id, label, score, cuoc, version)
         select job_id, 'Ayudantes de cocina', 0.8, '94110', 'test' from sighting where url like '%-20003'",
        "insert into embedding_model (name, revision, prompt, dimensions) values ('test/encoder', '1', '', 2)",
        "insert into refused_item (source, field, count) values ('import', 'title', 7)",
    ] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
}

/// A run with these options and an analysis of every stored skill: Excel and baking together,
/// English apart.
async fn run(pool: &PgPool, options: RunOptions) -> Uuid {
    let run_id = Uuid::now_v7();
    let mut connection = pool.acquire().await.unwrap();
    runs::create(&mut connection, run_id, &RunOptions { stages: vec![StageName::Report], ..options })
        .await
        .unwrap();
    let skills: Vec<(i64, String)> = sqlx::query_as("select skill_id, label from skill order by label")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let model_id: i16 =
        sqlx::query_scalar("select model_id from embedding_model").fetch_one(&mut *connection).await.unwrap();
    let cluster_of = |label: &str| i32::from(label == "Inglés");
    let points = skills.iter().map(|(skill_id, label)| Point {
        skill_id: *skill_id,
        x: 0.5,
        y: 1.5,
        cluster_id: Some(cluster_of(label)),
        job_count: 5,
    });
    let cluster = |cluster_id, members: &[&str]| Cluster {
        cluster_id,
        label: members.join(" · "),
        size: i32::try_from(members.len()).unwrap(),
        top_skills: members.iter().map(ToString::to_string).collect(),
        cohesion_score: 0.8,
    };
    let clustering = Clustering {
        parameters: json!({}),
        results: AnalyzeFacts::default(),
        model_id,
        clusters: vec![cluster(0, &["Hornear", "Excel"]), cluster(1, &["Inglés"])],
        points: points.collect(),
    };
    analyses::replace(&mut connection, run_id, &clustering).await.unwrap();
    run_id
}

/// The report of such a run: its document, and every file but the document as one text.
async fn report(pool: &PgPool, options: RunOptions, folder: &Path) -> (ReportDocument, String) {
    report_with(pool, options, folder, Settings::default()).await
}

async fn report_with(
    pool: &PgPool,
    options: RunOptions,
    folder: &Path,
    settings: Settings,
) -> (ReportDocument, String) {
    let run_id = run(pool, options).await;
    let settings = Settings { formats: vec!["csv".to_owned(), "html".to_owned()], ..settings };
    let stage = ReporterStage::new(pool.clone(), folder.to_owned(), settings).unwrap();
    let (directory, files) = stage.build(run_id, &[], Dialect::Plain, None).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(Path::new(&directory).join(name)).unwrap();
    let document: ReportDocument = serde_json::from_str(&read("report.json")).unwrap();
    let names = files.iter().map(|file| file.name.as_str()).filter(|name| !name.ends_with(".json"));
    // The page counts the same postings as the stages that work on them.
    let mut connection = pool.acquire().await.unwrap();
    let run = runs::get(&mut connection, run_id).await.unwrap().unwrap();
    let covered = runs::coverage(&mut connection, &run, StageName::Extract, "test").await.unwrap();
    assert_eq!(covered.pending.len() as u64, document.scope.postings, "{:?}", run.options);
    (document, names.map(read).collect())
}

/// Label, unit group, code and postings of each occupation, and the postings without one.
fn occupations(document: &ReportDocument) -> (Vec<String>, u64) {
    let rows = document.occupations.rows.iter().map(|row| {
        let code = |code: &Option<String>| code.clone().unwrap_or_default();
        format!("{} {} {} {}", row.label, code(&row.isco), code(&row.cuoc), row.job_count)
    });
    (rows.collect(), document.occupations.without)
}

fn labels(document: &ReportDocument) -> Vec<(&str, u64)> {
    document.skills.iter().map(|skill| (skill.label.as_str(), skill.job_count)).collect()
}

/// Label, skills and postings of each cluster.
fn clusters(document: &ReportDocument) -> Vec<(&str, u64, u64)> {
    let section = document.clusters.as_ref().unwrap();
    assert_eq!(section.analysed, 3);
    section.clusters.iter().map(|cluster| (cluster.label.as_str(), cluster.size, cluster.job_count)).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn without_a_filter_a_report_covers_the_store(pool: PgPool) {
    store(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let (document, files) = report(&pool, RunOptions::default(), folder.path()).await;
    assert_eq!((document.scope.postings, document.scope.sightings), (5, 6));
    assert_eq!(labels(&document), [("Hornear", 5), ("Excel", 3), ("Inglés", 2)]);
    assert_eq!(clusters(&document), [("Hornear · Excel", 2, 5), ("Inglés", 1, 2)]);
    assert!(document.scope.filters.is_empty());
    let expected = ["panadero/panadera 7512 75120 3", "Ayudantes de cocina  94110 1"].map(str::to_owned);
    assert_eq!(occupations(&document), (expected.to_vec(), 1));
    let titles = document.occupations.rows.iter().flat_map(|row| &row.titles);
    let titles: Vec<_> = titles.map(|title| (title.surface.as_str(), title.confidence)).collect();
    assert_eq!(titles.len(), 4, "each posting is shown: {titles:?}");
    assert_eq!(titles[3], ("Panadero 3", 0.8));
    assert!(files.contains("1 de las 5 ofertas (20\u{a0}%) no tienen ocupación"));
    assert_eq!(document.quality.refused.as_ref().unwrap()[0].count, 7);
    assert!(files.contains("Inglés") && files.contains("ninguno: todas las ofertas guardadas"));
}

#[sqlx::test(migrations = "../migrations")]
async fn every_filter_holds_on_every_page(pool: PgPool) {
    store(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let colombia = RunOptions { countries: vec!["CO".to_owned()], ..RunOptions::default() };
    let portal = RunOptions { portals: vec!["computrabajo".to_owned()], ..RunOptions::default() };
    for options in [colombia, portal] {
        let (document, files) = report(&pool, options, folder.path()).await;
        assert_eq!((document.scope.postings, document.scope.sightings), (3, 3));
        assert_eq!(
            document.scope.countries.iter().map(|c| (c.code.as_str(), c.postings)).collect::<Vec<_>>(),
            [("CO", 3)]
        );
        assert_eq!(labels(&document), [("Excel", 3), ("Hornear", 3)]);
        assert!(document.skills.iter().all(|skill| skill.countries.iter().all(|c| c.country == "CO")));
        assert_eq!(clusters(&document), [("Excel · Hornear", 2, 3)]);
        assert_eq!(occupations(&document), (vec!["panadero/panadera 7512 75120 3".to_owned()], 0));
        let section = document.clusters.as_ref().unwrap();
        assert_eq!((section.metrics.points, section.points.len()), (2, 2));
        assert_eq!((document.totals.skills, document.totals.explicit_mentions), (2, 6));
        assert_eq!((&document.quality.refused, &document.quality.personal_data_removed), (&None, &None));
        for stranger in ["Inglés", "Argentina", "bumeran", "Ayudantes"] {
            assert!(!files.contains(stranger), "{stranger}");
        }
        assert!(files.contains("las 3 habilidades de todo lo guardado"), "the clusters say whose they are");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn since_and_limit_are_applied_and_not_only_printed(pool: PgPool) {
    store(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let recent = RunOptions { since_seconds: 3_600, ..RunOptions::default() };
    let (document, files) = report(&pool, recent, folder.path()).await;
    assert_eq!((document.scope.postings, document.scope.sightings), (3, 3), "the sightings of Argentina");
    assert_eq!(labels(&document), [("Hornear", 3), ("Inglés", 2), ("Excel", 1)]);
    assert!(matches!(document.scope.filters.as_slice(), [Filter::Since { seconds: 3_600, .. }]));
    assert!(files.contains("1 hora antes de la ejecución"));

    let first = RunOptions { limit: 2, ..RunOptions::default() };
    let (document, files) = report(&pool, first, folder.path()).await;
    assert_eq!(
        (document.scope.postings, document.scope.sightings),
        (2, 3),
        "the first text has two sightings"
    );
    assert_eq!(labels(&document), [("Excel", 2), ("Hornear", 2)]);
    assert_eq!(document.scope.filters, [Filter::First { postings: 2 }]);
    assert!(files.contains("solo las 2 que se guardaron primero"));

    let both = RunOptions {
        countries: vec!["AR".to_owned()],
        limit: 1,
        since_seconds: 3_600,
        ..RunOptions::default()
    };
    let (document, _) = report(&pool, both, folder.path()).await;
    assert_eq!((document.scope.postings, document.scope.sightings), (1, 1));

    let none = RunOptions { countries: vec!["MX".to_owned()], ..RunOptions::default() };
    let (document, _) = report(&pool, none, folder.path()).await;
    assert_eq!((document.scope.postings, document.totals.skills, clusters(&document).len()), (0, 0, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_the_settings_say_stands_in_the_report(pool: PgPool) {
    store(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let (document, files) = report(&pool, RunOptions::default(), folder.path()).await;
    let invented = "Los anuncios de este informe son inventados, para demostración";
    assert_eq!(document.notices, [Notice::FewPostings { postings: 5 }, Notice::NoTaxonomy]);
    assert!(!files.contains(invented) && files.contains("no utilizada: ninguna cifra"));

    let settings = Settings {
        invented: true,
        author: Some("Observatorio de Ejemplo".to_owned()),
        contact: Some("datos@ejemplo.example".to_owned()),
        licence: Some("CC BY 4.0".to_owned()),
        ..Settings::default()
    };
    let (document, files) = report_with(&pool, RunOptions::default(), folder.path(), settings).await;
    assert_eq!(document.notices[0], Notice::InventedPostings);
    for words in [invented, "Observatorio de Ejemplo", "datos@ejemplo.example", "CC BY 4.0"] {
        // On the page and in README.md.
        assert_eq!(files.matches(words).count().min(2), 2, "{words}");
    }
}
