//! Taxonomies: import, listing, activation, concepts.
//!
//! Uploads are spooled to a private folder that goes away with the request, and are limited in
//! size. A taxonomy is stored as a whole or not at all.

mod difference;
mod vectors;

use std::{collections::BTreeMap, fs::OpenOptions, io::Write, path::Path};

use observatory_proto::pipeline::v1::{
    ActivateTaxonomyRequest, ActivateTaxonomyResponse, DiffTaxonomiesRequest, EmbedTaxonomyRequest,
    GetConceptRequest, GetConceptResponse, ImportTaxonomyRequest, ImportTaxonomyResponse, LinkRequest,
    LinkResponse, ListTaxonomiesRequest, ListTaxonomiesResponse, Taxonomy as TaxonomyMessage,
    TaxonomyAncestor, TaxonomyConcept, TaxonomyDescription, TaxonomyFileChunk, TaxonomyHeader, TaxonomyLabel,
    TaxonomyRelation, import_taxonomy_request::Item, taxonomy_service_server::TaxonomyService,
};
use tempfile::TempDir;
use tonic::{Request, Response, Status, Streaming};

use super::{Services, error, linking, non_empty};
use crate::{
    domain::taxonomy::{Concept, Description, Relation},
    lexicon::Lexicon,
    store::{
        Connection, PgConnection, taxonomies,
        taxonomies::{Stored, TaxonomySummary},
    },
    taxonomy::{self, Loaded, Source},
};

/// Largest upload. Not tuned: a bound against a stream that never ends, above any known taxonomy.
const UPLOAD_LIMIT: usize = 2 << 30;

/// Files of a taxonomy as they arrive, in a folder that goes away with the request.
struct Upload {
    folder: TempDir,
    header: Option<TaxonomyHeader>,
    /// Files of each folder.
    files: BTreeMap<u32, Vec<Source>>,
    bytes: usize,
}

impl Upload {
    fn new() -> Result<Self, Status> {
        let folder = TempDir::new().map_err(spool_failed)?;
        Ok(Self { folder, header: None, files: BTreeMap::new(), bytes: 0 })
    }

    fn take(&mut self, item: Item) -> Result<(), Status> {
        match item {
            Item::Header(header) => {
                // `@` parts name and version wherever both are written as one.
                for (field, value) in [("header.name", &header.name), ("header.version", &header.version)] {
                    if value.is_empty() || value.contains('@') {
                        return Err(error::invalid(
                            field,
                            format!("`{value}` must be non-empty without `@`"),
                        ));
                    }
                }
                self.header = Some(header);
                Ok(())
            }
            Item::Chunk(chunk) => self.append(&chunk),
        }
    }

    fn append(&mut self, chunk: &TaxonomyFileChunk) -> Result<(), Status> {
        // A name with a separator or of dots would be written outside of the folder.
        let plain = Path::new(&chunk.name).file_name().is_some_and(|name| name == chunk.name.as_str());
        if !plain {
            return Err(error::invalid("chunk.name", format!("`{}` is not a plain file name", chunk.name)));
        }
        self.bytes += chunk.data.len();
        if self.bytes > UPLOAD_LIMIT {
            return Err(error::invalid("chunk.data", "the files hold more than 2 GiB"));
        }
        let folder = self.folder.path().join(chunk.folder.to_string());
        std::fs::create_dir_all(&folder).map_err(spool_failed)?;
        let path = folder.join(&chunk.name);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&chunk.data)).map_err(spool_failed)?;
        let files = self.files.entry(chunk.folder).or_default();
        if files.iter().all(|known| known.path != path) {
            let shown = non_empty(&chunk.source).unwrap_or(&chunk.name).to_owned();
            files.push(Source { name: chunk.name.clone(), path, shown });
        }
        Ok(())
    }

    /// Reads the files in the format that the header names.
    fn read(&self, header: &TaxonomyHeader) -> Result<Loaded, Status> {
        let folders: Vec<Vec<Source>> = self.files.values().cloned().collect();
        let read = match (header.format.as_str(), folders.iter().flatten().next()) {
            ("lexicon", None) => {
                let lexicon = Lexicon::built_in().map_err(|problem| Status::internal(problem.to_string()))?;
                Ok(Loaded { concepts: lexicon.concepts().to_vec(), ..Loaded::default() })
            }
            ("lexicon", Some(_)) => {
                return Err(error::invalid("chunk", "the lexicon brings its own concepts"));
            }
            (_, None) => return Err(error::invalid("chunk", "there are no files")),
            ("esco", _) => taxonomy::esco::read_files(&folders, &header.languages),
            ("csv", Some(file)) => taxonomy::csv_form::read(file),
            (other, _) => {
                return Err(error::invalid(
                    "header.format",
                    format!("`{other}` is not esco, csv or lexicon"),
                ));
            }
        };
        read.map_err(|problem| error::unreadable(crate::telemetry::chain(&problem)))
    }
}

fn spool_failed(problem: std::io::Error) -> Status {
    error::precondition(format!("the files cannot be kept while they are read: {problem}"))
}

/// The taxonomy that a request names, else the active one.
async fn asked_or_active(connection: &mut PgConnection, wanted: &str) -> Result<Stored, Status> {
    if let Some(wanted) = non_empty(wanted) {
        let stored = taxonomies::resolve(connection, wanted).await;
        return stored.map_err(|problem| error::taxonomy("taxonomy", problem));
    }
    let active = taxonomies::active(connection).await.map_err(error::sql)?;
    let (taxonomy_id, name, version) = active.ok_or_else(|| {
        error::precondition("no taxonomy is active; import one with `observatory taxonomy import`")
    })?;
    Ok(Stored { taxonomy_id, name, version, active: true })
}

async fn summary_of(
    connection: &mut PgConnection,
    name: &str,
    version: &str,
) -> Result<Option<TaxonomyMessage>, Status> {
    let all = taxonomies::list(connection).await.map_err(error::sql)?;
    Ok(all.into_iter().find(|taxonomy| taxonomy.name == name && taxonomy.version == version).map(message))
}

fn message(taxonomy: TaxonomySummary) -> TaxonomyMessage {
    TaxonomyMessage {
        name: taxonomy.name,
        version: taxonomy.version,
        active: taxonomy.active,
        skills: taxonomy.skills.unsigned_abs(),
        occupations: taxonomy.occupations.unsigned_abs(),
        groups: taxonomy.groups.unsigned_abs(),
        labels: taxonomy.labels.unsigned_abs(),
        relations: taxonomy.relations.unsigned_abs(),
        vectors: taxonomy.vectors.unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl TaxonomyService for Services {
    async fn import_taxonomy(
        &self,
        request: Request<Streaming<ImportTaxonomyRequest>>,
    ) -> Result<Response<ImportTaxonomyResponse>, Status> {
        let mut stream = request.into_inner();
        let mut upload = Upload::new()?;
        while let Some(ImportTaxonomyRequest { item }) = stream.message().await? {
            upload.take(item.ok_or_else(|| error::invalid("item", "is empty"))?)?;
        }
        let header = upload.header.clone().ok_or_else(|| error::invalid("header", "is missing"))?;
        let wanted = header.clone();
        // A whole taxonomy takes seconds to parse; no thread that serves calls may do it.
        let loaded = tokio::task::spawn_blocking(move || upload.read(&wanted))
            .await
            .map_err(|_| Status::internal("reading the files panicked"))??;
        // Once active, an empty taxonomy would link nothing and say nothing.
        if loaded.concepts.is_empty() {
            return Err(error::unreadable("the files hold no concepts"));
        }
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        let (name, version) = (&header.name, &header.version);
        let taxonomy_id =
            taxonomies::replace(&mut transaction, name, version, &loaded.concepts, &loaded.relations)
                .await
                .map_err(error::sql)?;
        taxonomies::describe(&mut transaction, taxonomy_id, &loaded.descriptions)
            .await
            .map_err(error::sql)?;
        // In the transaction of the import: nobody reads an active taxonomy that is half stored.
        if header.activate {
            taxonomies::activate(&mut transaction, name, version).await.map_err(error::sql)?;
        }
        transaction.commit().await.map_err(error::sql)?;
        let taxonomy = summary_of(&mut connection, name, version).await?;
        Ok(Response::new(ImportTaxonomyResponse { taxonomy }))
    }

    async fn list_taxonomies(
        &self,
        _request: Request<ListTaxonomiesRequest>,
    ) -> Result<Response<ListTaxonomiesResponse>, Status> {
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let all = taxonomies::list(&mut connection).await.map_err(error::sql)?;
        Ok(Response::new(ListTaxonomiesResponse { taxonomies: all.into_iter().map(message).collect() }))
    }

    async fn activate_taxonomy(
        &self,
        request: Request<ActivateTaxonomyRequest>,
    ) -> Result<Response<ActivateTaxonomyResponse>, Status> {
        let asked = request.into_inner();
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        let found =
            taxonomies::activate(&mut transaction, &asked.name, &asked.version).await.map_err(error::sql)?;
        if !found {
            return Err(error::not_found("taxonomy", &format!("{}@{}", asked.name, asked.version)));
        }
        transaction.commit().await.map_err(error::sql)?;
        let taxonomy = summary_of(&mut connection, &asked.name, &asked.version).await?;
        Ok(Response::new(ActivateTaxonomyResponse { taxonomy }))
    }

    async fn get_concept(
        &self,
        request: Request<GetConceptRequest>,
    ) -> Result<Response<GetConceptResponse>, Status> {
        let GetConceptRequest { uri, taxonomy } = request.into_inner();
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let stored = asked_or_active(&mut connection, &taxonomy).await?;
        let taxonomy_id = stored.taxonomy_id;
        let concept = taxonomies::concept(&mut connection, taxonomy_id, &uri).await.map_err(error::sql)?;
        let concept = concept.ok_or_else(|| error::not_found("concept", &uri))?;
        let relations =
            taxonomies::relations_of(&mut connection, taxonomy_id, &uri).await.map_err(error::sql)?;
        let descriptions =
            taxonomies::descriptions(&mut connection, taxonomy_id, &uri).await.map_err(error::sql)?;
        let above = taxonomies::above(&mut connection, taxonomy_id, &uri).await.map_err(error::sql)?;
        Ok(Response::new(GetConceptResponse {
            concept: Some(TaxonomyConcept {
                descriptions: descriptions.into_iter().map(description_message).collect(),
                ..concept_message(concept)
            }),
            relations: relations.into_iter().map(relation_message).collect(),
            ancestors: above.into_iter().map(ancestor_message).collect(),
            taxonomy: stored.to_string(),
        }))
    }

    async fn link(&self, request: Request<LinkRequest>) -> Result<Response<LinkResponse>, Status> {
        linking::link(self, request.into_inner()).await.map(Response::new)
    }

    type DiffTaxonomiesStream = difference::Stream;

    async fn diff_taxonomies(
        &self,
        request: Request<DiffTaxonomiesRequest>,
    ) -> Result<Response<Self::DiffTaxonomiesStream>, Status> {
        difference::stream(self, request.into_inner()).await.map(Response::new)
    }

    type EmbedTaxonomyStream = vectors::Totals;

    async fn embed_taxonomy(
        &self,
        request: Request<EmbedTaxonomyRequest>,
    ) -> Result<Response<Self::EmbedTaxonomyStream>, Status> {
        vectors::embed(self, request.into_inner()).await.map(Response::new)
    }
}

fn concept_message(concept: Concept) -> TaxonomyConcept {
    let labels = concept
        .labels
        .into_iter()
        .map(|label| TaxonomyLabel { language: label.language, text: label.text, preferred: label.preferred })
        .collect();
    TaxonomyConcept {
        uri: concept.uri,
        kind: concept.kind.name().to_owned(),
        class: concept.class,
        labels,
        descriptions: Vec::new(),
    }
}

fn ancestor_message((concept, distance): (Concept, u32)) -> TaxonomyAncestor {
    TaxonomyAncestor { concept: Some(concept_message(concept)), distance }
}

fn description_message(description: Description) -> TaxonomyDescription {
    TaxonomyDescription { language: description.language, text: description.text }
}

fn relation_message(relation: Relation) -> TaxonomyRelation {
    TaxonomyRelation { from_uri: relation.from, kind: relation.kind, to_uri: relation.to }
}
