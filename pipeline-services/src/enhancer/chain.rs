//! Who answers for a posting: the models in their order, then the rules.
//!
//! A moment's absence is waited for, since it must not cost the quality of whole batches; a longer
//! one is not. What was answered in place of a model that could not be asked is provisional.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    advertisement::Advertisement,
    answer::{self, Knowledge},
    endpoint::GenerateError,
    generator::Generator,
    prompt::Prompt,
    rules,
};
use crate::{
    domain::{
        enhancement::{Enhancement, PassedOver},
        skill::EnhancedSkill,
    },
    reading,
    stage::StageError,
};

/// Language models in the order in which they are asked, and what they are asked.
pub(super) struct Chain {
    generators: Vec<Generator>,
    prompt: Prompt,
    /// Time for which no model may answer before the rules do.
    patience: Duration,
    silent_since: Mutex<Option<Instant>>,
}

/// The skills of a posting, and how they came about.
#[derive(Debug)]
pub(super) struct Answered {
    /// As in [`rules::enhance`].
    pub(super) skills: Vec<EnhancedSkill>,
    /// Who answered, and what was not taken.
    pub(super) enhancement: Enhancement,
    /// A model could not be asked: a later run asks it again.
    pub(super) provisional: bool,
}

impl Chain {
    /// A chain of models; `None` without any.
    pub(super) fn new(generators: Vec<Generator>, prompt: Prompt, patience: Duration) -> Option<Self> {
        let some = !generators.is_empty();
        some.then(|| Self { generators, prompt, patience, silent_since: Mutex::default() })
    }

    /// Names of the models in their order.
    pub(super) fn models(&self) -> String {
        self.generators.iter().map(Generator::model).collect::<Vec<_>>().join(" > ")
    }

    /// Changes with what they are asked.
    pub(super) fn digest(&self) -> &str {
        self.prompt.digest()
    }

    /// The skills by the first model whose answer is one; where no model has one, by the rules.
    ///
    /// # Errors
    /// While every model is away or busy, within the chain's patience.
    pub(super) async fn answer(
        &self,
        ad: &Advertisement<'_>,
        known: Knowledge<'_>,
    ) -> Result<Answered, StageError> {
        let messages = self.prompt.messages(ad);
        let (mut passed_over, mut refusals, mut answers) = (Vec::new(), Vec::new(), false);
        for generator in &self.generators {
            let (answerer, model) = (generator.answerer(), generator.model().to_owned());
            let said = generator.generate(messages.clone(), ad.mentions.len()).await;
            let why = match said {
                Ok(text) => match reading::in_place(|| answer::combine(&text, ad, known)) {
                    Ok(answer::Combined { skills, rejected }) => {
                        self.silence(false);
                        let (answered_by, model) = (answerer, Some(model));
                        let enhancement = Enhancement { answered_by, model, passed_over, rejected };
                        return Ok(Answered { skills, enhancement, provisional: !refusals.is_empty() });
                    }
                    Err(problem) => {
                        answers = true;
                        problem
                    }
                },
                // Asked again it would say the same at temperature 0.
                Err(GenerateError::Unusable(problem)) => {
                    answers = true;
                    problem
                }
                Err(GenerateError::Refused(error)) => {
                    let why = error.to_string();
                    refusals.push(error);
                    why
                }
            };
            tracing::warn!(
                model.name = model,
                answerer = answerer.name(),
                problem = why,
                "model passed over"
            );
            passed_over.push(PassedOver { answerer, model, why });
        }
        let silent = self.silence(!answers);
        let provisional = !refusals.is_empty();
        let away = refusals.into_iter().find(|error| matches!(error, StageError::Unavailable { .. }));
        match away {
            Some(error) if silent < self.patience => Err(error),
            _ => Ok(Answered { provisional, ..reading::in_place(|| by_rules(ad, known, passed_over)) }),
        }
    }

    /// Notes whether the models are silent; returns for how long they have been. An answer that is
    /// not usable is one, too.
    fn silence(&self, silent: bool) -> Duration {
        let mut since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        if !silent {
            *since = None;
            return Duration::ZERO;
        }
        since.get_or_insert_with(Instant::now).elapsed()
    }
}

/// The skills by lexicon and taxonomy alone.
pub(super) fn by_rules(
    ad: &Advertisement<'_>,
    known: Knowledge<'_>,
    passed_over: Vec<PassedOver>,
) -> Answered {
    Answered {
        skills: rules::enhance(&ad.mentions, known.taxonomy, known.lexicon),
        enhancement: Enhancement { passed_over, ..Enhancement::default() },
        provisional: false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        domain::{enhancement::Answerer, posting::Document},
        enhancer::{
            endpoint::{Endpoint, Options, ResponseFormat},
            generator::Served,
        },
        inference::InferenceClient,
        lexicon::Lexicon,
    };

    /// An endpoint that says the same to everybody, or where nobody listens.
    async fn endpoint(says: Option<&str>) -> Generator {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        if let Some(text) = says {
            let body = json!({ "choices": [{ "message": { "content": text } }] }).to_string();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.read(&mut [0; 65_536]).await;
                    let head =
                        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}", body.len());
                    let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
                }
            });
        }
        let options = Options {
            url,
            model: "far".to_owned(),
            key: None,
            timeout: Duration::from_secs(5),
            max_tokens: 10,
            response_format: ResponseFormat::default(),
        };
        Generator::Endpoint(Endpoint::new(options).unwrap())
    }

    fn served() -> Generator {
        let client = InferenceClient::new(&Default::default()).unwrap();
        let (model, timeout) = ("near".to_owned(), Duration::from_secs(1));
        Generator::Served(Served { client, model, max_tokens: 9, timeout })
    }

    async fn asked(generators: Vec<Generator>, patience: u64) -> Result<Answered, StageError> {
        let lexicon = Lexicon::built_in().unwrap();
        let chain = Chain::new(generators, Prompt::built_in(), Duration::from_secs(patience)).unwrap();
        let document = Document::default();
        let ad = Advertisement::new(&document, Vec::new());
        chain.answer(&ad, Knowledge { taxonomy: None, lexicon: &lexicon }).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_that_answers_is_recorded_with_those_before_it() {
        let usable = r#"{"skills": [], "implicit": []}"#;
        let check = async |chain: Vec<Generator>, by: Answerer, passed: &[Answerer], provisional: bool| {
            let answered = asked(chain, 0).await.unwrap();
            let found = answered.enhancement;
            let over: Vec<Answerer> = found.passed_over.iter().map(|passed| passed.answerer).collect();
            assert_eq!((found.answered_by, over.as_slice()), (by, passed));
            assert_eq!(answered.provisional, provisional, "{over:?}");
            assert!(found.passed_over.iter().all(|passed| !passed.why.is_empty()));
        };
        let both = [Answerer::ServedModel, Answerer::Endpoint];
        check(vec![endpoint(Some(usable)).await], Answerer::Endpoint, &[], false).await;
        check(vec![served(), endpoint(Some(usable)).await], Answerer::Endpoint, &both[..1], true).await;
        check(vec![served(), endpoint(None).await], Answerer::Rules, &both, true).await;
        // It answers, and would say the same tomorrow.
        check(vec![endpoint(Some("no")).await], Answerer::Rules, &both[1..], false).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_moment_s_absence_is_waited_for() {
        let error = asked(vec![endpoint(None).await], 3_600).await.unwrap_err();
        assert!(matches!(error, StageError::Unavailable { .. }), "{error}");
    }
}
