//! Three servers on loopback under one name, ended and started again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use observatory_proto::inference::v1 as pb;
use pb::models_service_client::ModelsServiceClient;
use pb::models_service_server::{ModelsService, ModelsServiceServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::*;
use crate::{BalancedConnection, Credentials};

/// Counts its calls.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU32>);

#[tonic::async_trait]
impl ModelsService for Counting {
    async fn list_models(
        &self,
        _: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(pb::ListModelsResponse::default()))
    }

    async fn get_model(
        &self,
        _: Request<pb::GetModelRequest>,
    ) -> Result<Response<pb::GetModelResponse>, Status> {
        Err(Status::unavailable("it stops"))
    }

    async fn load_model(
        &self,
        _: Request<pb::LoadModelRequest>,
    ) -> Result<Response<Self::LoadModelStream>, Status> {
        Err(Status::unimplemented("not of this test"))
    }

    type LoadModelStream = tokio_stream::Empty<Result<pb::LoadModelResponse, Status>>;

    async fn unload_model(
        &self,
        _: Request<pb::UnloadModelRequest>,
    ) -> Result<Response<pb::UnloadModelResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
}

struct Running {
    address: SocketAddr,
    counting: Counting,
    health: HealthReporter,
    closed: CancellationToken,
}

impl Running {
    async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (counting, closed) = (Counting::default(), CancellationToken::new());
        let (health, service) = tonic_health::server::health_reporter();
        health.set_service_status(READY, ServingStatus::Serving).await;
        let running = Self { address: listener.local_addr().unwrap(), counting, health, closed };
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .add_service(ModelsServiceServer::new(running.counting.clone()))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                running.closed.clone().cancelled_owned(),
            );
        tokio::spawn(server);
        running
    }

    fn calls(&self) -> u32 {
        self.counting.0.swap(0, Ordering::Relaxed)
    }

    /// As a server of ours ends: it says so, serves on, and closes.
    async fn end(self) -> SocketAddr {
        self.health.set_service_status(READY, ServingStatus::NotServing).await;
        self.address
    }
}

type Name = Arc<Mutex<Vec<SocketAddr>>>;

fn connect(name: &Name) -> BalancedConnection {
    let name = Arc::clone(name);
    let server = Credentials::default().server("http://inference.example:7").unwrap();
    server.connect_balanced_by(move || {
        let found = name.lock().unwrap().clone();
        Box::pin(async move { Ok(found) })
    })
}

async fn call(connection: &BalancedConnection, times: u32) {
    for _ in 0..times {
        let mut client = ModelsServiceClient::new(connection.clone());
        client.list_models(pb::ListModelsRequest::default()).await.unwrap();
    }
}

/// Calls until a server gets some, or for half a minute.
async fn until_called(connection: &BalancedConnection, running: &Running) {
    let began = Instant::now();
    while running.calls() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} gets no call", running.address);
        call(connection, 3).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Counts from zero again.
fn forget(servers: &[&Running]) {
    for server in servers {
        server.calls();
    }
}

#[track_caller]
fn even(servers: &[&Running]) {
    let calls: Vec<u32> = servers.iter().map(|server| server.calls()).collect();
    assert!(calls.iter().all(|calls| (85..=115).contains(calls)), "{calls:?}");
}

#[tokio::test]
async fn calls_spread_over_the_addresses_of_a_name_and_follow_their_servers() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (one, two, three) = (Running::start(any).await, Running::start(any).await, Running::start(any).await);
    let name: Name = Arc::new(Mutex::new([&one, &two, &three].map(|server| server.address).into()));
    let connection = connect(&name);
    call(&connection, 300).await;
    even(&[&one, &two, &three]);

    // One ends in good order while calls go on: none of them is lost.
    let closed = one.closed.clone();
    let address = one.end().await;
    let closing = tokio::spawn(async move {
        tokio::time::sleep(CHECK * 2).await;
        closed.cancel();
    });
    while !closing.is_finished() {
        call(&connection, 1).await;
    }
    call(&connection, 20).await;
    let one = Running::start(address).await;
    until_called(&connection, &one).await;
    forget(&[&one, &two, &three]);
    call(&connection, 300).await;
    even(&[&one, &two, &three]);

    // The name points elsewhere.
    let four = Running::start(any).await;
    *name.lock().unwrap() = [&two, &three, &four].map(|server| server.address).into();
    until_called(&connection, &four).await;
    forget(&[&one, &two, &three, &four]);
    call(&connection, 300).await;
    even(&[&two, &three, &four]);
    assert_eq!(one.calls(), 0);
}

#[tokio::test]
async fn a_server_that_refuses_or_is_away_gets_no_more_until_it_serves() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let nobody = TcpListener::bind(any).await.unwrap().local_addr().unwrap();
    let one = Running::start(any).await;
    // Before the first call it is known who answers.
    let connection = connect(&Arc::new(Mutex::new(vec![nobody, one.address])));
    call(&connection, 30).await;
    assert_eq!(one.calls(), 30);

    // Alone, it is asked whatever it said before: its own error says most.
    let mut client = ModelsServiceClient::new(connect(&Arc::new(Mutex::new(vec![one.address]))));
    for _ in 0..2 {
        let refused = client.get_model(pb::GetModelRequest::default()).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "it stops"));
    }
    let mut client = ModelsServiceClient::new(connect(&Arc::new(Mutex::new(vec![nobody]))));
    let refused = client.list_models(pb::ListModelsRequest::default()).await.unwrap_err();
    assert!(format!("{refused:?}").contains("refused"), "{refused:?}");
    let mut client = ModelsServiceClient::new(connect(&Name::default()));
    let refused = client.list_models(pb::ListModelsRequest::default()).await.unwrap_err();
    assert!(format!("{refused:?}").contains("no address"), "{refused:?}");
}
