//! What the service extracts from the gold: it gets the texts without their marks.
//!
//! Answers come in the order of the questions. A refused one is reported and counts as missing.

use anyhow::Context as _;
use observatory_proto::pipeline::v1::{
    ExtractRequest, ExtractResponse, extractor_service_client::ExtractorServiceClient,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::client::{Connection, MAX_MESSAGE_BYTES, refusal};
use crate::commands::overlap::Span;
use crate::error::{Hinted, hint_of};
use crate::output::{Progress, progress};

/// A text to send, and where it is from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// FILE:LINE of the gold.
    pub(super) place: String,
    /// The document, as `extract` reads it.
    pub(super) document: Value,
}

/// An answer of the service.
pub(super) trait Answer: DeserializeOwned {
    /// True to ask for spans alone, as `extract --spans` does.
    const SPANS: bool;
}

/// Answer of `extract --spans`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Mentions {
    /// Every mention of the description, repeated ones too.
    pub(super) spans: Vec<Mention>,
}

impl Answer for Mentions {
    const SPANS: bool = true;
}

/// A mention of a skill in a description.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Mention {
    /// Where it stands.
    #[serde(flatten)]
    pub(super) span: Span,
    /// `skill` or `knowledge`.
    pub(super) label: Option<String>,
    /// Its kind, by the names of the gold.
    pub(super) kind: Option<String>,
    /// Whether it is asked of the candidate or a duty of the job.
    pub(super) place: Option<String>,
    /// How sure the service is, 0..1.
    pub(super) confidence: Option<f64>,
}

/// Answer of `extract`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Skills {
    /// Every distinct skill.
    pub(super) skills: Vec<Skill>,
    /// The occupation of the title: `uri`, and codes if the service knows any.
    #[serde(default)]
    pub(super) occupation: Option<Map<String, Value>>,
}

impl Answer for Skills {
    const SPANS: bool = false;
}

/// A skill of an advertisement.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Skill {
    /// Its canonical name.
    pub(super) label: String,
    /// `hard` or `soft`.
    pub(super) kind: String,
    /// False if it only follows from others.
    #[serde(default = "yes")]
    pub(super) explicit: bool,
    /// The field it is named in.
    pub(super) field: Option<String>,
    /// Its first code point there.
    pub(super) start: Option<u32>,
    /// The code point after its last one.
    pub(super) end: Option<u32>,
    /// Its concept in the active taxonomy.
    pub(super) uri: Option<String>,
}

fn yes() -> bool {
    true
}

impl Skill {
    /// Where the description names it; `None` if it does not.
    pub(super) fn span(&self) -> Option<Span> {
        let named = self.explicit && self.field.as_deref() == Some("description");
        let (start, end) = (self.start?, self.end?);
        named.then_some(Span { start, end })
    }
}

/// Asks the service and returns an answer for each question; `None` for a refused one.
///
/// # Errors
/// If the service does not answer all questions, or answers in another form.
pub(super) async fn ask<A: Answer>(
    pipeline: Connection,
    questions: Vec<Question>,
) -> anyhow::Result<Vec<Option<A>>> {
    let (places, documents): (Vec<String>, Vec<Value>) =
        questions.into_iter().map(|question| (question.place, question.document)).unzip();
    let mut extractor = ExtractorServiceClient::new(pipeline).max_decoding_message_size(MAX_MESSAGE_BYTES);
    // Written as the service takes them: flow control of the connection bounds what is under way.
    let requests = documents
        .into_iter()
        .map(|document| ExtractRequest { document_json: document.to_string(), spans: A::SPANS });
    let asked = extractor.extract(tokio_stream::iter(requests)).await;
    let mut stream = asked.map_err(|status| refusal(&status))?.into_inner();
    let mut live = Progress::new("texts read", places.len() as u64);
    let mut answers = Vec::with_capacity(places.len());
    for place in &places {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(unanswered(place, anyhow::anyhow!("the service ended its answers"))),
            Err(status) => return Err(unanswered(place, refusal(&status))),
        };
        answers.push(read(place, &response)?);
        live.advance(1);
    }
    Ok(answers)
}

/// The error for a service that stopped answering: figures of a part would look like the whole's.
fn unanswered(place: &str, cause: anyhow::Error) -> anyhow::Error {
    let error = cause.context(format!("{place} was not answered"));
    // A connection that broke carries no advice of its own.
    if hint_of(&error).is_some() {
        return error;
    }
    Hinted::wrap(error, "check `observatory status`, then try again")
}

/// Reads an answer; a refusal is reported.
fn read<A: Answer>(place: &str, response: &ExtractResponse) -> anyhow::Result<Option<A>> {
    if !response.error.is_empty() {
        progress(format_args!("{place}: {}", response.error));
        return Ok(None);
    }
    let answer = serde_json::from_str(&response.result_json);
    Ok(Some(answer.with_context(|| format!("{place}: the service's answer has another form"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(result_json: &str, error: &str) -> ExtractResponse {
        ExtractResponse { result_json: result_json.to_owned(), error: error.to_owned() }
    }

    #[test]
    fn answers_are_read_and_refusals_are_missing() {
        let given = r#"{"id": 1, "spans": [{"start": 2, "end": 5, "label": "skill"}]}"#;
        let mentions: Mentions = read("gold:1", &response(given, "")).unwrap().unwrap();
        assert_eq!(mentions.spans[0].span, Span { start: 2, end: 5 });
        assert_eq!(mentions.spans[0].kind, None);
        assert!(read::<Mentions>("gold:1", &response("", "empty")).unwrap().is_none());
        let error = read::<Skills>("gold:3", &response(given, "")).unwrap_err();
        assert!(format!("{error:#}").starts_with("gold:3: the service's answer has another form: missing"));
    }

    #[test]
    fn a_service_that_stops_is_named_with_advice() {
        let error = unanswered("gold:7", anyhow::anyhow!("broken"));
        assert_eq!(format!("{error:#}"), "gold:7 was not answered: broken");
        assert_eq!(hint_of(&error), Some("check `observatory status`, then try again"));
        let error = unanswered("gold:7", Hinted::error("busy", "later"));
        assert_eq!(hint_of(&error), Some("later"));
    }

    #[test]
    fn only_what_the_description_names_has_a_span() {
        let check = |given: &str, expected: Option<(u32, u32)>| {
            let skill: Skill = serde_json::from_str(given).unwrap();
            assert_eq!(skill.span(), expected.map(|(start, end)| Span { start, end }), "{given}");
        };
        let named = r#"{"label": "SQL", "kind": "hard", "field": "description", "start": 3, "end": 6}"#;
        check(named, Some((3, 6)));
        check(&named.replace("description", "title"), None);
        check(&named.replace("\"start\": 3", "\"explicit\": false, \"start\": 3"), None);
        check(r#"{"label": "SQL", "kind": "hard", "field": null, "start": null, "end": null}"#, None);
    }
}
