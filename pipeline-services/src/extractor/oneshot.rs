//! Extraction of documents that are not stored: JSON lines in and out, as `observatory extract`
//! speaks them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Extraction;
use crate::{
    domain::{
        posting::{Document, Field, TEXT_LIMIT, TITLE_LIMIT},
        skill::{EnhancedSkill, Mention, Method, Place, SkillKind},
    },
    privacy,
};

/// A line that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The line is not a JSON object of the expected shape.
    #[error(
        "not a document: {0}; expected an object with id, description and optionally title, requirements, country, language"
    )]
    Shape(#[from] serde_json::Error),
    /// The id is missing or neither text nor number.
    #[error("`id` must be a text or a number")]
    Id,
    /// There is nothing to read.
    #[error("`description` is missing or empty, and so are title and requirements")]
    Empty,
    /// A text is longer than any stored one.
    #[error("`{field}` has {length} characters, at most {limit} are read")]
    Long {
        /// Its name.
        field: &'static str,
        /// Its characters.
        length: usize,
        /// As many as a stored one may have.
        limit: usize,
    },
}

#[derive(Deserialize)]
struct Line {
    // Absent is null, so that the refusal says what an id may be.
    #[serde(default)]
    id: Value,
    title: Option<String>,
    #[serde(alias = "text")]
    description: Option<String>,
    requirements: Option<String>,
    country: Option<String>,
    language: Option<String>,
}

/// A document with the caller's id, which is given back as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Identified {
    /// Text or number.
    pub id: Value,
    /// The text to read, uncleaned: spans count in the fields as given.
    pub document: Document,
}

/// Reads one line; members it does not know are left alone.
///
/// # Errors
/// If the line is not a JSON object, a field has the wrong type, the id is missing, or the text is
/// empty or too long.
pub fn parse_document(line: &str) -> Result<Identified, DocumentError> {
    let line: Line = serde_json::from_str(line)?;
    if !(line.id.is_string() || line.id.is_number()) {
        return Err(DocumentError::Id);
    }
    let document = Document {
        title: line.title.unwrap_or_default(),
        description: line.description.unwrap_or_default(),
        requirements: line.requirements,
        country: line.country,
        language: line.language,
    };
    if Field::ALL.iter().all(|field| document.field(*field).trim().is_empty()) {
        return Err(DocumentError::Empty);
    }
    for field in Field::ALL {
        let limit = if field == Field::Title { TITLE_LIMIT } else { TEXT_LIMIT };
        let text = document.field(field);
        // A text has no more characters than bytes, so a short one need not be counted.
        let length = if text.len() > limit { text.chars().count() } else { 0 };
        if length > limit {
            return Err(DocumentError::Long { field: field.name(), length, limit });
        }
    }
    Ok(Identified { id: line.id, document })
}

/// Counts of the personal data that a document holds, by kind, for [`answer`]. The document itself
/// stays as it is, since spans count in it.
pub fn personal_data(document: &Document) -> BTreeMap<&'static str, u32> {
    let mut counts = BTreeMap::new();
    for field in Field::ALL {
        for (kind, count) in privacy::scrub(document.field(field)).removed {
            *counts.entry(kind.name()).or_default() += count;
        }
    }
    counts
}

/// The answer of `extract`: every distinct skill with the span it stands at.
///
/// `skills` is what the rules of the enhancer made of the extraction's named mentions: one for each
/// mention in order, then the implicit ones. `removed` counts personal data found in the document.
pub fn answer(
    id: &Value,
    extraction: &Extraction,
    skills: &[EnhancedSkill],
    removed: &BTreeMap<&'static str, u32>,
) -> Value {
    // As many as there are skills at most: the implicit ones have none.
    let mentions = extraction.named().map(Some).chain(std::iter::repeat(None));
    let listed = skills.iter().zip(mentions).filter(|(skill, _)| skill.duplicate_of.is_none());
    let listed: Vec<Value> = listed.map(|(skill, mention)| entry(skill, mention)).collect();
    let occupation = extraction.occupation.as_ref().map(|occupation| {
        json!({
            "uri": occupation.uri,
            "label": occupation.label,
            "score": rounded(occupation.score),
            "isco": occupation.isco,
            "cuoc": occupation.cuoc,
            "cuoc_label": occupation.cuoc_label,
        })
    });
    json!({
        "id": id,
        "language": extraction.language,
        "skills": listed,
        "occupation": occupation,
        "entities_removed": removed,
    })
}

/// The answer of `extract --spans`: the description's mentions as `skill` or `knowledge`.
pub fn spans_answer(id: &Value, extraction: &Extraction) -> Value {
    let spans: Vec<Value> =
        extraction.mentions.iter().filter(|mention| mention.field == Field::Description).map(span).collect();
    json!({ "id": id, "spans": spans })
}

fn span(mention: &Mention) -> Value {
    json!({
        "start": mention.start,
        "end": mention.end,
        "label": span_label(mention),
        "kind": span_kind(mention),
        "place": mention.place.map(Place::name),
        "confidence": rounded(mention.confidence),
    })
}

/// The kind by the guide of the marked advertisements; categories are finer.
fn span_kind(mention: &Mention) -> &'static str {
    match (mention.kind, mention.category.as_str()) {
        (SkillKind::Soft, _) => "soft",
        (_, "technology" | "tool") => "tool",
        (_, "competence") => "ability",
        (_, "language") => "language",
        (_, "certification" | "licence") => "licence",
        _ => "knowledge",
    }
}

/// Attitudes and things one does are skills, what one knows or uses is knowledge.
fn span_label(mention: &Mention) -> &'static str {
    match (mention.kind, mention.category.as_str()) {
        (SkillKind::Soft, _) | (_, "competence") => "skill",
        _ => "knowledge",
    }
}

fn entry(skill: &EnhancedSkill, mention: Option<&Mention>) -> Value {
    let mention = mention.filter(|_| skill.explicit);
    let mut entry = Map::new();
    entry.insert("label".to_owned(), json!(skill.normalized_skill));
    entry.insert("surface".to_owned(), json!(mention.map(|mention| &mention.surface)));
    entry.insert("kind".to_owned(), json!(skill.kind.name()));
    entry.insert("category".to_owned(), json!(skill.category));
    entry.insert("explicit".to_owned(), json!(skill.explicit));
    let methods = mention.map(|mention| mention.methods.as_slice()).unwrap_or_default();
    entry.insert("method".to_owned(), methods.iter().map(|method: &Method| json!(method.name())).collect());
    entry.insert("confidence".to_owned(), json!(rounded(skill.confidence)));
    entry.insert("section".to_owned(), json!(mention.map(|mention| &mention.section)));
    entry.insert("field".to_owned(), json!(mention.map(|mention| mention.field.name())));
    entry.insert("start".to_owned(), json!(mention.map(|mention| mention.start)));
    entry.insert("end".to_owned(), json!(mention.map(|mention| mention.end)));
    let place = mention.and_then(|mention| mention.place);
    entry.insert("place".to_owned(), json!(place.map(Place::name)));
    entry.insert("uri".to_owned(), json!(skill.esco_concept_uri));
    entry.insert("preferred_label".to_owned(), json!(skill.esco_preferred_label));
    if let Some(reason) = &skill.reasoning {
        entry.insert("reason".to_owned(), json!(reason));
    }
    Value::Object(entry)
}

fn rounded(value: f32) -> f64 {
    // An f32 of 0.9 would print as 0.8999999761581421.
    (f64::from(value) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_say_what_is_wrong() {
        let long = |field: &str, length: usize| json!({ "id": 1, field: "ñ".repeat(length) }).to_string();
        for (line, expected) in [
            ("{", "not a document: EOF"),
            ("[]", "not a document: "),
            (r#"{"description": "x"}"#, "`id` must be a text or a number"),
            (r#"{"id": 1, "description": 2}"#, "not a document: invalid type: integer `2`"),
            (r#"{"id": 1, "description": " "}"#, "`description` is missing or empty"),
            (&long("title", 1_001), "`title` has 1001 characters, at most 1000 are read"),
            (&long("requirements", 200_001), "`requirements` has 200001 characters, at most 200000 are read"),
        ] {
            let found = parse_document(line).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
        let read =
            parse_document(r#"{"id": "a", "title": "T", "description": "D", "country": "CO", "n": 1}"#)
                .unwrap();
        assert!(parse_document(&long("description", 200_000)).is_ok());
        assert_eq!((read.document.title.as_str(), read.document.country.as_deref()), ("T", Some("CO")));
    }

    #[test]
    fn an_occupation_has_every_key() {
        let occupation = crate::domain::taxonomy::Occupation {
            uri: None,
            label: "Panaderos".to_owned(),
            score: 0.9,
            isco: Some("7512".to_owned()),
            cuoc: None,
            cuoc_label: None,
        };
        let extraction = Extraction { language: "es", mentions: Vec::new(), occupation: Some(occupation) };
        let found = answer(&json!(1), &extraction, &[], &BTreeMap::new());
        let expected = json!({ "uri": null, "label": "Panaderos", "score": 0.9, "isco": "7512",
            "cuoc": null, "cuoc_label": null });
        assert_eq!(found["occupation"], expected);
    }
}
