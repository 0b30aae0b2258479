//! `skills` and `clusters`: results of the analyses.
//!
//! Tables for people and the field names of the specification for `--json`.

mod evidence;

use observatory_proto::pipeline::v1::{
    Cluster, GetClusterRequest, ListClustersRequest, SearchSkillsRequest, SkillCount, TopSkillsRequest,
    insight_service_client::InsightServiceClient,
};
use serde_json::{Value, json};

use crate::client::{Connection, answer};
use crate::context::Context;
use crate::output::{Outcome, Table};

/// Search skills by meaning, and list the most demanded ones.
#[derive(Debug, clap::Args)]
pub(crate) struct SkillArguments {
    #[command(subcommand)]
    action: SkillAction,
}

#[derive(Debug, clap::Subcommand)]
enum SkillAction {
    /// Search skills by meaning.
    Search {
        /// Text to search for.
        text: String,
        /// Show the nearest skills even if none is similar.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        range: Range,
    },
    /// List the skills named by the most postings, and how many more imply them.
    Top {
        #[command(flatten)]
        range: Range,
    },
    /// Show the postings behind a skill's figures, each with the sentence that names it.
    #[command(visible_alias = "evidence")]
    Ads(evidence::EvidenceArguments),
}

#[derive(Debug, clap::Args)]
struct Range {
    /// Number of skills to show.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    top: u32,
    /// Only postings seen in this country.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CC")]
    country: String,
}

/// Inspect the skill clusters of an analysis.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArguments {
    #[command(subcommand)]
    action: ClusterAction,
    /// Run whose analysis to use [default: the latest].
    #[arg(long, global = true, default_value = "", hide_default_value = true, value_name = "ID")]
    run: String,
}

#[derive(Debug, clap::Subcommand)]
enum ClusterAction {
    /// List clusters, largest first.
    List,
    /// Show the skills of a cluster.
    Show {
        /// Cluster number.
        id: u32,
    },
}

type Insights = InsightServiceClient<Connection>;

/// Runs a subcommand of `skills`.
///
/// # Errors
/// If the service cannot be reached or refuses.
pub(crate) async fn run_skills(context: &Context, arguments: SkillArguments) -> anyhow::Result<Outcome> {
    let mut insights = Insights::new(context.client.pipeline().await?);
    match arguments.action {
        SkillAction::Search { text, all, range } => {
            let request =
                SearchSkillsRequest { text: text.clone(), top: range.top, country: range.country, all };
            let found = answer(insights.search_skills(request).await)?;
            let (floor, found) = (found.floor, found.hits);
            let rows = found
                .iter()
                .map(|hit| vec![format!("{:.3}", hit.score), hit.job_count.to_string(), hit.skill.clone()])
                .collect();
            let json = found
                .iter()
                .map(|hit| json!({ "skill": hit.skill, "score": hit.score, "job_count": hit.job_count }))
                .collect();
            context.output.list(&Table::new(&["cosine", "postings", "skill"], rows, json), || {
                format!(
                    "no skill is similar to `{text}`: even random letters score {floor:.3} with this model; --all shows the nearest"
                )
            })
        }
        SkillAction::Top { range } => {
            let country = range.country;
            let request = TopSkillsRequest { top: range.top, country: country.clone() };
            let found = answer(insights.top_skills(request).await)?.skills;
            print_counts(context, &found, &country)
        }
        SkillAction::Ads(wanted) => evidence::run(context, insights, wanted).await,
    }
}

fn print_counts(context: &Context, found: &[SkillCount], country: &str) -> anyhow::Result<Outcome> {
    let rows = found
        .iter()
        .map(|count| {
            let numbers = [count.job_count, count.implicit_count].map(|number| number.to_string());
            [numbers.as_slice(), &[count.countries.join(","), count.skill.clone()]].concat()
        })
        .collect();
    let heads = ["postings", "implied", "countries", "skill"];
    print_skills(context, &Table::new(&heads, rows, counts_json(found)), country)
}

fn print_skills(context: &Context, table: &Table, country: &str) -> anyhow::Result<Outcome> {
    context.output.list(table, || match country {
        "" => "no skills yet; import postings with `observatory postings import FILE` and process them with `observatory run start`"
            .to_owned(),
        country => format!(
            "no posting from {country} has a skill; `observatory countries list` shows which countries have postings"
        ),
    })
}

fn counts_json(found: &[SkillCount]) -> Value {
    found
        .iter()
        .map(|count| {
            json!({ "normalized_skill": count.skill, "job_count": count.job_count,
                "implicit_count": count.implicit_count, "total_mentions": count.total_mentions, "countries": count.countries })
        })
        .collect()
}

/// Runs a subcommand of `clusters`.
///
/// # Errors
/// If the service cannot be reached or refuses.
pub(crate) async fn run_clusters(context: &Context, arguments: ClusterArguments) -> anyhow::Result<Outcome> {
    let mut insights = Insights::new(context.client.pipeline().await?);
    match arguments.action {
        ClusterAction::List => {
            // One page, the largest that the service gives.
            let request =
                ListClustersRequest { run_id: arguments.run, page_size: 500, page_token: String::new() };
            let found = answer(insights.list_clusters(request).await)?;
            let rows = found.clusters.iter().map(cluster_row).collect();
            let json = json!({ "analysis_id": found.analysis_id, "n_noise": found.noise,
                "quality_metrics": { "silhouette_score": found.silhouette_score,
                    "davies_bouldin_index": found.davies_bouldin_index },
                "clusters": found.clusters.iter().map(cluster_json).collect::<Vec<_>>() });
            let table = Table::new(&["cluster", "size", "cohesion", "label"], rows, json);
            context
                .output
                .list(&table, || format!("the analysis found no clusters among {} skills", found.noise))
        }
        ClusterAction::Show { id } => {
            let request = GetClusterRequest { run_id: arguments.run, cluster_id: id };
            let found = answer(insights.get_cluster(request).await)?;
            let cluster = found.cluster.unwrap_or_default();
            let rows = found
                .skills
                .iter()
                .map(|count| vec![count.job_count.to_string(), count.skill.clone()])
                .collect();
            let mut json = cluster_json(&cluster);
            json["skills"] = found
                .skills
                .iter()
                .map(|count| json!({ "skill": count.skill, "job_count": count.job_count }))
                .collect();
            context.output.print(&Table::new(&["postings", "skill"], rows, json))?;
            Ok(Outcome::Done)
        }
    }
}

fn cluster_row(cluster: &Cluster) -> Vec<String> {
    vec![
        cluster.cluster_id.to_string(),
        cluster.size.to_string(),
        format!("{:.2}", cluster.cohesion_score),
        cluster.label.clone(),
    ]
}

fn cluster_json(cluster: &Cluster) -> Value {
    json!({ "cluster_id": cluster.cluster_id, "label": cluster.label, "size": cluster.size,
        "top_skills": cluster.top_skills, "cohesion_score": cluster.cohesion_score })
}
