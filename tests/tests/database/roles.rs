//! Owner, writer and reader of the schema, each as a login that may do nothing else.

use observatory_pipeline::testing::{
    domain::posting::NewPosting,
    store::{self, PgPool},
};
use sqlx::{AssertSqlSafe, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::support;

/// A word that stands in all that may carry personal data, and nowhere else.
const MARK: &str = "Zacatlamarca";

async fn statement(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

async fn names(pool: &PgPool, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(pool).await.unwrap()
}

/// What PostgreSQL calls the refusal of a statement; empty where it was not refused.
async fn refusal(pool: &PgPool, sql: &str) -> String {
    let tried = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await;
    let code = tried.err().and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
    code.unwrap_or_default()
}

/// A database of `obs_owner` without any schema of ours, as an administrator leaves it; its name.
async fn given_by_an_administrator(admin: &PgPool) -> String {
    for group in ["obs_owner", "obs_writer", "obs_reader"] {
        // Groups are of the whole server, and other tests make them too.
        let create = format!(
            "do $$ begin create role {group} nologin; exception when duplicate_object or unique_violation then null; end $$"
        );
        statement(admin, &create).await;
    }
    let database = names(admin, "select current_database()::text").await.remove(0);
    statement(admin, &format!("alter database \"{database}\" owner to obs_owner")).await;
    database
}

/// The connections of a new login in a group, which has no other rights.
async fn login(admin: &PgPool, group: &str) -> PgPool {
    let name = format!("{group}_{}", Uuid::new_v4().simple());
    statement(admin, &format!("create role {name} login password 'secret' in role {group}")).await;
    let options = admin.connect_options().as_ref().clone().username(&name).password("secret");
    PgPoolOptions::new().max_connections(3).connect_with(options).await.unwrap()
}

/// Drops the login of these connections, which owns nothing.
async fn forget(admin: &PgPool, login: PgPool) {
    let name = login.connect_options().get_username().to_owned();
    login.close().await;
    statement(admin, &format!("drop role {name}")).await;
}

#[sqlx::test(migrations = false)]
async fn a_member_of_the_owner_migrates_without_being_superuser(admin: PgPool) {
    let database = given_by_an_administrator(&admin).await;
    let owner = login(&admin, "obs_owner").await;
    let user = owner.connect_options().get_username().to_owned();
    assert_eq!(
        store::migrate(&owner).await.unwrap_err().to_string(),
        format!(
            "pgvector is not installed in the database {database}, and {user} may not install it; let an administrator \
             run `create extension vector` in that database and migrate again"
        )
    );
    statement(&admin, "create extension vector").await;
    assert_eq!(store::migrate(&owner).await.unwrap(), store::needed_schema_version());
    let owners = "select distinct relowner::regrole::text from pg_class
        where relkind in ('r', 'p', 'v', 'S') and relnamespace in ('public'::regnamespace, 'analysis'::regnamespace)";
    assert_eq!(names(&admin, owners).await, ["obs_owner"]);

    // What one member made another one may change, and an administrator who comes between makes
    // nothing of the own.
    let second = login(&admin, "obs_owner").await;
    let undone = "delete from _sqlx_migrations where version >= 20261130160000; drop schema analysis cascade;
        alter table extracted_skills drop column place; drop table posting_occupation;
        drop table concept_description; drop table verdict;
        drop table label_vector, taxonomy_vectors; drop index concept_label_preferred;
        drop function ensure_label_index; alter table posting_stage drop column record;
        alter table enhanced_skills drop column cited_field, drop column cited_start, drop column cited_end";
    for (first, then) in [(&second, &admin), (&admin, &owner)] {
        statement(first, undone).await;
        assert_eq!(store::migrate(then).await.unwrap(), store::needed_schema_version());
        assert_eq!(names(&admin, owners).await, ["obs_owner"]);
    }

    let writer = login(&admin, "obs_writer").await;
    works_as_a_writer(&writer).await;
    let reader = login(&admin, "obs_reader").await;
    reads_the_views_alone(&admin, &reader).await;
    for login in [owner, second, writer, reader] {
        forget(&admin, login).await;
    }
}

/// Everything of a run that touches the database in its own way: a new country, an index, rows of
/// all kinds.
async fn works_as_a_writer(writer: &PgPool) {
    let mut connection = writer.acquire().await.unwrap();
    store::countries::enable(&mut connection, "PE").await.unwrap();
    store::embeddings::activate(&mut connection, &support::model("m", 3)).await.unwrap();
    drop(connection);
    let ad = NewPosting {
        country: "PE".to_owned(),
        url: format!("https://jobs.example/{MARK}/1"),
        company: Some(MARK.to_owned()),
        location: Some(MARK.to_owned()),
        description: format!("Hornear pan. {MARK}"),
        requirements: Some(MARK.to_owned()),
        ..support::ad(1)
    };
    let job_id = support::id_of(support::put(writer, vec![ad]).await.remove(0));
    let rows = format!(
        "insert into skill (label, kind, category) values ('Hornear', 'hard', 'task');
         insert into extracted_skills (job_id, skill_text, skill_type, extraction_method, confidence_score, source_section,
             span_start, span_end, label, kind, category, source_field)
         values ('{job_id}', '{MARK}', 'explicit', 'lexicon', 1, 'body', 0, 7, 'Hornear', 'hard', 'task', 'description');
         insert into enhanced_skills (job_id, original_skill_text, normalized_skill, skill_type, llm_confidence,
             llm_reasoning, llm_model, skill_id, kind, category)
         select '{job_id}', '{MARK}', label, 'explicit', 1, '{MARK}', 'rules', skill_id, kind, category from skill;
         insert into posting_occupation (job_id, uri, label, score, isco, version)
         values ('{job_id}', 'o:1', 'panadero', 1, '7512', 'test');
         insert into quarantine (job_id, stage, reason) values ('{job_id}', 'extract', '{MARK}');
         with begun as (
             insert into run (run_id, state, options, problems, summary)
             values (gen_random_uuid(), 'partial', '{{\"countries\": [\"PE\"], \"note\": \"{MARK}\"}}', array['{MARK}'],
                 '{{\"told\": \"{MARK}\"}}') returning run_id),
         tried as (
             insert into task (source_module, target_module, run_id, stage, subject, payload, last_error)
             select 'a', 'b', run_id, 'extract', '{job_id}', '{{\"text\": \"{MARK}\"}}', '{MARK}' from begun)
         insert into report (run_id, directory) select run_id, '/home/{MARK}' from begun"
    );
    statement(writer, &rows).await;
    for beyond in ["create table public.made (one integer)", "drop table skill", "create schema made"] {
        assert_eq!(refusal(writer, beyond).await, "42501", "{beyond}");
    }
}

/// A reader sees every view, in none of them what may carry personal data, and no table, also none
/// of tomorrow.
async fn reads_the_views_alone(admin: &PgPool, reader: &PgPool) {
    statement(admin, "create table public.tomorrow_of_admin (one integer)").await;
    statement(admin, "set role obs_owner; create table public.tomorrow (one integer); create view public.later as select 1; reset role")
        .await;
    let relations = |kind: &str| {
        format!(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables
             where table_schema in ('public', 'analysis') and table_type = '{kind}' order by 1"
        )
    };
    let tables = names(admin, &relations("BASE TABLE")).await;
    assert!(tables.len() > 30 && tables.contains(&"public.raw_jobs_pe".to_owned()), "{tables:?}");
    for table in tables.iter().map(String::as_str).chain(["public.later"]) {
        assert_eq!(refusal(reader, &format!("select 1 from {table}")).await, "42501", "{table}");
        assert_eq!(
            refusal(reader, &format!("select told::text from {table} told")).await,
            "42501",
            "{table}"
        );
    }
    let views = names(admin, &relations("VIEW")).await;
    assert!(views.len() > 20, "{views:?}");
    for view in views.iter().filter(|view| *view != "public.later") {
        let query = format!("select count(*) from {view} told where told::text like '%{MARK}%'");
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(reader).await.unwrap();
        assert_eq!(found, 0, "{view}");
        // One that joins tables cannot be written by anybody.
        let written = refusal(reader, &format!("delete from {view}")).await;
        assert!(["42501", "55000"].contains(&written.as_str()), "{view}: {written}");
    }
    let told =
        "select concat_ws(' ', p.title, p.country, s.normalized_skill, o.label, r.countries) from analysis.postings p
        join analysis.posting_skills s using (job_id) join analysis.occupations o using (job_id) cross join analysis.runs r cross join analysis.reports";
    assert_eq!(names(reader, told).await, ["Panadero 1 PE Hornear panadero [\"PE\"]"]);
    assert_eq!(names(reader, "select normalized_skill from skill_frequency").await, ["Hornear"]);
}
