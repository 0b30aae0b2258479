//! Embedding models and the vectors of skills.
//!
//! Vectors of several models lie side by side; one model is active, and searches and analyses read
//! its vectors. The dimension belongs to the model.

use pgvector::Vector;
use sqlx::PgConnection;

/// A model as the vectors know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingModel {
    /// Key.
    pub model_id: i16,
    /// Name in the model store.
    pub name: String,
    /// Digest of the files.
    pub revision: String,
    /// Name of the model's prompt for stored texts; empty if it has none.
    pub prompt: String,
    /// Length of a vector.
    pub dimensions: i32,
}

/// Everything that tells a model's vectors from those of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Name in the model store.
    pub name: String,
    /// Digest of the files.
    pub revision: String,
    /// Name of the model's prompt for stored texts; empty if it has none.
    pub prompt: String,
    /// Length of a vector.
    pub dimensions: i32,
}

impl ModelIdentity {
    /// A model under its prompt for stored texts.
    pub(crate) fn new(name: &str, revision: &str, prompt: &str, dimensions: u32) -> Self {
        Self {
            name: name.to_owned(),
            revision: revision.to_owned(),
            prompt: prompt.to_owned(),
            dimensions: dimensions.cast_signed(),
        }
    }
}

impl EmbeddingModel {
    /// Returns whether this is the row of `model`.
    pub(crate) fn is(&self, model: &ModelIdentity) -> bool {
        // Not by the dimension, which follows from the three and is no part of the key.
        self.name == model.name && self.revision == model.revision && self.prompt == model.prompt
    }
}

/// Registers a model and makes it the active one, with a similarity index for its vectors.
///
/// # Errors
/// If a statement fails.
pub async fn activate(connection: &mut PgConnection, model: &ModelIdentity) -> sqlx::Result<EmbeddingModel> {
    // Most plans find the model active already, and then nothing is locked.
    if let Some(known) = active(connection).await?
        && known.is(model)
    {
        return Ok(known);
    }
    let registered = register(connection, model).await?;
    let model_id = registered.model_id;
    // The other one first: a unique index allows one active model at any time.
    sqlx::query!("update embedding_model set active = false where active and model_id <> $1", model_id)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("update embedding_model set active = true where model_id = $1 and not active", model_id)
        .execute(&mut *connection)
        .await?;
    // Not built concurrently, which no transaction may do; a new model has no vectors yet, so it is
    // quick.
    sqlx::query!("select ensure_embedding_index($1)", model_id).fetch_one(&mut *connection).await?;
    Ok(registered)
}

/// The row of a model, which may be a new one that is not active.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn register(
    connection: &mut PgConnection,
    model: &ModelIdentity,
) -> sqlx::Result<EmbeddingModel> {
    let ModelIdentity { name, revision, prompt, dimensions } = model;
    // Set to what it is, since `do nothing` would return no row.
    let model_id = sqlx::query_scalar!(
        "insert into embedding_model (name, revision, prompt, dimensions) values ($1, $2, $3, $4)
         on conflict (name, revision, prompt) do update set name = excluded.name returning model_id",
        name,
        revision,
        prompt,
        *dimensions
    )
    .fetch_one(connection)
    .await?;
    Ok(EmbeddingModel {
        model_id,
        name: name.clone(),
        revision: revision.clone(),
        prompt: prompt.clone(),
        dimensions: *dimensions,
    })
}

/// The row of a model; `None` before it was ever used.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn find(
    connection: &mut PgConnection,
    model: &ModelIdentity,
) -> sqlx::Result<Option<EmbeddingModel>> {
    sqlx::query_as!(
        EmbeddingModel,
        "select model_id, name, revision, prompt, dimensions from embedding_model
         where name = $1 and revision = $2 and prompt = $3",
        model.name,
        model.revision,
        model.prompt
    )
    .fetch_optional(connection)
    .await
}

/// The model whose vectors searches and analyses read.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn active(connection: &mut PgConnection) -> sqlx::Result<Option<EmbeddingModel>> {
    sqlx::query_as!(
        EmbeddingModel,
        "select model_id, name, revision, prompt, dimensions from embedding_model where active"
    )
    .fetch_optional(connection)
    .await
}

/// Skills in use that have no vector of the model, and how many have one; none have one of a model
/// without a row.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn coverage(
    connection: &mut PgConnection,
    model_id: Option<i16>,
) -> sqlx::Result<(Vec<i64>, i64)> {
    // Ordered by bytes, which no locale changes: the batches of two runs are alike.
    let rows = sqlx::query!(
        r#"select s.skill_id, exists (select from skill_embedding e
               where e.skill_id = s.skill_id and e.model_id = $1) as "done!"
           from skill s
           where exists (select from enhanced_skills h where h.skill_id = s.skill_id and not h.is_duplicate)
           order by s.label collate "C""#,
        model_id
    )
    .fetch_all(connection)
    .await?;
    let pending: Vec<i64> = rows.iter().filter(|row| !row.done).map(|row| row.skill_id).collect();
    let done = i64::try_from(rows.len() - pending.len()).unwrap_or(i64::MAX);
    Ok((pending, done))
}

/// Labels of skills, by id.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn labels(connection: &mut PgConnection, ids: &[i64]) -> sqlx::Result<Vec<(i64, String)>> {
    let rows = sqlx::query!("select skill_id, label from skill where skill_id = any ($1)", ids)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.skill_id, row.label)).collect())
}

/// Stores the vector of a skill; one that exists is left as it is.
///
/// # Errors
/// If the statement fails, or the length is not the model's.
pub async fn insert(
    connection: &mut PgConnection,
    skill_id: i64,
    model_id: i16,
    vector: Vec<f32>,
) -> sqlx::Result<()> {
    // Two runs may embed a skill at the same time; the same label and model give the same vector,
    // so the first row may stay. A wrong length is refused by the foreign key to the model.
    let dimensions = i32::try_from(vector.len()).unwrap_or(i32::MAX);
    sqlx::query!(
        "insert into skill_embedding (skill_id, model_id, dimensions, vec) values ($1, $2, $3, $4)
         on conflict (skill_id, model_id) do nothing",
        skill_id,
        model_id,
        dimensions,
        Vector::from(vector) as Vector
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A skill near a query.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    /// Normalised label.
    pub skill: String,
    /// Cosine similarity.
    pub score: f64,
    /// Postings that ask for it.
    pub job_count: i64,
}

/// Sets the parameters of scans through an index for the transaction: `candidates` are kept on the
/// way, at most 1,000, and filters are applied until enough is found.
pub(super) async fn read_by_index(connection: &mut PgConnection, candidates: i64) -> sqlx::Result<()> {
    // Loads the extension, which knows the parameters; `load` would be for superusers.
    sqlx::query("select '[1]'::vector").execute(&mut *connection).await?;
    // Strict, since a relaxed scan may return neighbours slightly out of order.
    sqlx::query("set local hnsw.iterative_scan = strict_order").execute(&mut *connection).await?;
    let candidates = format!("set local hnsw.ef_search = {candidates}");
    // Safe: a number is written into the text.
    sqlx::query(sqlx::AssertSqlSafe(candidates)).execute(connection).await?;
    Ok(())
}

/// The skills nearest to `query` by cosine, in one country or in all.
///
/// Searches through the model's index with iterative scans, so that a filter never empties the
/// answer. Must run inside a transaction: it sets parameters for it.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn search(
    connection: &mut PgConnection,
    model: &EmbeddingModel,
    query: Vec<f32>,
    country: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Hit>> {
    read_by_index(connection, 200).await?;
    // The expression must be the index's own, so the dimension and the model stand as literals.
    let statement = format!(
        "select s.label, 1 - (e.vec::vector({dimensions}) <=> $1::vector({dimensions})) as score,
             (select count(distinct h.job_id) from enhanced_skills h join sighting g on g.job_id = h.job_id
              where h.skill_id = e.skill_id and not h.is_duplicate and h.skill_type = 'explicit'
                and ($2::text is null or g.country = $2)) as job_count
         from skill_embedding e join skill s on s.skill_id = e.skill_id
         where e.model_id = {model_id}
           and exists (select from enhanced_skills h join sighting g on g.job_id = h.job_id
               where h.skill_id = e.skill_id and not h.is_duplicate and ($2::text is null or g.country = $2))
         order by e.vec::vector({dimensions}) <=> $1::vector({dimensions}) limit $3",
        dimensions = model.dimensions,
        model_id = model.model_id
    );
    // Safe: only two integers of the model's row are written into the text.
    let rows: Vec<(String, f64, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(Vector::from(query))
        .bind(country)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|(skill, score, job_count)| Hit { skill, score, job_count }).collect())
}

/// The cosine of each of `queries` to the skill nearest to it, in no particular order; nothing
/// without vectors.
///
/// Must run inside a transaction, as [`search`] does.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn closest(
    connection: &mut PgConnection,
    model: &EmbeddingModel,
    queries: Vec<Vec<f32>>,
) -> sqlx::Result<Vec<f64>> {
    // Lateral, so that each query vector is a scan of its own through the index.
    let statement = format!(
        "select 1 - (n.vec <=> q.vec) from unnest($1::vector[]) as q (vec)
         cross join lateral (
             select e.vec::vector({dimensions}) as vec from skill_embedding e where e.model_id = {model_id}
             order by e.vec::vector({dimensions}) <=> q.vec::vector({dimensions}) limit 1
         ) n",
        dimensions = model.dimensions,
        model_id = model.model_id
    );
    let queries: Vec<Vector> = queries.into_iter().map(Vector::from).collect();
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(queries).fetch_all(connection).await
}

/// A skill with its vector and weight, as the analyzer reads it.
#[derive(Debug, Clone)]
pub(crate) struct SkillVector {
    /// Skill.
    pub skill_id: i64,
    /// Normalised label.
    pub label: String,
    /// Vector of the active model.
    pub vector: Vec<f32>,
    /// Postings that name it.
    pub job_count: i64,
}

/// Every skill in use with its vector of `model`, in the order of the labels.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn vectors(connection: &mut PgConnection, model_id: i16) -> sqlx::Result<Vec<SkillVector>> {
    let rows = sqlx::query!(
        r#"select s.skill_id, s.label, e.vec as "vec!: Vector",
               count(distinct h.job_id) filter (where h.skill_type = 'explicit') as "job_count!"
           from skill_embedding e join skill s on s.skill_id = e.skill_id
           join enhanced_skills h on h.skill_id = s.skill_id and not h.is_duplicate
           where e.model_id = $1
           group by s.skill_id, e.skill_id, e.model_id
           order by s.label collate "C""#,
        model_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SkillVector {
            skill_id: row.skill_id,
            label: row.label,
            vector: row.vec.to_vec(),
            job_count: row.job_count,
        })
        .collect())
}
