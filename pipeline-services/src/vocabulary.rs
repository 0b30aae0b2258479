//! What the extractor and the enhancer know: the lexicon and the active taxonomy.
//!
//! The same vocabulary is handed out until the active taxonomy changes or somebody judges a find,
//! so that two batches of one plan read with the same words.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::{
    lexicon::{Lexicon, Rulings},
    store::{
        PgPool, SqlResult,
        taxonomies::{self, Stored},
        verdicts,
    },
    taxonomy::Taxonomy,
};

/// A lexicon and a taxonomy that belong together.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    /// Our own entries.
    pub lexicon: Arc<Lexicon>,
    /// The active taxonomy, if one was imported.
    pub taxonomy: Option<Arc<Taxonomy>>,
}

/// Key, name and version of the active taxonomy.
type Active = Option<(i32, String, String)>;

/// The vocabulary of an active taxonomy and a last verdict.
struct Current {
    active: Active,
    verdict: Option<i64>,
    vocabulary: Arc<Vocabulary>,
}

/// Returns the vocabulary; reads the taxonomy again when another becomes active, and the verdicts
/// when there is a new one.
pub(crate) struct VocabularySource {
    pool: PgPool,
    lexicon: Arc<Lexicon>,
    current: Mutex<Option<Current>>,
    // The taxonomy that a caller last asked for by its name, and its key.
    other: Mutex<Option<(i32, Arc<Taxonomy>)>>,
}

impl VocabularySource {
    /// A source that reads the taxonomy from `pool` when it is first asked.
    pub(crate) fn new(pool: PgPool, lexicon: Lexicon) -> Self {
        Self { pool, lexicon: Arc::new(lexicon), current: Mutex::new(None), other: Mutex::new(None) }
    }

    /// The vocabulary of now. The same value comes back until the active taxonomy or the verdicts
    /// change.
    ///
    /// # Errors
    /// If taxonomy or verdicts cannot be read.
    pub(crate) async fn current(&self) -> SqlResult<Arc<Vocabulary>> {
        let mut connection = self.pool.acquire().await?;
        let active = taxonomies::active(&mut connection).await?;
        let verdict = verdicts::last(&mut connection).await?;
        // Held while the taxonomy is read, so that two batches that find it changed read it once.
        let mut current = self.current.lock().await;
        let same = current.as_ref().filter(|known| known.active == active);
        if let Some(known) = same
            && known.verdict == verdict
        {
            return Ok(Arc::clone(&known.vocabulary));
        }
        let taxonomy = match (&active, same) {
            (_, Some(known)) => known.vocabulary.taxonomy.clone(),
            (None, None) => None,
            (Some((taxonomy_id, name, version)), None) => {
                let concepts = taxonomies::concepts(&mut connection, *taxonomy_id).await?;
                Some(Arc::new(Taxonomy::new(name, version, concepts)))
            }
        };
        let lexicon = match verdict {
            None => Arc::clone(&self.lexicon),
            Some(_) => Arc::new(self.lexicon.ruled(Rulings::new(verdicts::rulings(&mut connection).await?))),
        };
        let vocabulary = Arc::new(Vocabulary { lexicon, taxonomy });
        *current = Some(Current { active, verdict, vocabulary: Arc::clone(&vocabulary) });
        Ok(vocabulary)
    }

    /// A stored taxonomy, active or not. The last one is kept.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) async fn stored(&self, wanted: &Stored) -> SqlResult<Arc<Taxonomy>> {
        // An import replaces a version under a new key.
        let mut other = self.other.lock().await;
        if let Some((key, taxonomy)) = other.as_ref()
            && *key == wanted.taxonomy_id
        {
            return Ok(Arc::clone(taxonomy));
        }
        let mut connection = self.pool.acquire().await?;
        let concepts = taxonomies::concepts(&mut connection, wanted.taxonomy_id).await?;
        let taxonomy = Arc::new(Taxonomy::new(&wanted.name, &wanted.version, concepts));
        *other = Some((wanted.taxonomy_id, Arc::clone(&taxonomy)));
        Ok(taxonomy)
    }

    /// Frees the taxonomy; it is read again when it is next needed.
    pub(crate) async fn forget(&self) {
        *self.current.lock().await = None;
        *self.other.lock().await = None;
    }
}
