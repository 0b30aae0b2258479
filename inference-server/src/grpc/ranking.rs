//! `RankingService`.
//!
//! Cross-encoders score pairs of a query and a document.

use observatory_proto::inference::v1 as pb;
use pb::ranking_service_server::RankingService;
use tonic::{Request, Response, Status};

use super::settings::{apply_options, model, priority, truncation};
use super::{Api, context_of, failed_item, read_item, timing};
use crate::error::Error;
use crate::service::Service;
use crate::service::call::CallContext;
use crate::service::rank::{RankSettings, RankedDocument};

#[tonic::async_trait]
impl RankingService for Api {
    async fn rank(&self, request: Request<pb::RankRequest>) -> Result<Response<pb::RankResponse>, Status> {
        let context = context_of(&request);
        self.respond(rank(&self.service, &context, request.into_inner()).await)
    }
}

async fn rank(
    service: &Service,
    context: &CallContext,
    request: pb::RankRequest,
) -> Result<pb::RankResponse, Error> {
    let settings = request.settings.unwrap_or_default();
    apply_options(context, settings.options.as_ref(), "settings.options")?;
    let settings = RankSettings {
        truncation: truncation(settings.truncation)?,
        priority: priority(settings.priority)?,
        model: model(settings.model),
        raw_scores: settings.raw_scores,
        top_n: settings.top_n as usize,
        keep_order: settings.keep_order,
    };
    let ranking = service.rank(context, settings, request.query, request.documents).await?;
    Ok(pb::RankResponse {
        documents: ranking.documents.into_iter().map(document).collect(),
        usage: Some(pb::Usage { prompt_tokens: ranking.prompt_tokens }),
        timing: Some(timing(ranking.timing)),
        model_name: ranking.model.info.name.clone(),
        model_revision: ranking.model.info.revision.clone(),
    })
}

fn document(document: RankedDocument) -> pb::RankedDocument {
    let (score, status) = match document.result {
        Ok(scored) => (scored.score, read_item(scored.tokens, scored.truncated)),
        Err(error) => (0.0, failed_item(&error)),
    };
    pb::RankedDocument { index: document.index as u32, score, status: Some(status) }
}
