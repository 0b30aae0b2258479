//! What the analyses say.
//!
//! Reads only: search by meaning, demand, evidence and clusters. Vectors of another revision than
//! the served model's are refused rather than compared.

use observatory_proto::pipeline::v1::{
    Cluster as ClusterMessage, GetClusterRequest, GetClusterResponse, ListClustersRequest,
    ListClustersResponse, ListSkillAdsRequest, ListSkillAdsResponse, SearchSkillsRequest,
    SearchSkillsResponse, SkillCount as CountMessage, SkillHit, TopSkillsRequest, TopSkillsResponse,
    insight_service_server::InsightService,
};
use tonic::{Request, Response, Status};

use super::{Services, error, nearness, non_empty, page_size};
use crate::{
    inference::EmbeddingModelInfo,
    store::{
        Connection, PgConnection,
        analyses::{self, Cluster, StoredAnalysis},
        embeddings::{self, EmbeddingModel},
        skills,
    },
};

fn top_limit(asked: u32) -> Result<i64, Status> {
    match asked {
        0 => Ok(10),
        1..=200 => Ok(i64::from(asked)),
        _ => Err(error::invalid("top", format!("{asked} is outside 0 to 200"))),
    }
}

fn cluster_message(cluster: Cluster) -> ClusterMessage {
    ClusterMessage {
        cluster_id: cluster.cluster_id.unsigned_abs(),
        label: cluster.label,
        size: cluster.size.unsigned_abs(),
        top_skills: cluster.top_skills,
        cohesion_score: cluster.cohesion_score,
    }
}

impl Services {
    async fn analysis(&self, connection: &mut PgConnection, run_id: &str) -> Result<StoredAnalysis, Status> {
        let run = non_empty(run_id).map(|text| error::id("run_id", text)).transpose()?;
        let found = analyses::find(connection, run).await.map_err(error::sql)?;
        found.ok_or_else(|| {
            error::precondition("there is no analysis yet; start a run with the stage analyze")
        })
    }

    /// The model of the stored vectors, and the served one, which must be of the same revision.
    async fn compared_model(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(EmbeddingModel, EmbeddingModelInfo), Status> {
        let stored = embeddings::active(connection).await.map_err(error::sql)?.ok_or_else(|| {
            error::precondition("there are no vectors yet; start a run with the stage embed")
        })?;
        // By the name of the stored model: the server's default may be another one by now.
        let served = self.embeddings.inference().embedding_model(Some(&stored.name)).await;
        let served = served.map_err(|problem| error::inference(&problem))?;
        if served.revision != stored.revision {
            return Err(error::precondition(
                "the vectors were made by another revision of the model; embed again",
            ));
        }
        Ok((stored, served))
    }

    /// The vectors of a text that is searched for and of the texts without meaning.
    async fn search_vectors(
        &self,
        model: &EmbeddingModelInfo,
        text: &str,
    ) -> Result<(Vec<f32>, Vec<Vec<f32>>), Status> {
        // One request for all: after the first search only the query itself is not remembered.
        let texts = [text.to_owned()].into_iter().chain(nearness::meaningless()).collect();
        let vectors = self.embeddings.embed(model, &model.query_prompt, texts).await;
        let mut vectors = vectors.map_err(|problem| error::inference(&problem))?.into_iter();
        let query = vectors
            .next()
            .and_then(Result::ok)
            .ok_or_else(|| error::invalid("text", "cannot be embedded"))?;
        // A string that cannot be embedded leaves a scale made of the others.
        Ok((query, vectors.filter_map(Result::ok).collect()))
    }
}

#[tonic::async_trait]
impl InsightService for Services {
    async fn search_skills(
        &self,
        request: Request<SearchSkillsRequest>,
    ) -> Result<Response<SearchSkillsResponse>, Status> {
        let asked = request.into_inner();
        if asked.text.trim().is_empty() {
            return Err(error::invalid("text", "is empty"));
        }
        let limit = top_limit(asked.top)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let country = self.country(&mut connection, &asked.country).await?;
        let (stored, model) = self.compared_model(&mut connection).await?;
        let lexicon = self.extractor.current().await.map_err(error::stage)?;
        // Skills bear the lexicon's names: what it knows by another one is searched by its own.
        let name = lexicon.lexicon().find(&asked.text).map(|entry| entry.label.clone());
        let text = name.unwrap_or(asked.text);
        let (query, meaningless) = self.search_vectors(&model, &text).await?;
        // A transaction, since `set local` sets the parameters of both searches.
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        let hits = embeddings::search(&mut transaction, &stored, query, country.as_deref(), limit)
            .await
            .map_err(error::sql)?;
        let scores = embeddings::closest(&mut transaction, &stored, meaningless).await.map_err(error::sql)?;
        let scale = nearness::Scale::of(&scores);
        let hits = if asked.all { hits } else { scale.near(&text, hits) };
        let hits = hits
            .into_iter()
            .map(|hit| SkillHit {
                skill: hit.skill,
                score: hit.score,
                job_count: hit.job_count.unsigned_abs(),
            })
            .collect();
        Ok(Response::new(SearchSkillsResponse { hits, model_name: stored.name, floor: scale.floor() }))
    }

    async fn top_skills(
        &self,
        request: Request<TopSkillsRequest>,
    ) -> Result<Response<TopSkillsResponse>, Status> {
        let asked = request.into_inner();
        let limit = top_limit(asked.top)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let country = self.country(&mut connection, &asked.country).await?;
        let found = skills::top(&mut connection, country.as_deref(), limit).await.map_err(error::sql)?;
        let counted = found
            .into_iter()
            .map(|count| CountMessage {
                skill: count.skill,
                job_count: count.job_count.unsigned_abs(),
                implicit_count: count.implicit_count.unsigned_abs(),
                total_mentions: count.total_mentions.unsigned_abs(),
                countries: count.countries,
            })
            .collect();
        Ok(Response::new(TopSkillsResponse { skills: counted }))
    }

    async fn list_skill_ads(
        &self,
        request: Request<ListSkillAdsRequest>,
    ) -> Result<Response<ListSkillAdsResponse>, Status> {
        self.skill_ads(request.into_inner()).await.map(Response::new)
    }

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let asked = request.into_inner();
        let size = usize::try_from(page_size(asked.page_size)?).unwrap_or(50);
        let after = match non_empty(&asked.page_token) {
            None => -1,
            Some(token) => token
                .parse::<i32>()
                .map_err(|_| error::invalid("page_token", format!("`{token}` is not a page token")))?,
        };
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let analysis = self.analysis(&mut connection, &asked.run_id).await?;
        // Read whole and cut here: clusters are far fewer than skills.
        let all = analyses::clusters(&mut connection, analysis.analysis_id).await.map_err(error::sql)?;
        let mut rest: Vec<Cluster> = all.into_iter().filter(|cluster| cluster.cluster_id > after).collect();
        let more = rest.len() > size;
        rest.truncate(size);
        let next = rest.last().filter(|_| more).map(|cluster| cluster.cluster_id.to_string());
        let quality = analysis.results.quality_metrics;
        Ok(Response::new(ListClustersResponse {
            analysis_id: analysis.analysis_id.to_string(),
            noise: analysis.results.n_noise,
            // The field is not optional in the contract, and 0 would be a score.
            silhouette_score: quality.silhouette_score.unwrap_or(f64::NAN),
            davies_bouldin_index: quality.davies_bouldin_index.unwrap_or(f64::NAN),
            clusters: rest.into_iter().map(cluster_message).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn get_cluster(
        &self,
        request: Request<GetClusterRequest>,
    ) -> Result<Response<GetClusterResponse>, Status> {
        let asked = request.into_inner();
        let wanted = asked.cluster_id.cast_signed();
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let analysis = self.analysis(&mut connection, &asked.run_id).await?;
        let all = analyses::clusters(&mut connection, analysis.analysis_id).await.map_err(error::sql)?;
        let found = all.into_iter().find(|cluster| cluster.cluster_id == wanted);
        let cluster = found.ok_or_else(|| error::not_found("cluster", &wanted.to_string()))?;
        let points = analyses::points(&mut connection, analysis.analysis_id).await.map_err(error::sql)?;
        let mut members: Vec<CountMessage> = points
            .into_iter()
            .filter(|point| point.cluster_id == Some(wanted))
            .map(|point| CountMessage {
                skill: point.label,
                job_count: point.job_count.unsigned_abs(),
                ..CountMessage::default()
            })
            .collect();
        // Ties by name, so that two calls list the members alike.
        members
            .sort_by(|left, right| right.job_count.cmp(&left.job_count).then(left.skill.cmp(&right.skill)));
        Ok(Response::new(GetClusterResponse { cluster: Some(cluster_message(cluster)), skills: members }))
    }
}
