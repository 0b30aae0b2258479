//! Served token classifiers as a source of mentions: which ones a run uses, and what they find.
//!
//! A run decides once, when it is planned, and every batch follows that decision: so a server that
//! is away for a moment delays the work and never changes its result.

use std::{collections::HashMap, time::Duration};

use super::NerEntity;
use crate::{
    domain::{
        posting::{Document, Field},
        run::facts::Tagger,
    },
    inference::{ClassifierInfo, InferenceClient, LabelledSpan},
    stage::{Dependency, StageError},
};

/// Texts sent in one request: a large tagger on a CPU needs about a second for each.
const TEXTS_PER_REQUEST: usize = 8;
/// Pause between two looks for a server that is starting: a choice, short against a start.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The taggers of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Choice {
    /// Taggers, in the server's order.
    pub taggers: Vec<Tagger>,
    /// Reason for having none, where one could have been expected.
    pub problem: Option<String>,
}

impl Choice {
    /// The addition to a version of the extractor: equal versions give equal mentions.
    pub(crate) fn mark(&self) -> String {
        self.taggers.iter().map(|tagger| format!("+{}@{:.12}", tagger.name, tagger.revision)).collect()
    }
}

/// Finds taggers and asks them.
#[derive(Debug, Clone)]
pub(crate) struct Taggers {
    inference: InferenceClient,
    /// Names asked for; `None` takes every served model whose labels name skills.
    wanted: Option<Vec<String>>,
}

impl Taggers {
    /// Taggers of a server.
    pub(crate) fn new(inference: InferenceClient, wanted: Option<Vec<String>>) -> Self {
        Self { inference, wanted }
    }

    /// The taggers to use from now on. Waits up to `patience` for a server that is away or a model
    /// that is loading.
    ///
    /// # Errors
    /// If a tagger that was asked for by name is not available.
    pub(crate) async fn choose(&self, patience: Duration) -> Result<Choice, StageError> {
        // An empty list is a decision against taggers, so the server is not asked.
        if self.wanted.as_ref().is_some_and(Vec::is_empty) || !self.inference.is_configured() {
            return self.without("no inference server is configured");
        }
        let give_up = tokio::time::Instant::now() + patience;
        loop {
            let found = self.inference.classifiers().await;
            // A model that is still loading would be missing from the run for good, since it
            // decides once.
            let settled = matches!(&found, Ok(found) if !found.iter().any(|model| model.loading));
            if settled || tokio::time::Instant::now() >= give_up {
                return match found {
                    Ok(found) => self.pick(found),
                    Err(error) => self.without(&crate::telemetry::chain(&error)),
                };
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn without(&self, reason: &str) -> Result<Choice, StageError> {
        match self.wanted.as_deref() {
            Some([]) => Ok(Choice::default()),
            // A tagger that somebody named is part of the result, so the run waits; one that was
            // only found is not, and the run says that it went without.
            Some(names) => Err(StageError::Unavailable {
                dependency: Dependency::Inference,
                reason: format!("the tagger {} cannot be asked: {reason}", names.join(", ")),
                after: None,
            }),
            None if self.inference.is_configured() => Ok(Choice {
                taggers: Vec::new(),
                problem: Some(format!("skills were extracted without a served tagger: {reason}")),
            }),
            None => Ok(Choice::default()),
        }
    }

    fn pick(&self, found: Vec<ClassifierInfo>) -> Result<Choice, StageError> {
        // Some may still be loading, since the wait for them has an end.
        let able = found.into_iter().filter(|model| !model.loading);
        let Some(wanted) = &self.wanted else {
            return Ok(Choice { taggers: able.filter(marks_skills).map(tagger).collect(), problem: None });
        };
        let mut able: HashMap<String, Tagger> =
            able.map(|model| (model.name.clone(), tagger(model))).collect();
        let mut taggers = Vec::new();
        for name in wanted {
            let Some(tagger) = able.remove(name) else {
                let problem = format!("the inference server has no token classifier `{name}` ready");
                return Err(StageError::Fail(problem));
            };
            taggers.push(tagger);
        }
        Ok(Choice { taggers, problem: None })
    }

    /// Marks of the taggers in each document, in order.
    ///
    /// # Errors
    /// If a tagger could not be asked. A text that a tagger refuses stays unmarked.
    pub(crate) async fn tag(
        &self,
        taggers: &[Tagger],
        documents: &[&Document],
    ) -> Result<Vec<Vec<NerEntity>>, StageError> {
        let mut entities = vec![Vec::new(); documents.len()];
        // Fields of all documents together, so that requests are full.
        let places: Vec<(usize, Field)> = (0..documents.len())
            .flat_map(|index| Field::ALL.map(|field| (index, field)))
            .filter(|(index, field)| !documents[*index].field(*field).trim().is_empty())
            .collect();
        for tagger in taggers {
            for chunk in places.chunks(TEXTS_PER_REQUEST) {
                let texts =
                    chunk.iter().map(|(index, field)| documents[*index].field(*field).to_owned()).collect();
                // With the revision: a model that was replaced since the plan must not answer under
                // its mark.
                let answers = self.inference.classify(&tagger.name, &tagger.revision, texts).await?;
                for ((index, field), answer) in chunk.iter().zip(answers) {
                    match answer {
                        Ok(spans) => entities[*index].extend(marked(&tagger.name, *field, spans)),
                        Err(reason) => {
                            tracing::warn!(model.name = tagger.name, reason, "text not tagged");
                        }
                    }
                }
            }
        }
        Ok(entities)
    }
}

fn tagger(model: ClassifierInfo) -> Tagger {
    Tagger { name: model.name, revision: model.revision }
}

/// Returns whether one of a model's labels is for skills: others find persons or places.
fn marks_skills(model: &ClassifierInfo) -> bool {
    model.labels.iter().any(|label| skill_label(&model.name, plain(label)).is_some())
}

/// Spans of skills among what a model labelled; an "I" that follows a "B" belongs to it.
fn marked(model: &str, field: Field, spans: Vec<LabelledSpan>) -> Vec<NerEntity> {
    let mut found: Vec<NerEntity> = Vec::new();
    // End of the last entity, where it may go on: models with the bare labels B and I leave the
    // joining to us.
    let mut open: Option<u32> = None;
    for span in spans {
        let Some(label) = skill_label(model, &span.label) else {
            open = None;
            continue;
        };
        let bare = matches!(span.label.as_str(), "B" | "I");
        // A blank may lie between the two.
        let goes_on = span.label == "I" && open.is_some_and(|end| span.start <= end + 1);
        match found.last_mut().filter(|_| goes_on) {
            Some(last) => {
                // As sure as the least sure of its words.
                last.end = span.end;
                last.score = last.score.min(span.score);
            }
            None => found.push(NerEntity {
                field,
                start: span.start,
                end: span.end,
                label: label.to_owned(),
                score: span.score,
            }),
        }
        open = bare.then_some(span.end);
    }
    found
}

fn plain(label: &str) -> &str {
    label.strip_prefix("B-").or_else(|| label.strip_prefix("I-")).unwrap_or(label)
}

/// `skill` or `knowledge`, where a label means one of them. The published ESCO-XLM-R taggers label
/// only beginning and inside; what they mark is in their name.
fn skill_label(model: &str, label: &str) -> Option<&'static str> {
    match label.to_lowercase().as_str() {
        "b" | "i" if model.to_lowercase().contains("knowledge") => Some("knowledge"),
        "b" | "i" | "skill" | "skills" | "soft_skill" | "hard_skill" | "competence" => Some("skill"),
        "knowledge" | "tool" | "technology" | "framework" | "platform" | "language" | "certification" => {
            Some("knowledge")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Options;

    fn span(label: &str, start: u32, end: u32) -> LabelledSpan {
        LabelledSpan { label: label.to_owned(), score: 0.9, start, end }
    }

    #[test]
    fn labels_become_skills_or_knowledge() {
        let check = |model: &str, spans: Vec<LabelledSpan>, expected: &[(u32, u32, &str)]| {
            let found = marked(model, Field::Description, spans);
            let found: Vec<_> =
                found.iter().map(|entity| (entity.start, entity.end, entity.label.as_str())).collect();
            assert_eq!(found, expected, "{model}");
        };
        let bare = || vec![span("B", 0, 6), span("I", 7, 12), span("I", 20, 24), span("B", 25, 27)];
        check(
            "jjzha/escoxlmr_skill_extraction",
            bare(),
            &[(0, 12, "skill"), (20, 24, "skill"), (25, 27, "skill")],
        );
        check("jjzha/escoxlmr_knowledge_extraction", vec![span("B", 0, 6)], &[(0, 6, "knowledge")]);
        check(
            "any",
            vec![span("Skill", 0, 3), span("PER", 4, 8), span("Knowledge", 9, 12)],
            &[(0, 3, "skill"), (9, 12, "knowledge")],
        );
        check(
            "any",
            vec![span("B", 0, 3), span("LOC", 3, 4), span("I", 4, 6)],
            &[(0, 3, "skill"), (4, 6, "skill")],
        );
    }

    fn model(name: &str, labels: &[&str], loading: bool) -> ClassifierInfo {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        ClassifierInfo { name: name.to_owned(), revision: "r".to_owned(), labels, loading }
    }

    #[tokio::test]
    async fn only_models_that_mark_skills_are_taken_unasked() {
        let inference = InferenceClient::new(&Options::plain("http://127.0.0.1:1")).unwrap();
        let served =
            || vec![model("people", &["O", "B-PER"], false), model("skills", &["O", "B-Skill"], false)];
        let pick = |wanted: Option<&[&str]>| {
            let wanted = wanted.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            Taggers::new(inference.clone(), wanted).pick(served())
        };
        assert_eq!(pick(None).unwrap().mark(), "+skills@r");
        assert_eq!(pick(Some(&["people"])).unwrap().mark(), "+people@r");
        let error = pick(Some(&["absent"])).unwrap_err();
        assert!(error.to_string().contains("no token classifier `absent`"), "{error}");
    }

    #[tokio::test]
    async fn without_a_server_there_is_no_tagger_and_it_is_said() {
        let choose = |address: Option<&str>, wanted: Option<Vec<String>>| {
            let inference = InferenceClient::new(&address.map(Options::plain).unwrap_or_default()).unwrap();
            async move { Taggers::new(inference, wanted).choose(Duration::ZERO).await }
        };
        assert_eq!(choose(None, None).await.unwrap(), Choice::default());
        assert_eq!(choose(Some("http://127.0.0.1:1"), Some(Vec::new())).await.unwrap(), Choice::default());
        let away = choose(Some("http://127.0.0.1:1"), None).await.unwrap();
        assert!(away.problem.unwrap().contains("without a served tagger"));
        assert!(choose(Some("http://127.0.0.1:1"), Some(vec!["x".to_owned()])).await.is_err());
        assert!(choose(None, Some(vec!["x".to_owned()])).await.is_err());
    }
}
