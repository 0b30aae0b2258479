//! From advertisements to mentions of skills, every one with its span.
//!
//! Three sources name a skill: the lexicon, the labels of the active taxonomy and phrases that
//! introduce one; a served tagger may add a fourth. All their candidates compete for the words of a
//! field: the longer wins, and between equals the surer. The tagger that ships says where skills
//! begin and end; its marks take over the names that stand in them. The result depends on the
//! document and the sources alone.

mod candidate;
mod candidates;
mod marks;
mod masks;
pub(crate) mod oneshot;
mod patterns;
mod phrases;
mod scope;
mod sections;
mod spelling;
pub(crate) mod stage;
pub(crate) mod tagger;

use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use marks::names;
use observatory_occupations::{Coded, Coder};
use observatory_tagging::Tagger;
pub use patterns::Patterns;

use crate::{
    domain::{
        posting::{Document, Field},
        skill::{Mention, Method},
        taxonomy::{Concept, Occupation},
        verdict::Ruling,
    },
    lexicon::Lexicon,
    taxonomy::Taxonomy,
    text::{
        language::{self, Language},
        tokens::Tokens,
        trie::longest,
    },
};
use candidate::Candidate;
use candidates::{Named, Source};
use scope::Scope;
use spelling::Spelling;

/// Raised with every change of the rules in code, so that results of older rules are not taken for
/// current.
const RULES: u32 = 4;

/// Names below this confidence are not reported. Not tuned: it is above the 0.27 that the
/// surest name of the lexicon keeps in a section of benefits.
const REPORTED: f32 = 0.3;

/// Least score of a CUOC code that stands for itself, without an ESCO concept that agrees: from
/// here on more titles are right than wrong. Not tuned.
pub(crate) const CODED: f32 = 0.5;

/// A model that ships with the program and cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ShippedModelError {
    /// The tagger of skills.
    #[error("the tagger: {0}")]
    Tagger(#[from] observatory_tagging::ModelError),
    /// The coder of occupations.
    #[error("the coder of occupations: {0}")]
    Occupations(#[from] observatory_occupations::ModelError),
}

/// A find of a served token classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct NerEntity {
    /// Field the span counts in.
    pub field: Field,
    /// First code point.
    pub start: u32,
    /// One past the last code point.
    pub end: u32,
    /// `skill` or `knowledge`.
    pub label: String,
    /// 0..1.
    pub score: f32,
}

/// Skills that an advertisement asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Extraction {
    /// `es` or `en`.
    pub language: &'static str,
    /// Every mention, by field and place; spans of one field do not overlap.
    pub mentions: Vec<Mention>,
    /// The occupation of the title, if one clearly fits.
    pub occupation: Option<Occupation>,
}

impl Extraction {
    /// The mentions that have a name under which they can be counted.
    pub fn named(&self) -> impl Iterator<Item = &Mention> {
        self.mentions.iter().filter(|mention| mention.is_named())
    }
}

/// Finds skills in documents; shared between threads.
#[derive(Debug)]
pub struct Extractor {
    lexicon: Arc<Lexicon>,
    source: Source,
    spelling: Spelling,
    patterns: Arc<Patterns>,
    taxonomy: Option<Arc<Taxonomy>>,
    tagger: Tagger,
    coder: Coder,
    version: String,
}

impl Extractor {
    /// Compiles the sources.
    ///
    /// # Errors
    /// If a model that ships cannot be read; tests keep that from happening.
    pub fn new(
        lexicon: Arc<Lexicon>,
        patterns: Arc<Patterns>,
        taxonomy: Option<Arc<Taxonomy>>,
    ) -> Result<Self, ShippedModelError> {
        let tagger = marks::built_in(&lexicon)?;
        let coder = Coder::built_in()?;
        let mut hash = Sha256::new();
        hash.update(RULES.to_le_bytes());
        hash.update(observatory_tagging::BUILT_IN);
        hash.update(observatory_occupations::BUILT_IN);
        hash.update(observatory_linking::phrases::SHIPPED);
        hash.update(lexicon.digest());
        hash.update(patterns.digest());
        if let Some(taxonomy) = &taxonomy {
            hash.update(format!("{}@{}", taxonomy.name(), taxonomy.version()));
        }
        let version = format!("rules-{RULES}+{}", &hex::encode(hash.finalize())[..16]);
        let source = Source::new(&lexicon, taxonomy.as_deref());
        let words = lexicon.words().into_iter().chain(patterns.spelt.iter().cloned());
        let spelling = Spelling::new(&patterns.misspelt, words);
        Ok(Self { lexicon, source, spelling, patterns, taxonomy, tagger, coder, version })
    }

    /// Changes with the rules, the lexicon, the patterns and the taxonomy: equal versions give
    /// equal results.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The lexicon in use.
    pub fn lexicon(&self) -> &Lexicon {
        &self.lexicon
    }

    /// The taxonomy in use.
    pub fn taxonomy(&self) -> Option<&Taxonomy> {
        self.taxonomy.as_deref()
    }

    /// The taxonomy in use, for callers that outlive this extractor.
    pub(crate) fn shared_taxonomy(&self) -> Option<Arc<Taxonomy>> {
        self.taxonomy.clone()
    }

    /// The coder of job titles.
    pub(crate) fn coder(&self) -> &Coder {
        &self.coder
    }

    /// Finds the skills of a document.
    pub fn extract(&self, document: &Document) -> Extraction {
        self.extract_with(document, &[])
    }

    /// Finds the skills of a document, with what a served tagger found in it. An entity whose span
    /// is empty or past the end of its field is left out.
    pub fn extract_with(&self, document: &Document, entities: &[NerEntity]) -> Extraction {
        let fields = Field::ALL.map(|field| {
            let mut tokens = Tokens::new(document.field(field));
            // Before anything reads the words: the language is detected by them, too.
            self.spelling.mend(&mut tokens);
            (field, tokens)
        });
        let language = document_language(document, &fields);
        let mut mentions = Vec::new();
        for (field, tokens) in &fields {
            if !tokens.is_empty() {
                mentions.extend(self.mentions(*field, tokens, entities));
            }
        }
        Extraction { language: language.tag(), mentions, occupation: self.occupation(document, language) }
    }

    fn mentions(&self, field: Field, tokens: &Tokens<'_>, entities: &[NerEntity]) -> Vec<Mention> {
        let scope = Scope::new(field, tokens, &self.patterns);
        let mut all = self.source.candidates(tokens, &scope, self.taxonomy.as_deref());
        all.extend(phrases::standards(tokens, &self.patterns));
        let ordinary = self.patterns.ordinary.phrases.find(tokens);
        // Merged first: `longest` compares spans alone and would keep any one of equal ones.
        let names = candidates::merge(all);
        let known = longest(candidates::named(names.clone(), &ordinary), |found| found.span());
        let known: Vec<Candidate> = known.into_iter().filter_map(Named::skill).collect();
        // After the names are settled, since a phrase adds only what no other source knows.
        let introduced = phrases::introduced(tokens, &scope, &known);
        let tagged = entities.iter().filter(|entity| entity.field == field);
        let tagged: Vec<Candidate> = tagged.filter_map(|entity| candidates::tagged(tokens, entity)).collect();
        // Again, since a tagger may confirm a name or mark more words than it has.
        let all = candidates::merge(known.into_iter().chain(introduced).chain(tagged).collect());
        let mut apart = longest(all, |candidate| (candidate.first, candidate.end));
        for candidate in &mut apart {
            candidate.confidence *= scope.trust(candidate.first, candidate.kind);
        }
        // A title names a job; the tagger has learned from descriptions.
        let found = match field {
            Field::Title => apart,
            _ => marks::united(tokens, &self.tagger.tag(tokens.text()), &names, apart),
        };
        found
            .into_iter()
            .map(|candidate| self.linked(candidate, tokens))
            .filter_map(|candidate| self.mention(candidate, (field, tokens), &scope))
            .collect()
    }

    /// A candidate with the concept that the words of its mark name.
    fn linked(&self, candidate: Candidate, tokens: &Tokens<'_>) -> Candidate {
        match (&self.taxonomy, &candidate.mark) {
            (Some(taxonomy), Some(mark)) => {
                let surface = &tokens.text()[mark.start_byte..mark.end_byte];
                self.source.linked(candidate, surface, taxonomy)
            }
            _ => candidate,
        }
    }

    fn mention(
        &self,
        candidate: Candidate,
        (field, tokens): (Field, &Tokens<'_>),
        scope: &Scope<'_>,
    ) -> Option<Mention> {
        let confidence = candidate.confidence;
        // Names have passed this already; standards and a served tagger's finds have not.
        let open = || scope.open(candidate.first, candidate.end, &candidate.category);
        let heard = match &candidate.mark {
            Some(_) => {
                let ordinary = scope.is_ordinary(tokens, candidate.first, candidate.end);
                !ordinary && !scope.is_aside(candidate.first, candidate.end)
            }
            None => confidence >= REPORTED && open(),
        };
        if !heard {
            return None;
        }
        let (first, last) = (&tokens.items()[candidate.first], &tokens.items()[candidate.end - 1]);
        let (start, end, surface) = match &candidate.mark {
            Some(mark) => (mark.start, mark.end, &tokens.text()[mark.start_byte..mark.end_byte]),
            None => (first.start_char, last.end_char, tokens.span(candidate.first, candidate.end)),
        };
        let concept = candidate.uri.as_deref().and_then(|uri| self.taxonomy.as_deref()?.concept(uri));
        // One name for a concept, whatever the language of the advertisement.
        let preferred = concept.and_then(|concept| concept.preferred_label("es"));
        self.ruled(Mention {
            label: candidate.label.or_else(|| preferred.map(str::to_owned))?,
            surface: surface.to_owned(),
            kind: candidate.kind,
            category: candidate.category,
            methods: candidate.methods,
            // Without the last bits of a 32-bit product, which say nothing and would be stored.
            confidence: (confidence * 1000.0).round() / 1000.0,
            section: scope.section(candidate.first).to_owned(),
            field,
            start,
            end,
            place: candidate.mark.map(|mark| mark.place.into()),
            preferred_label: preferred.map(str::to_owned),
            uri: candidate.uri,
        })
    }

    /// A mention as people decided about its wording; nothing where they said that it is no skill.
    fn ruled(&self, mention: Mention) -> Option<Mention> {
        let (label, uri) = match self.lexicon.rulings().on(&mention.surface) {
            Some(Ruling::NotASkill) => return None,
            Some(Ruling::Means { label, uri }) => (label, uri),
            Some(Ruling::NotImplied) | None => return Some(mention),
        };
        let entry = self.lexicon.find(label);
        let concept = uri.as_deref().and_then(|uri| self.taxonomy.as_deref()?.concept(uri));
        let mut methods = mention.methods;
        // A wording that somebody has judged is one of the lexicon.
        methods.push(Method::Lexicon);
        methods.sort_unstable();
        methods.dedup();
        Some(Mention {
            label: entry.map_or(label, |entry| &entry.label).clone(),
            kind: entry.map_or(mention.kind, |entry| entry.kind),
            category: entry.map_or(mention.category, |entry| entry.category.clone()),
            uri: uri.clone(),
            preferred_label: concept.and_then(|found| found.preferred_label("es")).map(str::to_owned),
            methods,
            ..mention
        })
    }

    /// The occupation of the title: a concept that it clearly names, with the CUOC code that is
    /// likeliest within the concept's unit group; else the code of title and description alone.
    fn occupation(&self, document: &Document, language: Language) -> Option<Occupation> {
        let title = document.title.as_str();
        let taxonomy = self.taxonomy.as_deref();
        let named = taxonomy.and_then(|taxonomy| taxonomy.occupation(title, self.lexicon.titles()));
        let Some(ranked) = named else { return self.coded(title, Some(&document.description)).map(by_code) };
        let concept: &Concept = ranked.concept;
        let coded = match concept.isco() {
            Some(group) => {
                self.coder.rank_within(title, Some(&document.description), &[group], 1).into_iter().next()
            }
            None => self.coded(title, None),
        };
        let isco = concept.isco().or(coded.map(|coded| coded.isco));
        Some(Occupation {
            uri: Some(concept.uri.clone()),
            label: concept.preferred_label(language.tag())?.to_owned(),
            score: ranked.score,
            isco: isco.map(str::to_owned),
            cuoc: coded.map(|coded| coded.code.to_owned()),
            cuoc_label: coded.map(|coded| coded.name.to_owned()),
        })
    }

    /// The CUOC code of a title, if it is likelier right than wrong. An empty title has none,
    /// whatever the description says.
    fn coded(&self, title: &str, description: Option<&str>) -> Option<Coded<'_>> {
        let best = self.coder.rank(title, description, 1).into_iter().next()?;
        (best.score >= CODED && !title.trim().is_empty()).then_some(best)
    }
}

/// An occupation of which only the code is known.
fn by_code(coded: Coded<'_>) -> Occupation {
    Occupation {
        uri: None,
        label: coded.name.to_owned(),
        score: coded.score,
        isco: Some(coded.isco.to_owned()),
        cuoc: Some(coded.code.to_owned()),
        cuoc_label: Some(coded.name.to_owned()),
    }
}

/// The caller's language, else the one the description is written in, the country being the prior.
fn document_language(document: &Document, fields: &[(Field, Tokens<'_>); 3]) -> Language {
    if let Some(language) = document.language.as_deref().and_then(Language::from_tag) {
        return language;
    }
    let english_speaking = ["US", "GB", "CA", "AU", "IE", "NZ"];
    let prior = document.country.as_deref().map(|country| match english_speaking.contains(&country) {
        true => Language::En,
        false => Language::Es,
    });
    // The title last: English names of jobs stand over Spanish texts as well.
    let [(_, title), (_, description), (_, requirements)] = fields;
    // Not tuned: fewer words say too little about their language.
    let longest = [description, requirements, title].into_iter().find(|tokens| tokens.len() >= 5);
    language::detect(longest.unwrap_or(title), prior)
}

/// Orders methods as they are reported.
fn sorted(mut methods: Vec<Method>) -> Vec<Method> {
    methods.sort_unstable();
    methods.dedup();
    methods
}

#[cfg(test)]
mod tests;
