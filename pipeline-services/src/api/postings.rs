//! Stored postings: import, listing, countries.

use std::collections::BTreeMap;

use chrono::Utc;
use observatory_proto::pipeline::v1::{
    Country as CountryMessage, EnableCountryRequest, EnableCountryResponse, GetPostingRequest,
    GetPostingResponse, ImportError, ImportPostingsRequest, ImportPostingsResponse, ListCountriesRequest,
    ListCountriesResponse, ListPostingsRequest, ListPostingsResponse, posting_service_server::PostingService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Services, error, non_empty, page_size};
use crate::{
    intake::{self, Prepared},
    store::{Connection, Page, countries, postings, postings::Stored},
};

/// Advertisements stored in one transaction.
const BATCH: usize = 200;
/// Refusals reported one by one.
const REPORTED: usize = 100;

/// Running totals of an import.
struct Import<'a> {
    services: &'a Services,
    countries: Vec<String>,
    waiting: Vec<Prepared>,
    /// Refusals by the field at fault, not yet written.
    refused: BTreeMap<String, u64>,
    totals: ImportPostingsResponse,
}

impl Import<'_> {
    fn take(&mut self, item: ImportPostingsRequest) {
        self.totals.lines += 1;
        let prepared = intake::parse(&item.posting_json)
            .and_then(|posting| intake::prepare(posting, &self.countries, Utc::now()));
        match prepared {
            Ok(prepared) => self.waiting.push(prepared),
            Err(refusal) => {
                self.totals.refused += 1;
                *self.refused.entry(refusal.field.to_owned()).or_default() += 1;
                if self.totals.errors.len() < REPORTED {
                    let message = refusal.to_string();
                    self.totals.errors.push(ImportError { file: item.file, line: item.line, message });
                }
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Status> {
        let mut connection = self.services.pool.acquire().await.map_err(error::sql)?;
        if !self.refused.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            postings::count_refused(&mut connection, "import", &refused).await.map_err(error::sql)?;
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let outcomes = intake::store_batch(&mut connection, &self.waiting).await.map_err(error::sql)?;
        for outcome in outcomes {
            match outcome {
                Stored::New(_) => self.totals.imported += 1,
                Stored::Duplicate(_) => self.totals.duplicates += 1,
            }
        }
        for prepared in self.waiting.drain(..) {
            for (kind, count) in prepared.removed {
                *self.totals.entities_removed.entry(kind).or_default() += count;
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl PostingService for Services {
    async fn import_postings(
        &self,
        request: Request<Streaming<ImportPostingsRequest>>,
    ) -> Result<Response<ImportPostingsResponse>, Status> {
        let mut stream = request.into_inner();
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let countries = countries::enabled(&mut connection).await.map_err(error::sql)?;
        drop(connection);
        let mut import = Import {
            services: self,
            countries,
            waiting: Vec::with_capacity(BATCH),
            refused: BTreeMap::new(),
            totals: ImportPostingsResponse::default(),
        };
        while let Some(item) = stream.message().await? {
            import.take(item);
            if import.waiting.len() >= BATCH {
                import.flush().await?;
            }
        }
        import.flush().await?;
        Ok(Response::new(import.totals))
    }

    async fn list_postings(
        &self,
        request: Request<ListPostingsRequest>,
    ) -> Result<Response<ListPostingsResponse>, Status> {
        let asked = request.into_inner();
        let after = non_empty(&asked.page_token).map(|token| error::id("page_token", token)).transpose()?;
        let size = page_size(asked.page_size)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let page = Page { after, size };
        let found =
            postings::list(&mut connection, non_empty(&asked.portal), non_empty(&asked.country), page)
                .await
                .map_err(error::sql)?;
        let next = found.last().filter(|_| found.len() as i64 == size).map(|last| last.job_id.to_string());
        let as_json = |posting| serde_json::to_string(posting).map_err(|_| Status::internal("not JSON"));
        Ok(Response::new(ListPostingsResponse {
            postings_json: found.iter().map(as_json).collect::<Result<_, _>>()?,
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn get_posting(
        &self,
        request: Request<GetPostingRequest>,
    ) -> Result<Response<GetPostingResponse>, Status> {
        let asked = request.into_inner().job_id;
        let job_id = error::id("job_id", &asked)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let posting = postings::show(&mut connection, job_id).await.map_err(error::sql)?;
        let posting = posting.ok_or_else(|| error::not_found("posting", &asked))?;
        Ok(Response::new(GetPostingResponse { posting_json: posting.to_string() }))
    }

    async fn list_countries(
        &self,
        _request: Request<ListCountriesRequest>,
    ) -> Result<Response<ListCountriesResponse>, Status> {
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let found = countries::list(&mut connection).await.map_err(error::sql)?;
        Ok(Response::new(ListCountriesResponse { countries: found.into_iter().map(message).collect() }))
    }

    async fn enable_country(
        &self,
        request: Request<EnableCountryRequest>,
    ) -> Result<Response<EnableCountryResponse>, Status> {
        let code = request.into_inner().code.to_uppercase();
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let known = countries::list(&mut connection).await.map_err(error::sql)?;
        if !known.iter().any(|country| country.code == code) {
            let codes: Vec<&str> = known.iter().map(|country| country.code.as_str()).collect();
            return Err(error::invalid(
                "code",
                format!("unknown country `{code}`; known are {}", codes.join(", ")),
            ));
        }
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        countries::enable(&mut transaction, &code).await.map_err(error::sql)?;
        transaction.commit().await.map_err(error::sql)?;
        let found = countries::list(&mut connection).await.map_err(error::sql)?;
        let country = found.into_iter().find(|country| country.code == code).map(message);
        Ok(Response::new(EnableCountryResponse { country }))
    }
}

fn message(country: countries::Country) -> CountryMessage {
    CountryMessage {
        code: country.code,
        name: country.name,
        enabled: country.enabled,
        time_zone: country.time_zone,
        currency: country.currency,
        postings: country.postings.unsigned_abs(),
    }
}
