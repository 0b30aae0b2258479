//! Health checks of the services through `grpc.health.v1`.
//!
//! Tells a service that is not ready from one that does not respond: only the latter is restarted.

use std::net::SocketAddr;
use std::time::Duration;

use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Service name under which a server reports whether its models and dependencies are available.
pub(crate) const READY: &str = "ready";

/// Health of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// It works, and so do its dependencies.
    Serving,
    /// It responds but is not ready; with the reason, if known.
    NotReady(String),
    /// It does not respond.
    Silent(String),
}

/// Checks the process as a whole (`""`) and `ready`, within `limit` in total. A service that does
/// not know `ready` is judged by the first alone.
pub(crate) async fn check(address: SocketAddr, limit: Duration) -> Health {
    // Around all calls: the limits of connecting and of two checks would add up.
    match tokio::time::timeout(limit, ask(address, limit)).await {
        Ok(health) => health,
        Err(_) => Health::Silent(format!("no response within {} ms", limit.as_millis())),
    }
}

async fn ask(address: SocketAddr, limit: Duration) -> Health {
    let endpoint = match Endpoint::try_from(format!("http://{address}")) {
        Ok(endpoint) => endpoint.connect_timeout(limit).timeout(limit),
        Err(error) => return Health::Silent(error.to_string()),
    };
    let mut client = match endpoint.connect().await {
        Ok(channel) => HealthClient::new(channel),
        Err(error) => return Health::Silent(innermost(&error)),
    };
    // The process first: one that does not serve at all has nothing to say about dependencies.
    for service in ["", READY] {
        let request = HealthCheckRequest { service: service.to_owned() };
        match client.check(request).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => {}
            Ok(_) if service.is_empty() => return Health::NotReady("the process is not serving".into()),
            Ok(_) => return Health::NotReady("a dependency is not ready".into()),
            Err(status) if status.code() == Code::NotFound && !service.is_empty() => {}
            Err(status) => return Health::Silent(status.message().to_owned()),
        }
    }
    Health::Serving
}

/// Returns the innermost cause, since the transport itself says only "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::ports;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;

    async fn check_services(services: &[(&'static str, tonic_health::ServingStatus)], expected: &str) {
        let (reporter, server) = tonic_health::server::health_reporter();
        for (service, status) in services {
            reporter.set_service_status(*service, *status).await;
        }
        let listener = TcpListener::bind(ports::loopback(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        assert_eq!(format!("{:?}", check(address, Duration::from_secs(5)).await), expected);
        serving.abort();
    }

    #[tokio::test]
    async fn services_are_judged() {
        use tonic_health::ServingStatus::{NotServing, Serving};
        check_services(&[], "Serving").await;
        check_services(&[("ready", Serving)], "Serving").await;
        check_services(&[("ready", NotServing)], "NotReady(\"a dependency is not ready\")").await;
        check_services(&[("", NotServing)], "NotReady(\"the process is not serving\")").await;
    }

    #[tokio::test]
    async fn nobody_there() {
        let port = ports::choose(None).unwrap();
        let health = check(ports::loopback(port), Duration::from_secs(5)).await;
        assert!(matches!(&health, Health::Silent(why) if why.contains("refused")), "{health:?}");
    }

    #[tokio::test]
    async fn a_listener_that_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind(ports::loopback(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(matches!(check(address, Duration::from_millis(100)).await, Health::Silent(_)));
    }
}
