//! `taxonomy`: imports, lists, activates, compares and looks up taxonomies.
//!
//! Files are decoded here and interpreted by the service.

mod diff;
mod vectors;

use std::path::{Path, PathBuf};

use anyhow::bail;
use observatory_proto::pipeline::v1::{
    ActivateTaxonomyRequest, GetConceptRequest, GetConceptResponse, ImportTaxonomyRequest,
    ListTaxonomiesRequest, Taxonomy, TaxonomyAncestor, TaxonomyConcept, TaxonomyFileChunk, TaxonomyHeader,
    import_taxonomy_request::Item, taxonomy_service_client::TaxonomyServiceClient,
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::{Connection, answer};
use crate::context::Context;
use crate::files::archive::{self, SourceFile};
use crate::files::encoding;
use crate::output::{Document, Outcome, Table, progress, while_waiting};

/// Name of the taxonomy of the lexicon's own concepts; another than `esco`, so that the whole of
/// ESCO can be imported next to it.
const LEXICON_TAXONOMY: &str = "esco-lexicon";

/// Bytes of a file per message, well below the message limit of the service. Not tuned.
const CHUNK: usize = 1 << 20;

/// Import, list, activate, compare and look up skill taxonomies.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Import a taxonomy, replacing the one with the same name and version.
    #[command(subcommand)]
    Import(Import),
    /// List imported taxonomies.
    List,
    /// Make a taxonomy the active one, which skills are linked to.
    Activate {
        /// NAME@VERSION, as shown by `taxonomy list`.
        taxonomy: String,
    },
    /// Give the labels of a taxonomy vectors, by which `link` also ranks; an import does this by
    /// itself.
    ///
    /// Labels that have a vector of the served model are left as they are.
    Embed {
        /// NAME@VERSION, or NAME where one version is stored or active [default: the active
        /// taxonomy].
        taxonomy: Option<String>,
    },
    /// Show a concept with its descriptions and what is above it.
    Show {
        /// URI of the concept.
        uri: String,
        /// NAME@VERSION, or NAME where one version is stored or active [default: the active
        /// taxonomy].
        #[arg(long, value_name = "NAME@VERSION")]
        taxonomy: Option<String>,
    },
    /// List what is different between two taxonomies: concepts, labels, classes, places.
    ///
    /// Differences are no failure: the exit code is 0.
    Diff {
        /// NAME@VERSION, or NAME where one version is stored or active.
        from: String,
        /// NAME@VERSION, or NAME where one version is stored or active.
        to: String,
    },
}

#[derive(Debug, clap::Subcommand)]
enum Import {
    /// Import ESCO as downloaded from its portal: a .zip, a folder, single tables or one bilingual
    /// table.
    Esco {
        /// Archives, folders or files; several are merged, with labels of earlier ones first.
        #[arg(required = true, value_name = "PATH")]
        places: Vec<PathBuf>,
        /// Languages to keep, such as es; may be given several times [default: all found].
        #[arg(long = "language", value_name = "LANG")]
        languages: Vec<String>,
        #[command(flatten)]
        named: Named,
    },
    /// Import the ESCO concepts that the built-in lexicon is linked to, about 900; no download
    /// needed.
    Lexicon {
        #[command(flatten)]
        named: Named,
    },
    /// Import a CSV file with one label a row and the columns uri, kind, class, language, label,
    /// preferred, and where wanted broader and description.
    ///
    /// The kind is skill, occupation or group; broader holds the uri of the concept above, several
    /// separated by |.
    Csv {
        /// CSV file.
        file: PathBuf,
        #[command(flatten)]
        named: Named,
    },
}

impl Import {
    fn named(&self) -> &Named {
        match self {
            Self::Esco { named, .. } | Self::Lexicon { named } | Self::Csv { named, .. } => named,
        }
    }
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Name of the taxonomy [default: esco, esco-lexicon, or the file's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Version of the taxonomy.
    #[arg(long, default_value = "1", value_name = "VERSION")]
    version: String,
    /// Do not activate the taxonomy after the import.
    #[arg(long)]
    inactive: bool,
    /// Do not give the labels vectors; `taxonomy embed` does it later.
    #[arg(long)]
    no_vectors: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// If a file cannot be read, or the service cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Import(import) => {
            let without = import.named().no_vectors;
            // The files first: connecting may start a stack, in vain if they cannot be read.
            let (header, files) = prepare(import)?;
            let pipeline = context.client.pipeline().await?;
            let mut taxonomy = send(pipeline.clone(), header, files).await?;
            if !without {
                vectors::embed_imported(pipeline, &mut taxonomy).await;
            }
            print(context, &[taxonomy])
        }
        Action::List => {
            let mut service = TaxonomyServiceClient::new(context.client.pipeline().await?);
            let found = answer(service.list_taxonomies(ListTaxonomiesRequest {}).await)?.taxonomies;
            print(context, &found)
        }
        Action::Activate { taxonomy } => {
            let Some((name, version)) = taxonomy.rsplit_once('@') else {
                bail!("invalid taxonomy `{taxonomy}`: expected NAME@VERSION");
            };
            let request = ActivateTaxonomyRequest { name: name.to_owned(), version: version.to_owned() };
            let mut service = TaxonomyServiceClient::new(context.client.pipeline().await?);
            let found = answer(service.activate_taxonomy(request).await)?.taxonomy;
            print(context, found.as_slice())
        }
        Action::Show { uri, taxonomy } => {
            let request = GetConceptRequest { uri, taxonomy: taxonomy.unwrap_or_default() };
            let mut service = TaxonomyServiceClient::new(context.client.pipeline().await?);
            let found = answer(service.get_concept(request).await)?;
            context.output.print(&Document::from(concept_json(found)))?;
            Ok(Outcome::Done)
        }
        Action::Embed { taxonomy } => vectors::run(context, taxonomy).await,
        Action::Diff { from, to } => diff::run(context, from, to).await,
    }
}

/// A file with the number of its folder.
type Numbered = (u32, SourceFile);

fn prepare(import: Import) -> anyhow::Result<(TaxonomyHeader, Vec<Numbered>)> {
    match import {
        Import::Esco { places, languages, named } => {
            let mut files = Vec::new();
            for place in &places {
                let found = archive::find(place)?;
                let tables: Vec<SourceFile> = found.into_iter().filter(|file| is_table(&file.name)).collect();
                if tables.is_empty() {
                    bail!(
                        "{} contains no tables: expected .csv files, plain, .gz or in a .zip",
                        place.display()
                    );
                }
                files.extend(tables);
            }
            Ok((header("esco", languages, &named, "esco".to_owned()), numbered(files)))
        }
        Import::Lexicon { named } => {
            Ok((header("lexicon", Vec::new(), &named, LEXICON_TAXONOMY.to_owned()), Vec::new()))
        }
        Import::Csv { file, named } => {
            let mut found = archive::find(&file)?;
            let (Some(table), true) = (found.pop(), found.is_empty()) else {
                bail!("{} is not a single file: expected a .csv, plain, .gz or in a .zip", file.display());
            };
            let stem = Path::new(&table.name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
            Ok((header("csv", Vec::new(), &named, stem.unwrap_or_default()), vec![(0, table)]))
        }
    }
}

fn is_table(name: &str) -> bool {
    let name = name.to_lowercase();
    [".csv", ".tsv", ".txt"].iter().any(|end| name.ends_with(end))
}

/// Numbers the folders of the files in order, since file names may repeat in different folders.
fn numbered(files: Vec<SourceFile>) -> Vec<Numbered> {
    let mut folders: Vec<String> = Vec::new();
    let mut numbered = Vec::with_capacity(files.len());
    for file in files {
        let known = folders.iter().position(|known| *known == file.folder);
        let place = known.unwrap_or_else(|| {
            folders.push(file.folder.clone());
            folders.len() - 1
        });
        numbered.push((u32::try_from(place).unwrap_or(u32::MAX), file));
    }
    numbered
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

/// Imports the concepts of the built-in lexicon, activates them and gives their labels vectors.
///
/// # Errors
/// If the service cannot be reached or refuses.
pub(crate) async fn import_lexicon(pipeline: Connection) -> anyhow::Result<Taxonomy> {
    let named = Named { name: None, version: "1".to_owned(), inactive: false, no_vectors: false };
    let header = header("lexicon", Vec::new(), &named, LEXICON_TAXONOMY.to_owned());
    let mut taxonomy = send(pipeline.clone(), header, Vec::new()).await?;
    vectors::embed_imported(pipeline, &mut taxonomy).await;
    Ok(taxonomy)
}

async fn send(
    pipeline: Connection,
    header: TaxonomyHeader,
    files: Vec<Numbered>,
) -> anyhow::Result<Taxonomy> {
    let mut service = TaxonomyServiceClient::new(pipeline);
    let name = format!("{}@{}", header.name, header.version);
    match files.len() {
        0 => progress(format_args!("importing {name}")),
        1 => progress(format_args!("importing {name} from 1 file")),
        count => progress(format_args!("importing {name} from {count} files")),
    }
    // A few chunks only: reading must not get ahead of the service by whole files.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reader = tokio::task::spawn_blocking(move || stream_files(header, &files, &sender));
    let sent = service.import_taxonomy(ReceiverStream::new(receiver));
    let sent = while_waiting(&format!("importing {name}"), sent).await;
    // A file that cannot be read ends the stream early, and the service then complains about that;
    // the problem with the file is the real cause.
    // The reader's result first: it tells which of the two errors came before the other.
    match reader.await? {
        Err(problem) if problem.downcast_ref::<Stopped>().is_none() => Err(problem),
        _ => Ok(answer(sent)?.taxonomy.unwrap_or_default()),
    }
}

/// The service stopped reading; its own error says why.
#[derive(Debug, thiserror::Error)]
#[error("the service stopped reading")]
struct Stopped;

fn stream_files(
    header: TaxonomyHeader,
    files: &[Numbered],
    sender: &Sender<ImportTaxonomyRequest>,
) -> anyhow::Result<()> {
    send_item(sender, Item::Header(header))?;
    for (folder, file) in files {
        let bytes = file.read()?;
        let decoded =
            encoding::decode(&bytes, None).map_err(|problem| anyhow::anyhow!("{}: {problem}", file.label))?;
        decoded.notes.iter().for_each(|note| progress(format_args!("{}: {note}", file.label)));
        let text = decoded.text.into_bytes();
        // Send an empty file too, so that the service can report it.
        let mut parts: Vec<&[u8]> = text.chunks(CHUNK).collect();
        parts.extend(text.is_empty().then_some(&text[..]));
        for data in parts {
            let chunk = TaxonomyFileChunk {
                folder: *folder,
                name: file.name.clone(),
                data: data.to_vec(),
                source: file.label.clone(),
            };
            send_item(sender, Item::Chunk(chunk))?;
        }
    }
    Ok(())
}

fn send_item(sender: &Sender<ImportTaxonomyRequest>, item: Item) -> Result<(), Stopped> {
    sender.blocking_send(ImportTaxonomyRequest { item: Some(item) }).map_err(|_| Stopped)
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
                taxonomy.groups.to_string(),
                taxonomy.labels.to_string(),
                taxonomy.relations.to_string(),
                if taxonomy.vectors.is_empty() { "no" } else { "yes" }.to_owned(),
            ]
        })
        .collect();
    let header = ["taxonomy", "active", "skills", "occupations", "groups", "labels", "relations", "vectors"];
    let table = Table::new(&header, rows, found.iter().map(as_json).collect());
    context.output.list(&table, || {
        "no taxonomies yet; import one with `observatory taxonomy import esco PATH`".to_owned()
    })
}

fn as_json(taxonomy: &Taxonomy) -> Value {
    json!({ "name": taxonomy.name, "version": taxonomy.version, "active": taxonomy.active,
        "skills": taxonomy.skills, "occupations": taxonomy.occupations, "groups": taxonomy.groups,
        "labels": taxonomy.labels, "relations": taxonomy.relations,
        "vectors": (!taxonomy.vectors.is_empty()).then_some(&taxonomy.vectors) })
}

fn concept_json(found: GetConceptResponse) -> Value {
    let concept = found.concept.unwrap_or_default();
    let labels: Vec<Value> = concept
        .labels
        .iter()
        .map(|label| json!({ "language": label.language, "label": label.text, "preferred": label.preferred }))
        .collect();
    let descriptions: Vec<Value> = concept
        .descriptions
        .iter()
        .map(|one| json!({ "language": one.language, "description": one.text }))
        .collect();
    let relations: Vec<Value> = found
        .relations
        .iter()
        .map(|relation| json!({ "from": relation.from_uri, "kind": relation.kind, "to": relation.to_uri }))
        .collect();
    let broader: Vec<Value> = found.ancestors.iter().map(ancestor_json).collect();
    json!({ "taxonomy": found.taxonomy, "uri": concept.uri, "kind": concept.kind, "class": concept.class,
        "labels": labels, "descriptions": descriptions, "broader": broader, "relations": relations })
}

fn ancestor_json(ancestor: &TaxonomyAncestor) -> Value {
    let TaxonomyConcept { uri, kind, class, labels, .. } = ancestor.concept.clone().unwrap_or_default();
    let names = labels.into_iter().filter(|label| label.preferred);
    let names: Map<String, Value> = names.map(|label| (label.language, label.text.into())).collect();
    json!({ "distance": ancestor.distance, "uri": uri, "kind": kind, "class": class, "labels": names })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that are sent for a file of `bytes`, or why it is refused.
    fn sent(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("own.csv");
        std::fs::write(&file, bytes).unwrap();
        let named = Named { name: None, version: "1".to_owned(), inactive: false, no_vectors: false };
        let (header, files) = prepare(Import::Csv { file, named }).unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
        stream_files(header, &files, &sender)?;
        drop(sender);
        let mut data = Vec::new();
        while let Ok(message) = receiver.try_recv() {
            if let Some(Item::Chunk(chunk)) = message.item {
                data.extend(chunk.data);
            }
        }
        Ok(data)
    }

    #[test]
    fn files_are_sent_as_utf_8_whatever_their_encoding() {
        let text = "uri;kind;class;language;label;preferred\nx:1;skill;;es;quesería y jardín;1\n";
        let wide = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(unit).collect()
        };
        let western = encoding_rs::WINDOWS_1252.encode(text).0.into_owned();
        let marked = format!("\u{feff}{text}").into_bytes();
        for bytes in [text.into(), marked, wide(u16::to_le_bytes), wide(u16::to_be_bytes), western] {
            assert_eq!(sent(&bytes).unwrap(), text.as_bytes(), "{bytes:x?}");
        }
        let refused = sent(b"\xff\xfe\0\0u\0\0\0").unwrap_err().to_string();
        assert!(refused.contains("own.csv: UTF-32 is not supported"), "{refused}");
    }

    #[test]
    fn equal_names_in_two_folders_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["es", "en"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join("broaderRelationsOccPillar.csv"), "a").unwrap();
            std::fs::write(dir.path().join(folder).join("Skills.CSV"), "a").unwrap();
            std::fs::write(dir.path().join(folder).join("readme.md"), "a").unwrap();
        }
        let named = Named { name: None, version: "1".to_owned(), inactive: false, no_vectors: false };
        let places = vec![dir.path().join("es"), dir.path().join("en")];
        let (header, files) = prepare(Import::Esco { places, languages: Vec::new(), named }).unwrap();
        assert_eq!(header.name, "esco");
        let found: Vec<(u32, &str)> =
            files.iter().map(|(number, file)| (*number, file.name.as_str())).collect();
        let (skills, broader) = ("Skills.CSV", "broaderRelationsOccPillar.csv");
        assert_eq!(found, [(0, skills), (0, broader), (1, skills), (1, broader)]);
    }
}
