//! The end token that embedding models of decoders take as the vector of a text.
//!
//! transformers lets `tokenizer_config.json` ask for it (`add_eos_token`), and then sets the
//! post-processor that `tokenizer.json` left without it. e5-mistral and GTE-Qwen2 are published
//! like that.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::{PostProcessorWrapper, Tokenizer};

const FILE: &str = "tokenizer_config.json";

/// The keys of `tokenizer_config.json` about the end of a text.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    add_eos_token: Option<bool>,
    eos_token: Option<Token>,
}

/// A token: its text alone, or with its properties.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described { content: String },
}

/// The tokenizer with the end token behind every text; `None` if it needs no change.
pub(super) fn added(tokenizer: &Tokenizer, dir: &Path) -> Result<Option<Tokenizer>> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("{FILE}: cannot read {}", path.display()))?;
    let settings: Settings =
        serde_json::from_str(&text).with_context(|| format!("{FILE}: not the JSON that was expected"))?;
    let (Some(true), Some(token)) = (settings.add_eos_token, settings.eos_token) else { return Ok(None) };
    let (Token::Text(token) | Token::Described { content: token }) = token;
    let id = tokenizer.token_to_id(&token);
    let id = id.with_context(|| format!("{FILE}: invalid eos_token `{token}`: expected a token"))?;
    // The tokenizer itself is asked, because several kinds of post-processors may add the token.
    let sample = tokenizer.encode("a", true).map_err(|error| anyhow!("tokenizer.json: {error}"))?;
    if sample.get_ids().last() == Some(&id) {
        return Ok(None);
    }
    let mut post = serde_json::to_value(tokenizer.get_post_processor())?;
    append(&mut post, &token, id);
    let post: PostProcessorWrapper =
        serde_json::from_value(post).context("tokenizer.json: post_processor")?;
    let mut changed = tokenizer.clone();
    changed.with_post_processor(Some(post));
    Ok(Some(changed))
}

/// Appends a token to the template of a post-processor, or a template to a post-processor that has
/// none.
fn append(post: &mut Value, token: &str, id: u32) {
    let piece = json!({"SpecialToken": {"id": token, "type_id": 0}});
    let known = json!({"id": token, "ids": [id], "tokens": [token]});
    if let Some(template) = template(post) {
        if let Some(single) = template["single"].as_array_mut() {
            single.push(piece);
        }
        template["special_tokens"][token] = known;
        return;
    }
    let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let template = json!({
        "type": "TemplateProcessing", "single": [text("A", 0), piece], "pair": [text("A", 0), text("B", 1)],
        "special_tokens": {token: known},
    });
    if post["type"] == "Sequence"
        && let Some(processors) = post["processors"].as_array_mut()
    {
        processors.push(template);
    } else if post.is_null() {
        *post = template;
    } else {
        // Behind the others, so that the token is the last of all.
        *post = json!({"type": "Sequence", "processors": [post.take(), template]});
    }
}

/// The template of a post-processor, or of the first in a sequence that has one.
fn template(post: &mut Value) -> Option<&mut Value> {
    if post["type"] == "TemplateProcessing" {
        return Some(post);
    }
    let processors = post.get_mut("processors")?.as_array_mut()?;
    processors.iter_mut().find(|processor| processor["type"] == "TemplateProcessing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_post_processor_takes_the_token() {
        let mut none = Value::Null;
        append(&mut none, "</s>", 2);
        assert_eq!(none["single"][1]["SpecialToken"]["id"], "</s>");
        let mut bytes = json!({"type": "ByteLevel", "trim_offsets": false});
        append(&mut bytes, "</s>", 2);
        assert_eq!(bytes["processors"][0]["type"], "ByteLevel");
        assert_eq!(bytes["processors"][1], none);
        append(&mut bytes, "<x>", 3);
        assert_eq!(bytes["processors"][1]["single"][2]["SpecialToken"]["id"], "<x>");
        assert_eq!(bytes["processors"][1]["special_tokens"]["</s>"]["ids"], json!([2]));
        let mut sequence = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}]});
        append(&mut sequence, "</s>", 2);
        assert_eq!(sequence["processors"][1], none);
    }
}
