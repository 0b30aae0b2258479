//! `taxonomy`: import, list, activate and look up taxonomies.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use observatory_proto::pipeline::v1::{
    ActivateTaxonomyRequest, GetConceptRequest, GetConceptResponse, ImportTaxonomyRequest,
    ListTaxonomiesRequest, Taxonomy, TaxonomyFileChunk, TaxonomyHeader, import_taxonomy_request::Item,
    taxonomy_service_client::TaxonomyServiceClient,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::Context;
use crate::client::{Channel, answer};
use crate::output::{Outcome, Table, progress};

/// Name of the taxonomy of the lexicon's own concepts.
const LEXICON_TAXONOMY: &str = "esco-lexicon";

/// Bytes of a file sent in one message.
const CHUNK: usize = 1 << 20;

/// Import and choose the taxonomy that skills are linked to.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Import a taxonomy; the one with the same name and version is replaced.
    #[command(subcommand)]
    Import(Import),
    /// List imported taxonomies.
    List,
    /// Link skills to this taxonomy from now on.
    Activate {
        /// NAME@VERSION, as `taxonomy list` shows it.
        taxonomy: String,
    },
    /// Show a concept of the active taxonomy.
    Show {
        /// The concept's URI.
        uri: String,
    },
}

#[derive(Debug, clap::Subcommand)]
enum Import {
    /// Folders of ESCO tables (CSV, also .gz) as the portal hands them out, or one bilingual table.
    Esco {
        /// Folders; several are merged, the first one names a concept first.
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
        /// Languages to keep, such as es; may be given several times [default: all found].
        #[arg(long = "language", value_name = "LANG")]
        languages: Vec<String>,
        #[command(flatten)]
        named: Named,
    },
    /// The ESCO concepts that the built-in lexicon is linked to by hand, some 800: no download is needed.
    Lexicon {
        #[command(flatten)]
        named: Named,
    },
    /// One file with the columns uri, kind, class, language, label, preferred.
    Csv {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        named: Named,
    },
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Name of the taxonomy [default: esco, esco-lexicon, or the file's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Version of the taxonomy.
    #[arg(long, default_value = "1", value_name = "VERSION")]
    version: String,
    /// Import without making it the active one.
    #[arg(long)]
    inactive: bool,
}

/// Does what the subcommand says.
///
/// # Errors
/// When a file cannot be read, no service answers or it refuses.
pub async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Import(import) => {
            let (header, files) = prepare(import)?;
            let taxonomy = send(context.client.pipeline().await?, header, files).await?;
            print(context, &[taxonomy])
        }
        Action::List => {
            let mut service = TaxonomyServiceClient::new(context.client.pipeline().await?);
            let found = answer(service.list_taxonomies(ListTaxonomiesRequest {}).await)?.taxonomies;
            print(context, &found)
        }
        Action::Activate { taxonomy } => {
            let Some((name, version)) = taxonomy.rsplit_once('@') else {
                bail!("`{taxonomy}` is not NAME@VERSION");
            };
            let request = ActivateTaxonomyRequest { name: name.to_owned(), version: version.to_owned() };
            let mut service = TaxonomyServiceClient::new(context.client.pipeline().await?);
            let found = answer(service.activate_taxonomy(request).await)?.taxonomy;
            print(context, found.as_slice())
        }
        Action::Show { uri } => {
            let mut service = TaxonomyServiceClient::new(context.client.pipeline().await?);
            let found = answer(service.get_concept(GetConceptRequest { uri }).await)?;
            println!("{}", serde_json::to_string_pretty(&concept_json(&found))?);
            Ok(Outcome::Done)
        }
    }
}

/// A file and the number of the folder it came from.
type Numbered = (u32, PathBuf);

fn prepare(import: Import) -> anyhow::Result<(TaxonomyHeader, Vec<Numbered>)> {
    match import {
        Import::Esco { dirs, languages, named } => {
            let mut files = Vec::new();
            for (number, dir) in dirs.iter().enumerate() {
                let tables = tables(dir)?;
                if tables.is_empty() {
                    bail!("{} holds no .csv or .csv.gz file", dir.display());
                }
                files
                    .extend(tables.into_iter().map(|file| (u32::try_from(number).unwrap_or(u32::MAX), file)));
            }
            Ok((header("esco", languages, &named, "esco".to_owned()), files))
        }
        Import::Lexicon { named } => {
            Ok((header("lexicon", Vec::new(), &named, LEXICON_TAXONOMY.to_owned()), Vec::new()))
        }
        Import::Csv { file, named } => {
            File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            Ok((header("csv", Vec::new(), &named, stem), vec![(0, file)]))
        }
    }
}

fn header(format: &str, languages: Vec<String>, named: &Named, default_name: String) -> TaxonomyHeader {
    TaxonomyHeader {
        name: named.name.clone().unwrap_or(default_name),
        version: named.version.clone(),
        format: format.to_owned(),
        languages,
        activate: !named.inactive,
    }
}

fn tables(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let name = path.to_string_lossy();
        if name.ends_with(".csv") || name.ends_with(".csv.gz") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Imports the concepts of the built-in lexicon and activates them.
///
/// # Errors
/// When no service answers or it refuses.
pub async fn import_lexicon(pipeline: Channel) -> anyhow::Result<Taxonomy> {
    let named = Named { name: None, version: "1".to_owned(), inactive: false };
    send(pipeline, header("lexicon", Vec::new(), &named, LEXICON_TAXONOMY.to_owned()), Vec::new()).await
}

async fn send(pipeline: Channel, header: TaxonomyHeader, files: Vec<Numbered>) -> anyhow::Result<Taxonomy> {
    let mut service = TaxonomyServiceClient::new(pipeline);
    match files.len() {
        0 => progress(format_args!("importing {}@{}", header.name, header.version)),
        count => progress(format_args!("importing {}@{} from {count} files", header.name, header.version)),
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reader = tokio::task::spawn_blocking(move || stream_files(header, &files, &sender));
    let sent = service.import_taxonomy(ReceiverStream::new(receiver)).await;
    let read = reader.await?;
    let taxonomy = answer(sent)?.taxonomy.unwrap_or_default();
    read?;
    Ok(taxonomy)
}

fn stream_files(
    header: TaxonomyHeader,
    files: &[Numbered],
    sender: &Sender<ImportTaxonomyRequest>,
) -> anyhow::Result<()> {
    let send = |item| {
        let sent = sender.blocking_send(ImportTaxonomyRequest { item: Some(item) });
        sent.ok().context("the service stopped reading")
    };
    send(Item::Header(header))?;
    for (folder, path) in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        loop {
            let mut data = Vec::with_capacity(CHUNK);
            let length = file.by_ref().take(CHUNK as u64).read_to_end(&mut data);
            if length.with_context(|| format!("cannot read {}", path.display()))? == 0 {
                break;
            }
            send(Item::Chunk(TaxonomyFileChunk { folder: *folder, name: name.clone(), data }))?;
        }
    }
    Ok(())
}

fn print(context: &Context, found: &[Taxonomy]) -> anyhow::Result<Outcome> {
    let rows = found
        .iter()
        .map(|taxonomy| {
            vec![
                format!("{}@{}", taxonomy.name, taxonomy.version),
                if taxonomy.active { "yes" } else { "no" }.to_owned(),
                taxonomy.skills.to_string(),
                taxonomy.occupations.to_string(),
                taxonomy.labels.to_string(),
                taxonomy.relations.to_string(),
            ]
        })
        .collect();
    let header = ["taxonomy", "active", "skills", "occupations", "labels", "relations"];
    context.output.print(&Table::new(&header, rows, found.iter().map(as_json).collect()))?;
    Ok(Outcome::from_fine(!found.is_empty()))
}

fn as_json(taxonomy: &Taxonomy) -> Value {
    json!({ "name": taxonomy.name, "version": taxonomy.version, "active": taxonomy.active,
        "skills": taxonomy.skills, "occupations": taxonomy.occupations, "labels": taxonomy.labels,
        "relations": taxonomy.relations })
}

fn concept_json(found: &GetConceptResponse) -> Value {
    let concept = found.concept.clone().unwrap_or_default();
    let labels: Vec<Value> = concept
        .labels
        .iter()
        .map(|label| json!({ "language": label.language, "label": label.text, "preferred": label.preferred }))
        .collect();
    let relations: Vec<Value> = found
        .relations
        .iter()
        .map(|relation| json!({ "from": relation.from_uri, "kind": relation.kind, "to": relation.to_uri }))
        .collect();
    json!({ "uri": concept.uri, "kind": concept.kind, "class": concept.class, "labels": labels,
        "relations": relations })
}
