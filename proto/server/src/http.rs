//! HTTP/1.1 on the connections of a port.
//!
//! Drains on shutdown: requests in progress are served to their end.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::connections::{Connection, Held, Incoming};

/// Response to a health probe.
pub fn health(serves: bool) -> (StatusCode, &'static str) {
    if serves { (StatusCode::OK, "serving\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not serving\n") }
}

/// Serves the routes until `closed`, then finishes requests in progress. `head` limits the idle
/// time between requests, and the time for the head of one.
pub async fn serve(mut incoming: Incoming, router: Router, head: Duration, closed: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let next = tokio::select! {
            next = incoming.next() => next,
            () = closed.cancelled() => break,
        };
        match next {
            Some(Ok(connection)) => {
                tasks.spawn(serve_one(connection, router.clone(), head, closed.clone()));
            }
            // `incoming` sends no errors; tonic wants a stream of results.
            Some(Err(_)) => {}
            None => break,
        }
    }
    // A tracker that is still open never has an end to wait for.
    tasks.close();
    tasks.wait().await;
}

async fn serve_one(connection: Connection, router: Router, head: Duration, closed: CancellationToken) {
    let origin = connection.origin();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        // Held until the body is sent, so that the connection is not evicted in between.
        let call = origin.standing.call();
        let response = router.clone().oneshot(request);
        async move {
            let response = response.await?;
            Ok::<_, Infallible>(response.map(|body| Held::new(body, call)))
        }
    });
    let serving = http1::Builder::new()
        // hyper has no clock of its own, and the time-out below needs one.
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(connection), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = closed.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error.message = %error, "HTTP connection failed");
    }
}
