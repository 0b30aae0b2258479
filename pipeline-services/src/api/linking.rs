//! Linking single texts: the concepts of a taxonomy that they may mean.
//!
//! Any stored taxonomy may be asked, the active one by default. A call is bounded in texts, and is
//! answered on a thread for reading. Vectors are compared where the taxonomy has them and their
//! model is served; the answer says whether they were.

mod vectors;

use std::sync::Arc;

use observatory_occupations::Coded;
use observatory_proto::pipeline::v1::{LinkRequest, LinkResponse, LinkedConcept, LinkedText};
use tonic::Status;

use super::{Services, error, non_empty};
use crate::{
    domain::taxonomy::ConceptKind,
    extractor::{CODED, Extractor},
    reading,
    store::taxonomies::{self, ResolveError},
    taxonomy::{Linked, Nearness, Occupations, Sought, Taxonomy},
};

/// Most texts of a call. Not tuned: at some milliseconds a text a call ends within seconds.
const TEXTS: usize = 256;
/// Most concepts of all texts of a call together. Not tuned: some 5 MB.
const CONCEPTS: usize = 32_000;
/// Most characters of a text: twice a title's, for a sentence of an advertisement.
const CHARACTERS: usize = 2_000;
/// Concepts of a text unless a caller says how many.
const TOP: u32 = 10;
/// Name of the classification that needs no import: the edition that its model has learned.
const CUOC: &str = "cuoc@2025";
/// Most concepts of a text. Not tuned: measures of rankings look at a hundred.
const MOST: u32 = 1_000;

/// Answers a call.
pub(super) async fn link(services: &Services, asked: LinkRequest) -> Result<LinkResponse, Status> {
    let kind = check(&asked)?;
    let extractor = services.extractor.current().await.map_err(error::stage)?;
    let target = match non_empty(&asked.taxonomy) {
        Some(wanted) => stored(services, wanted).await?,
        None => Target::Taxonomy(extractor.shared_taxonomy().ok_or_else(|| {
            error::precondition("no taxonomy is active; import one with `observatory taxonomy import`")
        })?),
    };
    let near = match &target {
        Target::Cuoc if kind != ConceptKind::Occupation => {
            return Err(error::invalid("kind", "cuoc holds occupations and no skills"));
        }
        Target::Cuoc => None,
        Target::Taxonomy(taxonomy) => vectors::near(services, (taxonomy, kind), &asked.texts).await?,
    };
    let (named, methods) = match &target {
        Target::Cuoc => (CUOC.to_owned(), vec!["classifier"]),
        Target::Taxonomy(taxonomy) => {
            let mut methods = vec!["words", "letters"];
            methods.extend((kind == ConceptKind::Occupation).then_some("classifier"));
            methods.extend(near.is_some().then_some("vectors"));
            (format!("{}@{}", taxonomy.name(), taxonomy.version()), methods)
        }
    };
    let methods = methods.into_iter().map(str::to_owned).collect();
    let near = near.unwrap_or_else(|| vec![Nearness::new(); asked.texts.len()]);
    let texts = reading::apart(move || answers(&target, &extractor, (kind, &asked), &near)).await;
    let texts = texts.map_err(|panicked| Status::internal(panicked.to_string()))?;
    Ok(LinkResponse { texts, taxonomy: named, methods })
}

/// What texts are linked to.
enum Target {
    /// A stored taxonomy.
    Taxonomy(Arc<Taxonomy>),
    /// The classification that the program knows without an import.
    Cuoc,
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
    let top = top(asked);
    if asked.texts.len() * top > CONCEPTS {
        let message = format!(
            "{} texts with {top} concepts each, at most {CONCEPTS} concepts are answered in one call",
            asked.texts.len()
        );
        return Err(error::invalid("top", message));
    }
    if asked.top > MOST {
        return Err(error::invalid("top", format!("invalid top {}: expected 1 to {MOST}", asked.top)));
    }
    Ok(kind)
}

/// The stored taxonomy that a reference stands for. CUOC need not be stored.
async fn stored(services: &Services, wanted: &str) -> Result<Target, Status> {
    let mut connection = services.pool.acquire().await.map_err(error::sql)?;
    let found = taxonomies::resolve(&mut connection, wanted).await;
    drop(connection);
    match found {
        Ok(found) => {
            services.extractor.vocabulary().stored(&found).await.map(Target::Taxonomy).map_err(error::sql)
        }
        Err(ResolveError::Unknown { .. }) if wanted == CUOC || CUOC.split('@').next() == Some(wanted) => {
            Ok(Target::Cuoc)
        }
        Err(problem) => Err(error::taxonomy("taxonomy", problem)),
    }
}

/// One answer for each text, in their order.
fn answers(
    target: &Target,
    extractor: &Extractor,
    (kind, asked): (ConceptKind, &LinkRequest),
    near: &[Nearness],
) -> Vec<LinkedText> {
    let top = top(asked);
    let answer = |(text, near): (&String, &Nearness)| match target {
        Target::Taxonomy(taxonomy) => linked(taxonomy, extractor, Sought { kind, text, near }, (top, asked)),
        Target::Cuoc => coded(extractor, text, top, asked.abstain),
    };
    asked.texts.iter().zip(near).map(answer).map(|concepts| LinkedText { concepts }).collect()
}

/// Concepts that are wanted of each text.
fn top(asked: &LinkRequest) -> usize {
    if asked.top == 0 { TOP as usize } else { asked.top as usize }
}

fn linked(
    taxonomy: &Taxonomy,
    extractor: &Extractor,
    sought: Sought<'_>,
    (top, asked): (usize, &LinkRequest),
) -> Vec<LinkedConcept> {
    let occupations = Occupations { titles: extractor.lexicon().titles(), coder: extractor.coder() };
    let ranked = taxonomy.ranked(sought, occupations, top, asked.surface);
    if asked.abstain && !Taxonomy::is_clear(&ranked) {
        return Vec::new();
    }
    ranked.iter().map(|linked| message(linked, asked)).collect()
}

/// CUOC's occupations of a title: their codes stand for URIs.
fn coded(extractor: &Extractor, title: &str, top: usize, abstain: bool) -> Vec<LinkedConcept> {
    let ranked = extractor.coder().rank(title, None, top);
    if abstain && ranked.first().is_none_or(|best| best.score < CODED) {
        return Vec::new();
    }
    let concept = |coded: Coded<'_>| LinkedConcept {
        uri: coded.code.to_owned(),
        label: coded.name.to_owned(),
        score: coded.score,
    };
    ranked.into_iter().map(concept).collect()
}

fn message(linked: &Linked<'_>, asked: &LinkRequest) -> LinkedConcept {
    let own = linked.label.filter(|_| asked.surface);
    let language = non_empty(&asked.language).unwrap_or("es");
    let label = own.or_else(|| linked.concept.preferred_label(language)).unwrap_or_default().to_owned();
    LinkedConcept { uri: linked.concept.uri.clone(), label, score: linked.score }
}
