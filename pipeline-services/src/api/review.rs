//! Verdicts of people on what the pipeline finds.
//!
//! It hides which rows stand for a wording, and what of a verdict holds from then on.

use std::collections::HashSet;

use observatory_proto::pipeline::v1::{
    Find as FindMessage, JudgeRequest, JudgeResponse, ListFindsRequest, ListFindsResponse,
    ListVerdictsRequest, ListVerdictsResponse, Verdict as VerdictMessage,
    review_service_server::ReviewService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Services, error, non_empty, orchestrator::timestamp, page_size};
use crate::{
    domain::{
        posting::{Document, Field},
        taxonomy::ConceptKind,
    },
    lexicon::{implication, subject},
    store::{
        PgConnection, postings,
        verdicts::{self, Find, NewVerdict, Verdict},
    },
    text::sentences::Sentences,
};

const KINDS: [&str; 3] = ["link", "skill", "implied"];
/// Characters of a reason or a name at most: a choice, a paragraph.
const LONGEST: usize = 1_000;

/// What a verdict holds for.
fn subject_of(find: &Find) -> String {
    match find.kind.as_str() {
        "implied" => implication(&find.wording, &find.label),
        _ => subject(&find.wording),
    }
}

impl Services {
    async fn open_finds(&self, asked: ListFindsRequest) -> Result<Vec<FindMessage>, Status> {
        let kind = non_empty(&asked.kind);
        if let Some(other) = kind.filter(|kind| !KINDS.contains(kind)) {
            return Err(error::invalid("kind", format!("`{other}` is not link, skill or implied")));
        }
        let size = page_size(asked.page_size)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let judged = verdicts::subjects(&mut connection).await.map_err(error::sql)?;
        let mut seen: HashSet<String> = judged.into_iter().collect();
        // In Rust, since the folding is ours: several spellings are one subject.
        let groups = verdicts::groups(&mut connection, kind).await.map_err(error::sql)?;
        let open = groups.into_iter().filter(|group| match &group.implied {
            Some(skill) => seen.insert(implication(&group.wording, skill)),
            None => seen.insert(subject(&group.wording)),
        });
        let open: Vec<_> = open.take(size as usize).collect();
        let ids: Vec<Uuid> = open.iter().map(|group| group.item_id).collect();
        let finds = verdicts::finds(&mut connection, &ids).await.map_err(error::sql)?;
        let jobs: Vec<Uuid> = finds.iter().filter_map(|find| find.job_id).collect();
        let ads = postings::by_ids(&mut connection, &jobs).await.map_err(error::sql)?;
        let mut messages = Vec::new();
        for group in open {
            // A row that went away in the meantime is left out.
            let Some(find) = finds.iter().find(|find| find.item_id == group.item_id) else { continue };
            let ad = ads.iter().find(|ad| Some(ad.job_id) == find.job_id).map(Document::from);
            let sentence = ad.map(|document| sentence(&document, find)).unwrap_or_default();
            let (confidence, postings) = (group.confidence, group.postings.unsigned_abs());
            messages.push(FindMessage { confidence, postings, sentence, ..found(find) });
        }
        Ok(messages)
    }

    async fn judged(&self, asked: JudgeRequest) -> Result<Verdict, Status> {
        let item_id = error::id("item_id", &asked.item_id)?;
        let (reviewer, why) = (text("reviewer", &asked.reviewer)?, text("why", &asked.why)?);
        if reviewer.is_empty() {
            return Err(error::invalid("reviewer", "is empty: name who judges"));
        }
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let find = self.find(&mut connection, item_id).await?;
        let verdict = asked.verdict.as_str();
        if why.is_empty() && verdict != "accept" {
            return Err(error::invalid("why", "is empty: say what decided"));
        }
        let (uri, label) = match verdict {
            "accept" => (find.uri.clone(), Some(find.label.clone())),
            "reject" if find.kind == "link" => (None, Some(find.label.clone())),
            "reject" => (None, None),
            "correct" => self.correction(&find, &asked).await?,
            other => {
                return Err(error::invalid("verdict", format!("`{other}` is not accept, reject or correct")));
            }
        };
        if verdict != "correct" && !(asked.uri.is_empty() && asked.label.is_empty()) {
            return Err(error::invalid("verdict", "uri and label are of a correction"));
        }
        let subject = subject_of(&find);
        let (uri, label) = (uri.as_deref(), label.as_deref());
        let new = NewVerdict { find: &find, subject: &subject, verdict, uri, label, reviewer, why };
        verdicts::add(&mut connection, &new).await.map_err(error::sql)?;
        let stored = verdicts::latest_on(&mut connection, None, Some(&subject)).await.map_err(error::sql)?;
        stored.ok_or_else(|| error::not_found("verdict", &subject))
    }

    /// A find by its row, or as it was when it was last judged.
    async fn find(&self, connection: &mut PgConnection, item_id: Uuid) -> Result<Find, Status> {
        let stored = verdicts::finds(connection, &[item_id]).await.map_err(error::sql)?;
        if let Some(find) = stored.into_iter().next() {
            return Ok(find);
        }
        let judged = verdicts::latest_on(connection, Some(item_id), None).await.map_err(error::sql)?;
        judged.map(|verdict| verdict.find()).ok_or_else(|| error::not_found("find", &item_id.to_string()))
    }

    /// Concept and name of a correction.
    async fn correction(
        &self,
        find: &Find,
        asked: &JudgeRequest,
    ) -> Result<(Option<String>, Option<String>), Status> {
        if find.kind == "implied" {
            return Err(error::invalid("verdict", "an implied skill is accepted or rejected"));
        }
        let (uri, label) = (text("uri", &asked.uri)?, text("label", &asked.label)?);
        if uri.is_empty() && label.is_empty() {
            return Err(error::invalid(
                "uri",
                "uri and label are empty: name the concept, the skill or both",
            ));
        }
        let extractor = self.extractor.current().await.map_err(error::stage)?;
        let entry = extractor.lexicon().find(label);
        let taxonomy = extractor.taxonomy();
        if let Some(uri) = non_empty(uri) {
            let concept = taxonomy.and_then(|taxonomy| taxonomy.concept(uri));
            let concept = concept.filter(|concept| concept.kind == ConceptKind::Skill).ok_or_else(|| {
                error::invalid("uri", format!("`{uri}` is no skill of the active taxonomy"))
            })?;
            let name = non_empty(label).or_else(|| concept.preferred_label("es"));
            return Ok((Some(uri.to_owned()), Some(name.unwrap_or(&find.label).to_owned())));
        }
        // A name that is known brings its concept along.
        let own = match entry {
            Some(entry) => entry.concept_uri(taxonomy),
            None => taxonomy.and_then(|taxonomy| Some(taxonomy.named(label)?.uri.clone())),
        };
        Ok((own, Some(entry.map_or(label, |entry| &entry.label).to_owned())))
    }
}

/// A field without blanks around it.
fn text<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    let text = text.trim();
    if text.chars().count() > LONGEST || text.chars().any(|character| character.is_control()) {
        return Err(error::invalid(field, format!("is longer than {LONGEST} characters or not of one line")));
    }
    Ok(text)
}

fn sentence(document: &Document, find: &Find) -> String {
    let field = Field::ALL.into_iter().find(|field| field.name() == find.field);
    let text = field.map(|field| document.field(field)).unwrap_or_default();
    let (start, end) = (find.span_start.unsigned_abs(), find.span_end.unsigned_abs());
    Sentences::of(text).text_at(start, end).to_owned()
}

fn found(find: &Find) -> FindMessage {
    FindMessage {
        item_id: find.item_id.to_string(),
        kind: find.kind.clone(),
        wording: find.wording.clone(),
        label: find.label.clone(),
        uri: find.uri.clone().unwrap_or_default(),
        preferred_label: find.preferred_label.clone().unwrap_or_default(),
        category: find.category.clone(),
        reason: find.reason.clone().unwrap_or_default(),
        confidence: find.confidence,
        postings: 0,
        job_id: find.job_id.map(|id| id.to_string()).unwrap_or_default(),
        field: find.field.clone(),
        start: find.span_start.unsigned_abs(),
        end: find.span_end.unsigned_abs(),
        sentence: String::new(),
    }
}

fn message(verdict: Verdict) -> VerdictMessage {
    VerdictMessage {
        verdict_id: verdict.verdict_id,
        find: Some(found(&verdict.find())),
        subject: verdict.subject,
        verdict: verdict.verdict,
        uri: verdict.uri.unwrap_or_default(),
        label: verdict.label.unwrap_or_default(),
        reviewer: verdict.reviewer,
        why: verdict.why,
        decided_at: Some(timestamp(verdict.decided_at)),
    }
}

#[tonic::async_trait]
impl ReviewService for Services {
    async fn list_finds(
        &self,
        request: Request<ListFindsRequest>,
    ) -> Result<Response<ListFindsResponse>, Status> {
        let finds = self.open_finds(request.into_inner()).await?;
        Ok(Response::new(ListFindsResponse { finds }))
    }

    async fn judge(&self, request: Request<JudgeRequest>) -> Result<Response<JudgeResponse>, Status> {
        let verdict = self.judged(request.into_inner()).await?;
        Ok(Response::new(JudgeResponse { verdict: Some(message(verdict)) }))
    }

    async fn list_verdicts(
        &self,
        request: Request<ListVerdictsRequest>,
    ) -> Result<Response<ListVerdictsResponse>, Status> {
        let ListVerdictsRequest { history, page_size: size, page_token } = request.into_inner();
        let size = page_size(size)?;
        let before = non_empty(&page_token).map(str::parse).transpose();
        let before = before.map_err(|_| error::invalid("page_token", format!("`{page_token}` is none")))?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let found = verdicts::list(&mut connection, history, before, size).await.map_err(error::sql)?;
        // A full page may be the last one; the next is empty then.
        let next = found.last().filter(|_| found.len() as i64 == size);
        Ok(Response::new(ListVerdictsResponse {
            next_page_token: next.map(|verdict| verdict.verdict_id.to_string()).unwrap_or_default(),
            verdicts: found.into_iter().map(message).collect(),
        }))
    }
}
