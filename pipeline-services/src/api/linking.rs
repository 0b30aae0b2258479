//! Linking single texts: the concepts of a taxonomy that they may mean.
//!
//! Any stored taxonomy may be asked, the active one by default. A call is bounded in texts, and is
//! answered on a thread for reading.

use std::sync::Arc;

use observatory_proto::pipeline::v1::{LinkRequest, LinkResponse, LinkedConcept, LinkedText};
use tonic::Status;

use super::{Services, error, non_empty};
use crate::{
    domain::taxonomy::ConceptKind,
    lexicon::Lexicon,
    reading,
    store::taxonomies,
    taxonomy::{Linked, Taxonomy},
};

/// Most texts of a call. Not tuned: at some milliseconds a text a call ends within seconds.
const TEXTS: usize = 256;
/// Most characters of a text: twice a title's, for a sentence of an advertisement.
const CHARACTERS: usize = 2_000;
/// Concepts of a text unless a caller says how many.
const TOP: u32 = 10;
/// Most concepts of a text. Not tuned: measures of rankings look at a hundred.
const MOST: u32 = 1_000;

/// Answers a call.
pub(super) async fn link(services: &Services, asked: LinkRequest) -> Result<LinkResponse, Status> {
    let kind = check(&asked)?;
    let extractor = services.extractor.current().await.map_err(error::stage)?;
    let taxonomy = match non_empty(&asked.taxonomy) {
        Some(wanted) => stored(services, wanted).await?,
        None => extractor.shared_taxonomy().ok_or_else(|| {
            error::precondition("no taxonomy is active; import one with `observatory taxonomy import`")
        })?,
    };
    let named = format!("{}@{}", taxonomy.name(), taxonomy.version());
    let lexicon = extractor.shared_lexicon();
    let texts = reading::apart(move || answers(&taxonomy, &lexicon, kind, &asked)).await;
    let texts = texts.map_err(|panicked| Status::internal(panicked.to_string()))?;
    Ok(LinkResponse { texts, taxonomy: named, methods: vec!["words".to_owned(), "letters".to_owned()] })
}

fn check(asked: &LinkRequest) -> Result<ConceptKind, Status> {
    let kind = match asked.kind.as_str() {
        "skill" => ConceptKind::Skill,
        "occupation" => ConceptKind::Occupation,
        other => {
            return Err(error::invalid(
                "kind",
                format!("invalid kind `{other}`: expected skill or occupation"),
            ));
        }
    };
    if asked.texts.len() > TEXTS {
        let message = format!("{} texts, at most {TEXTS} are answered in one call", asked.texts.len());
        return Err(error::invalid("texts", message));
    }
    for (index, text) in asked.texts.iter().enumerate() {
        let field = format!("texts[{index}]");
        if text.trim().is_empty() {
            return Err(error::invalid(&field, "is empty"));
        }
        let length = text.chars().count();
        if length > CHARACTERS {
            return Err(error::invalid(
                &field,
                format!("has {length} characters, at most {CHARACTERS} are read"),
            ));
        }
    }
    if asked.top > MOST {
        return Err(error::invalid("top", format!("invalid top {}: expected 1 to {MOST}", asked.top)));
    }
    Ok(kind)
}

/// A stored taxonomy by NAME@VERSION, or by its name alone where that decides.
async fn stored(services: &Services, wanted: &str) -> Result<Arc<Taxonomy>, Status> {
    let (name, version) = match wanted.rsplit_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (wanted, None),
    };
    let mut connection = services.pool.acquire().await.map_err(error::sql)?;
    let versions = taxonomies::versions(&mut connection, name).await.map_err(error::sql)?;
    let active = taxonomies::active(&mut connection).await.map_err(error::sql)?;
    drop(connection);
    let listed =
        || versions.iter().map(|(_, version)| format!("{name}@{version}")).collect::<Vec<_>>().join(", ");
    let found = match version {
        Some(version) => versions.iter().find(|(_, stored)| stored == version),
        None => {
            // The active one is first.
            let decided = versions.len() == 1 || active.is_some_and(|(_, active, _)| active == name);
            if !decided && !versions.is_empty() {
                let message = format!("`{name}` has several versions: expected one of {}", listed());
                return Err(error::invalid("taxonomy", message));
            }
            versions.first()
        }
    };
    let Some((taxonomy_id, version)) = found else { return Err(error::not_found("taxonomy", wanted)) };
    services.extractor.vocabulary().stored(*taxonomy_id, (name, version)).await.map_err(error::sql)
}

fn answers(
    taxonomy: &Taxonomy,
    lexicon: &Lexicon,
    kind: ConceptKind,
    asked: &LinkRequest,
) -> Vec<LinkedText> {
    let top = if asked.top == 0 { TOP } else { asked.top } as usize;
    let answer = |text: &String| {
        let ranked = taxonomy.ranked((kind, text), lexicon.titles(), top, asked.surface);
        let doubtful = asked.abstain && !Taxonomy::is_clear(&ranked);
        let concepts = if doubtful {
            Vec::new()
        } else {
            ranked.iter().map(|linked| message(linked, asked.surface)).collect()
        };
        LinkedText { concepts }
    };
    asked.texts.iter().map(answer).collect()
}

fn message(linked: &Linked<'_>, surface: bool) -> LinkedConcept {
    let own = linked.label.filter(|_| surface);
    let label = own.or_else(|| linked.concept.preferred_label("es")).unwrap_or_default().to_owned();
    LinkedConcept { uri: linked.concept.uri.clone(), label, score: linked.score }
}
