//! Taxonomies: import, listing, activation, concepts.

use observatory_proto::pipeline::v1::{
    ActivateTaxonomyRequest, ActivateTaxonomyResponse, GetConceptRequest, GetConceptResponse,
    ImportTaxonomyRequest, ImportTaxonomyResponse, ListTaxonomiesRequest, ListTaxonomiesResponse,
    Taxonomy as TaxonomyMessage, TaxonomyConcept, TaxonomyHeader, TaxonomyLabel, TaxonomyRelation,
    import_taxonomy_request::Item, taxonomy_service_server::TaxonomyService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Services, error};
use crate::{
    domain::taxonomy::{Concept, ConceptKind, Label, Relation},
    store::{Connection, PgConnection, taxonomies, taxonomies::TaxonomySummary},
};

/// A taxonomy as it arrives.
#[derive(Default)]
struct Incoming {
    header: Option<TaxonomyHeader>,
    concepts: Vec<Concept>,
    relations: Vec<Relation>,
}

impl Incoming {
    fn take(&mut self, item: Item) -> Result<(), Status> {
        match item {
            Item::Header(header) => {
                for (field, value) in [("header.name", &header.name), ("header.version", &header.version)] {
                    if value.is_empty() || value.contains('@') {
                        return Err(error::invalid(field, format!("`{value}` must be non-empty without `@`")));
                    }
                }
                self.header = Some(header);
            }
            Item::Concept(concept) => self.concepts.push(concept_from(concept)?),
            Item::Relation(relation) => self.relations.push(Relation {
                from: relation.from_uri,
                kind: relation.kind,
                to: relation.to_uri,
            }),
        }
        Ok(())
    }
}

fn concept_from(message: TaxonomyConcept) -> Result<Concept, Status> {
    let kind = match message.kind.as_str() {
        "skill" => ConceptKind::Skill,
        "occupation" => ConceptKind::Occupation,
        other => {
            let problem = format!("`{other}` of {} is not `skill` or `occupation`", message.uri);
            return Err(error::invalid("concept.kind", problem));
        }
    };
    if message.uri.is_empty() || message.labels.iter().all(|label| label.text.trim().is_empty()) {
        let problem = format!("concept `{}` needs a uri and at least one label", message.uri);
        return Err(error::invalid("concept", problem));
    }
    let labels = message
        .labels
        .into_iter()
        .filter(|label| !label.text.trim().is_empty())
        .map(|label| Label { language: label.language, text: label.text, preferred: label.preferred })
        .collect();
    Ok(Concept { uri: message.uri, kind, class: message.class, labels })
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
        labels: taxonomy.labels.unsigned_abs(),
        relations: taxonomy.relations.unsigned_abs(),
    }
}

#[tonic::async_trait]
impl TaxonomyService for Services {
    async fn import_taxonomy(
        &self,
        request: Request<Streaming<ImportTaxonomyRequest>>,
    ) -> Result<Response<ImportTaxonomyResponse>, Status> {
        let mut stream = request.into_inner();
        let mut incoming = Incoming::default();
        while let Some(ImportTaxonomyRequest { item }) = stream.message().await? {
            incoming.take(item.ok_or_else(|| error::invalid("item", "is empty"))?)?;
        }
        let header = incoming.header.ok_or_else(|| error::invalid("header", "is missing"))?;
        if incoming.concepts.is_empty() {
            return Err(error::invalid("concept", "the taxonomy holds no concepts"));
        }
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        let (name, version) = (&header.name, &header.version);
        taxonomies::replace(&mut transaction, name, version, &incoming.concepts, &incoming.relations)
            .await
            .map_err(error::sql)?;
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
        let found = taxonomies::activate(&mut transaction, &asked.name, &asked.version)
            .await
            .map_err(error::sql)?;
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
        let uri = request.into_inner().uri;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let active = taxonomies::active(&mut connection).await.map_err(error::sql)?;
        let Some((taxonomy_id, _, _)) = active else {
            return Err(error::precondition("no taxonomy is active; import one with `observatory taxonomy import`"));
        };
        let concept = taxonomies::concept(&mut connection, taxonomy_id, &uri).await.map_err(error::sql)?;
        let concept = concept.ok_or_else(|| error::not_found("concept", &uri))?;
        let relations =
            taxonomies::relations_of(&mut connection, taxonomy_id, &uri).await.map_err(error::sql)?;
        Ok(Response::new(GetConceptResponse {
            concept: Some(concept_message(concept)),
            relations: relations.into_iter().map(relation_message).collect(),
        }))
    }
}

fn concept_message(concept: Concept) -> TaxonomyConcept {
    let labels = concept
        .labels
        .into_iter()
        .map(|label| TaxonomyLabel { language: label.language, text: label.text, preferred: label.preferred })
        .collect();
    TaxonomyConcept { uri: concept.uri, kind: concept.kind.name().to_owned(), class: concept.class, labels }
}

fn relation_message(relation: Relation) -> TaxonomyRelation {
    TaxonomyRelation { from_uri: relation.from, kind: relation.kind, to_uri: relation.to }
}
