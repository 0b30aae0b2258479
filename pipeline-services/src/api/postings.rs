//! Stored postings: import, listing, countries.
//!
//! An import stores batch by batch: what was stored stays when it is interrupted, sending it again
//! changes nothing, and equal problems of many lines are reported once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use observatory_proto::pipeline::v1::{
    Country as CountryMessage, EnableCountryRequest, EnableCountryResponse, GetPostingRequest,
    GetPostingResponse, ImportError, ImportPostingsRequest, ImportPostingsResponse, ListCountriesRequest,
    ListCountriesResponse, ListPostingsRequest, ListPostingsResponse, posting_service_server::PostingService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Services, error, non_empty, page_size};
use crate::{
    intake::{self, Prepared, Refusal},
    store::{Connection, Page, PgConnection, SqlResult, countries, postings, postings::Stored},
};

/// Advertisements stored in one transaction. Not tuned: few round trips, and little to repeat.
const BATCH: usize = 200;
/// Kinds of refusals, and of changes, that are reported one by one. Not tuned: a file whose columns
/// are mixed up has a few kinds, and nobody reads hundreds.
const REPORTED: usize = 100;
/// Postings that a dry run shows. A choice, not tuned.
const PREVIEWS: usize = 3;
/// Further values that a message names. A choice, not tuned.
const FURTHER: usize = 3;

/// Problems of lines, equal ones once.
#[derive(Default)]
struct Told {
    kinds: HashMap<(String, String), usize>,
    found: Vec<(ImportError, Vec<String>)>,
}

impl Told {
    /// Notes that a line has a problem of a kind; its message has `value` where the kind has `{}`.
    fn add(&mut self, (file, line): (&str, u64), kind: String, value: &str) {
        let key = (file.to_owned(), kind);
        if let Some((error, values)) = self.kinds.get(&key).and_then(|place| self.found.get_mut(*place)) {
            error.count += 1;
            // One more than `FURTHER`, since the first value stands in the message already.
            if values.len() <= FURTHER && !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        } else if self.found.len() < REPORTED {
            // Kinds beyond the limit are not even remembered, since they could be as many as the
            // lines.
            let message = key.1.replace("{}", value);
            let error = ImportError { file: file.to_owned(), line, message, count: 1 };
            self.kinds.insert(key, self.found.len());
            self.found.push((error, vec![value.to_owned()]));
        }
    }

    fn finish(self) -> Vec<ImportError> {
        let mut errors = Vec::new();
        for (mut error, values) in self.found {
            let others: Vec<String> = values.iter().skip(1).map(|value| format!("`{value}`")).collect();
            if !others.is_empty() {
                error.message.push_str(&format!("; also {}", others.join(", ")));
            }
            errors.push(error);
        }
        errors
    }
}

/// Tries of a batch that meets another import at the same rows. Not tuned: the other import has
/// moved on after one batch.
const TRIES: u32 = 4;

/// An advertisement that is to be stored, and where it stands.
struct Waiting {
    file: String,
    line: u64,
    prepared: Prepared,
}

/// Running totals of an import.
struct Import<'a> {
    services: &'a Services,
    countries: Arc<[String]>,
    /// Choice of the first request; none before it.
    dry_run: Option<bool>,
    waiting: Vec<Waiting>,
    /// Texts of a dry run so far.
    hashes: HashSet<String>,
    /// Refusals by the field at fault, not yet written.
    refused: BTreeMap<String, u64>,
    errors: Told,
    notes: Told,
    totals: ImportPostingsResponse,
}

impl Import<'_> {
    async fn take(&mut self, mut item: ImportPostingsRequest) {
        self.totals.lines += 1;
        self.dry_run.get_or_insert(item.dry_run);
        let json = std::mem::take(&mut item.posting_json);
        let item = &item;
        match intake::apart::line(json, &self.countries).await {
            Ok(prepared) => {
                let place = (item.file.as_str(), item.line);
                prepared.changed.iter().for_each(|change| self.notes.add(place, change.clone(), ""));
                self.waiting.push(Waiting { file: item.file.clone(), line: item.line, prepared });
            }
            Err(refusal) => self.refuse((&item.file, item.line), &refusal),
        }
    }

    fn refuse(&mut self, place: (&str, u64), refusal: &Refusal) {
        self.totals.refused += 1;
        *self.refused.entry(refusal.field.to_owned()).or_default() += 1;
        self.errors.add(place, format!("{}: {}", refusal.field, refusal.problem), &refusal.value);
    }

    async fn flush(&mut self) -> Result<(), Status> {
        let mut connection = self.services.pool.acquire().await.map_err(error::sql)?;
        if self.dry_run == Some(true) {
            self.compare(&mut connection).await.map_err(error::sql)?;
        } else {
            self.store(&mut connection).await.map_err(error::sql)?;
        }
        // Only now: a batch that failed has removed nothing.
        for waiting in self.waiting.drain(..) {
            for (kind, count) in waiting.prepared.removed {
                *self.totals.entities_removed.entry(kind).or_default() += count;
            }
        }
        Ok(())
    }

    /// A refusal says how much was done before it.
    async fn flush_or_tell(&mut self) -> Result<(), Status> {
        let flushed = self.flush().await;
        flushed.map_err(|status| error::after(&status, &self.done()))
    }

    fn done(&self) -> String {
        let stored = self.totals.imported + self.totals.duplicates;
        if self.dry_run == Some(true) || stored == 0 {
            return "nothing was stored".to_owned();
        }
        format!(
            "{stored} advertisements are stored ({} of them new), the others are not; the import may be repeated",
            self.totals.imported
        )
    }

    async fn store(&mut self, connection: &mut PgConnection) -> SqlResult<()> {
        if !self.waiting.is_empty() {
            let items: Vec<Prepared> = self.waiting.iter().map(|waiting| waiting.prepared.clone()).collect();
            let outcomes = stored(connection, &items).await?;
            let places: Vec<(String, u64)> =
                self.waiting.iter().map(|waiting| (waiting.file.clone(), waiting.line)).collect();
            for ((file, line), outcome) in places.iter().zip(outcomes) {
                match outcome {
                    Ok(Stored::New(_)) => self.totals.imported += 1,
                    Ok(Stored::Duplicate(_)) => self.totals.duplicates += 1,
                    Err(refusal) => self.refuse((file, *line), &refusal),
                }
            }
        }
        // Also without a batch: the last lines of a file may all have been refused.
        if !self.refused.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            postings::count_refused(connection, "import", &refused).await?;
        }
        Ok(())
    }

    /// Counts what storing would do, and stores nothing.
    async fn compare(&mut self, connection: &mut PgConnection) -> SqlResult<()> {
        let hashes: Vec<String> =
            self.waiting.iter().map(|item| item.prepared.content_hash().to_owned()).collect();
        // Texts of earlier batches count as well: a file that holds one twice would store it once.
        self.hashes.extend(postings::known_hashes(connection, &hashes).await?);
        for (item, hash) in self.waiting.iter().zip(hashes) {
            if self.totals.preview_json.len() < PREVIEWS {
                self.totals.preview_json.push(item.prepared.preview().to_string());
            }
            if self.hashes.insert(hash) {
                self.totals.imported += 1;
            } else {
                self.totals.duplicates += 1;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> ImportPostingsResponse {
        self.totals.errors = self.errors.finish();
        self.totals.notes = self.notes.finish();
        self.totals
    }
}

/// Stores a batch, again where another import was at the same rows.
async fn stored(
    connection: &mut PgConnection,
    items: &[Prepared],
) -> SqlResult<Vec<Result<Stored, Refusal>>> {
    for tries in 1..TRIES {
        match intake::store_batch(connection, items).await {
            Err(error) if crate::store::is_conflict(&error) => {
                tokio::time::sleep(Duration::from_millis(50) * tries).await;
            }
            settled => return settled,
        }
    }
    intake::store_batch(connection, items).await
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
        // Its lines may come for hours; the connection is not held for that long.
        drop(connection);
        let mut import = Import {
            services: self,
            countries: countries.into(),
            dry_run: None,
            waiting: Vec::with_capacity(BATCH),
            hashes: HashSet::new(),
            refused: BTreeMap::new(),
            errors: Told::default(),
            notes: Told::default(),
            totals: ImportPostingsResponse::default(),
        };
        loop {
            let item = match stream.message().await {
                Ok(Some(item)) => item,
                Ok(None) => break,
                // What came whole is stored; the refusal says how much that is.
                Err(broken) => {
                    import.flush_or_tell().await?;
                    return Err(error::after(&broken, &import.done()));
                }
            };
            import.take(item).await;
            if import.waiting.len() >= BATCH {
                import.flush_or_tell().await?;
            }
        }
        import.flush_or_tell().await?;
        Ok(Response::new(import.finish()))
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
        let portal = self.portal(&mut connection, &asked.portal).await?;
        let country = self.country(&mut connection, &asked.country).await?;
        let found = postings::list(&mut connection, portal.as_deref(), country.as_deref(), page)
            .await
            .map_err(error::sql)?;
        let next = found.last().filter(|_| found.len() as i64 == size).map(|last| last.job_id.to_string());
        Ok(Response::new(ListPostingsResponse {
            postings_json: found
                .iter()
                .map(|posting| serde_json::to_string(posting).map_err(|_| Status::internal("not JSON")))
                .collect::<Result<_, _>>()?,
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
        // Looked up first, since the database's own refusal is a violated foreign key.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_problems_are_told_once() {
        let mut told = Told::default();
        let at = |line| ("a.csv", line);
        told.add(at(2), "url: `{}` names no host".to_owned(), "/1");
        told.add(at(3), "title: is empty".to_owned(), "");
        for line in 4..3_000 {
            told.add(at(line), "url: `{}` names no host".to_owned(), &format!("/{line}"));
            told.add(at(line), "title: is empty".to_owned(), "");
        }
        let found: Vec<_> =
            told.finish().into_iter().map(|error| (error.line, error.count, error.message)).collect();
        let expected = [
            (2, 2_997, "url: `/1` names no host; also `/4`, `/5`, `/6`".to_owned()),
            (3, 2_997, "title: is empty".to_owned()),
        ];
        assert_eq!(found, expected);
    }
}
