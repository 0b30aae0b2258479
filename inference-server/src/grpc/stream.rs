//! Items in, results out: what the bidirectional streams share.
//!
//! One task for each stream reads items as long as there is room, hands those that have come
//! together to the same path that a unary request takes, and sends results as they are ready. Room
//! is counted from reading an item to handing its result to the transport, so a caller that does
//! not read is not read from either.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use observatory_proto::inference::v1 as pb;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Api, status};
use crate::error::Error;
use crate::scheduler::admission::RequestPermit;
use crate::service::Service;
use crate::service::call::{Call, CallContext};
use crate::service::read::{SHARE_BYTES, SHARE_TEXTS};

/// Bytes of the results in one reply, or a single result: a quarter of the 4 MiB that gRPC clients
/// accept by default.
const REPLY_BYTES: usize = 1 << 20;

/// The answers of a stream.
pub(super) type Replies<R> = ReceiverStream<Result<R, Status>>;

/// The work of one kind of stream, made from the checked settings of its first message.
pub(super) trait Exchange: Sized + Send + Sync + 'static {
    /// Message of the caller.
    type Message: Send + 'static;
    /// The answer to one item.
    type Result: Message + Send + 'static;
    /// Message of the server.
    type Reply: Send + 'static;

    /// Checks the first message.
    fn begin(service: &Service, context: &CallContext, first: Self::Message) -> Result<Self, Error>;

    /// The item that a message holds.
    fn item(message: Self::Message) -> Option<pb::TextItem>;

    /// One result for each text, in order; or why there is none for any of them.
    fn results(
        &self,
        service: &Service,
        call: &Call,
        texts: Vec<String>,
    ) -> impl Future<Output = Result<Vec<Self::Result>, Error>> + Send;

    /// The result of an item that failed.
    fn refusal(&self, error: &Error) -> Self::Result;

    /// The result with the id of its item.
    fn numbered(result: Self::Result, id: u64) -> Self::Result;

    /// Some results as they are sent.
    fn reply(&self, results: Vec<Self::Result>) -> Self::Reply;
}

/// The path of a stream's text.
pub(super) fn item_field(_: usize) -> String {
    "item.text".to_owned()
}

/// A stream that does not begin as it should.
pub(super) fn no_settings() -> Error {
    Error::InvalidValue {
        field: "settings".to_owned(),
        value: "missing".to_owned(),
        allowed: "settings in the first message, then items".to_owned(),
    }
}

fn no_item() -> Error {
    Error::InvalidValue {
        field: "item".to_owned(),
        value: "missing".to_owned(),
        allowed: "an item in every message but the first".to_owned(),
    }
}

impl Api {
    /// Reads the settings and begins to answer.
    ///
    /// # Errors
    /// If requests are refused, and where the first message is at fault.
    pub(super) async fn open<E: Exchange>(
        &self,
        context: &CallContext,
        messages: Streaming<E::Message>,
    ) -> Result<Response<Replies<E::Reply>>, Status> {
        let replies = self.begin::<E>(context, messages).await;
        replies.map(Response::new).map_err(|error| self.refuse(&error))
    }

    async fn begin<E: Exchange>(
        &self,
        context: &CallContext,
        mut messages: Streaming<E::Message>,
    ) -> Result<Replies<E::Reply>, Error> {
        // Let go of at once: a stream counts as a request only while it has items.
        let deadline = self.service.admit(context)?.deadline();
        let first = tokio::time::timeout_at(deadline.into(), messages.message()).await;
        let first = first.map_err(|_| Error::ExpiredRunning)?.map_err(|status| self.undecodable(&status))?;
        let exchange = Arc::new(E::begin(&self.service, context, first.ok_or_else(no_settings)?)?);
        // One reply in flight: with more, results would leave `waiting` long before the transport
        // takes them.
        let (sender, replies) = mpsc::channel(1);
        let stream = Stream {
            api: self.clone(),
            context: context.clone(),
            exchange,
            messages: Some(messages),
            permit: None,
            working: JoinSet::new(),
            waiting: 0,
            ready: Vec::new(),
            fault: None,
        };
        tokio::spawn(stream.run(sender));
        Ok(ReceiverStream::new(replies))
    }

    fn undecodable(&self, status: &Status) -> Error {
        status::undecodable(status, self.service.limits().request_bytes)
    }
}

struct Stream<E: Exchange> {
    api: Api,
    context: CallContext,
    exchange: Arc<E>,
    /// `None` once the caller has sent all.
    messages: Option<Streaming<E::Message>>,
    /// Held while items wait for their results.
    permit: Option<Arc<RequestPermit>>,
    working: JoinSet<Vec<E::Result>>,
    /// Items whose results have not gone out.
    waiting: usize,
    ready: Vec<E::Result>,
    /// Error that ends the stream once the results have gone out.
    fault: Option<Error>,
}

impl<E: Exchange> Stream<E> {
    /// Until the caller has all results or goes away, the deadline passes, or the server stops.
    /// Dropping the work that is left cancels it.
    async fn run(mut self, replies: mpsc::Sender<Result<E::Reply, Status>>) {
        let (cut_off, deadline) = (self.api.service.cut_off().clone(), self.context.deadline());
        let error = loop {
            if self.waiting == 0 {
                self.permit = None;
                if self.messages.is_none() {
                    break self.fault.take();
                }
            }
            let reads = self.messages.is_some() && self.waiting < self.api.service.limits().stream_items;
            tokio::select! {
                // In this order: a caller who is gone ends everything, results go out before new
                // items come in, and reading comes last, so that a fast sender cannot keep results
                // waiting.
                biased;
                () = replies.closed() => return,
                Some(results) = self.working.join_next() => match results {
                    Ok(results) => self.ready.extend(results),
                    Err(_) => break Some(Error::Backend),
                },
                // Reserved before the reply is made: results that become ready meanwhile go with
                // it.
                place = replies.reserve(), if !self.ready.is_empty() => match place {
                    Ok(place) => place.send(Ok(self.next_reply())),
                    Err(_) => return,
                },
                () = cut_off.cancelled() => break Some(Error::Draining),
                () = until(deadline) => break Some(Error::ExpiredRunning),
                message = next(&mut self.messages), if reads => self.take(message),
            }
        };
        if let Some(error) = error {
            // A closed channel means that nobody waits any more.
            let _ = replies.send(Err(self.api.refuse(&error))).await;
        }
    }

    /// The results that are ready, as far as they fit into one reply.
    fn next_reply(&mut self) -> E::Reply {
        let mut bytes = 0;
        let fits = self.ready.iter().take_while(|result| {
            bytes += result.encoded_len();
            bytes <= REPLY_BYTES
        });
        // At least one, however large: a single result has its own limit in `results`.
        let rest = self.ready.split_off(fits.count().max(1));
        let results = std::mem::replace(&mut self.ready, rest);
        self.waiting -= results.len();
        self.exchange.reply(results)
    }

    /// Takes a message, and those that have come behind it as far as there is room.
    fn take(&mut self, first: Option<Result<E::Message, Status>>) {
        // More than a share at once would only wait behind its first part.
        let room = (self.api.service.limits().stream_items - self.waiting).min(SHARE_TEXTS);
        let (mut items, mut bytes): (Vec<pb::TextItem>, usize) = (Vec::new(), 0);
        let mut message = Some(first);
        while let Some(taken) = message.take() {
            match taken.map(|message| message.map(E::item)) {
                Some(Ok(Some(item))) => {
                    bytes += item.text.len();
                    items.push(item);
                }
                Some(Ok(None)) => self.end(Some(no_item())),
                Some(Err(status)) => self.end(Some(self.api.undecodable(&status))),
                None => self.end(None),
            }
            if self.messages.is_some() && items.len() < room && bytes < SHARE_BYTES {
                // Without waiting: a caller who sends one item at a time gets each one answered at
                // once.
                message = next(&mut self.messages).now_or_never();
            }
        }
        if !items.is_empty() {
            self.begin(items);
        }
    }

    /// Reads no more of the stream, and ends it with this once the results have gone out.
    fn end(&mut self, fault: Option<Error>) {
        // Dropping the stream tells the transport that nothing more is read.
        self.messages = None;
        self.fault = fault;
    }

    /// Sets to work on items.
    fn begin(&mut self, items: Vec<pb::TextItem>) {
        self.waiting += items.len();
        let call = match &self.permit {
            Some(permit) => self.api.service.admit_more(&self.context, permit),
            None => self.api.service.admit(&self.context),
        };
        let (service, exchange) = (self.api.service.clone(), Arc::clone(&self.exchange));
        match call {
            Ok(call) => {
                // The stream counts as one request for as long as any of its items waits.
                self.permit.get_or_insert_with(|| call.permit());
                self.working.spawn(async move { results(&service, exchange.as_ref(), &call, items).await });
            }
            Err(error) => {
                let refused =
                    items.into_iter().map(|item| refusal(&service, exchange.as_ref(), item.id, &error));
                self.ready.extend(refused);
            }
        }
    }
}

/// The results of some items; where they fail together and one of them may be at fault, each by
/// itself.
async fn results<E: Exchange>(
    service: &Service,
    exchange: &E,
    call: &Call,
    items: Vec<pb::TextItem>,
) -> Vec<E::Result> {
    let texts = items.iter().map(|item| item.text.clone()).collect();
    let all = exchange.results(service, call, texts).await;
    let error = match all {
        Ok(results) => {
            let mut answers = Vec::with_capacity(items.len());
            for (item, result) in items.iter().zip(results) {
                answers.push(match service.check_answer(result.encoded_len()) {
                    Ok(()) => E::numbered(result, item.id),
                    Err(error) => refusal(service, exchange, item.id, &error),
                });
            }
            return answers;
        }
        Err(error) => error,
    };
    let over =
        matches!(error, Error::Cancelled | Error::Draining | Error::ExpiredInQueue | Error::ExpiredRunning);
    // These concern the call and not an item, so trying items one by one would only repeat them.
    if over || items.len() == 1 {
        return items.iter().map(|item| refusal(service, exchange, item.id, &error)).collect();
    }
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        // Boxed, as a future that contains itself has no size.
        all.extend(Box::pin(results(service, exchange, call, vec![item])).await);
    }
    all
}

fn refusal<E: Exchange>(service: &Service, exchange: &E, id: u64, error: &Error) -> E::Result {
    service.count_refusal(error);
    E::numbered(exchange.refusal(error), id)
}

/// The next message, or `None` at the end of the stream.
async fn next<M>(messages: &mut Option<Streaming<M>>) -> Option<Result<M, Status>> {
    messages.as_mut()?.message().await.transpose()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
