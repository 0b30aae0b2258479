//! The tower layer that authenticates and authorises every call.
//!
//! A client comes from the clients file, by bearer token or certificate; methods that change the
//! models need the admin scope.

use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::status;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::service::access::{Access, Client};
use crate::service::call::CallContext;

/// Service that is open to everybody and counts as no work: probes cannot always be given a token.
const OPEN: &str = "/grpc.health.v1.Health/";
/// Methods that need the admin scope.
const ADMIN: [&str; 2] = [
    "/observatory.inference.v1.ModelsService/LoadModel",
    "/observatory.inference.v1.ModelsService/UnloadModel",
];

/// Returns true if the method of this path takes no credentials.
pub(super) fn is_open(path: &str) -> bool {
    path.starts_with(OPEN)
}

/// Makes [`Guard`].
#[derive(Debug, Clone)]
pub(crate) struct AccessLayer {
    access: Access,
    metrics: Arc<Metrics>,
}

impl AccessLayer {
    /// Authenticates against `access` and counts calls into `metrics`.
    pub(super) fn new(access: Access, metrics: Arc<Metrics>) -> Self {
        Self { access, metrics }
    }

    /// The client; `None` for methods that are open to everybody.
    fn admit(&self, request: &Request<Body>) -> Result<Option<Arc<Client>>, Error> {
        let path = request.uri().path();
        if is_open(path) {
            return Ok(None);
        }
        let client = self.access.caller(request)?;
        // After authentication: a stranger learns nothing about which methods exist.
        if ADMIN.contains(&path) && !client.grants.admin {
            return Err(Error::PermissionDenied { client: client.name.clone() });
        }
        Ok(Some(client))
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, layer: self.clone() }
    }
}

/// The guarded service.
#[derive(Debug, Clone)]
pub(crate) struct Guard<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.layer.admit(&request) {
            Ok(client) => {
                if let Some(client) = client {
                    // Before the call runs: one that hangs or fails counts as well.
                    self.layer.metrics.called(&client.name);
                    if let Some(context) = request.extensions().get::<CallContext>() {
                        context.record_client(client);
                    }
                }
                Box::pin(self.inner.call(request))
            }
            Err(error) => {
                // No service sees this call, so its refusal is counted here.
                self.layer.metrics.refused(error.reason());
                let response = status::to_status(&error).into_http();
                Box::pin(async move { Ok(response) })
            }
        }
    }
}
