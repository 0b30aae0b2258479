//! Models that come and go while the server runs.

use std::time::Duration;

use observatory_inference::Server;
use observatory_proto::inference::v1 as pb;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Gate, Running, as_admin, config, reference, request, store};

const FIRST: &str = "golden/bert";
const SECOND: &str = "golden/tiny-e5";

async fn serving(flags: &[&str], change: impl FnOnce(&mut observatory_inference::config::Config)) -> Running {
    let store = store(&[FIRST, SECOND]);
    let mut config = config(store.path(), flags);
    change(&mut config);
    let server = Server::bind(&config).await.unwrap();
    let running = Running::start(server, Some(store)).await;
    running.loaded().await;
    running
}

async fn load(running: &Running, name: &str) -> Result<Vec<pb::LoadModelResponse>, tonic::Status> {
    let request = pb::LoadModelRequest { name: name.to_owned() };
    let mut stream = running.models().load_model(as_admin(request)).await?.into_inner();
    let mut told = Vec::new();
    while let Some(message) = stream.message().await? {
        told.push(message);
    }
    Ok(told)
}

async fn unload(running: &Running, name: &str) -> Result<pb::Model, tonic::Status> {
    let request = pb::UnloadModelRequest { name: name.to_owned() };
    Ok(running.models().unload_model(as_admin(request)).await?.into_inner().model.unwrap())
}

async fn embed(running: &Running, name: &str) -> Result<pb::EmbedResponse, tonic::Status> {
    let mut asked = request(&["a"]);
    asked.settings = Some(pb::EmbedSettings { model: reference(name), ..pb::EmbedSettings::default() });
    running.embedding().embed(asked).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_model_is_loaded_used_and_unloaded() {
    let running = serving(&["--model", FIRST], |_| {}).await;
    assert_eq!(embed(&running, SECOND).await.unwrap_err().code(), Code::NotFound);
    let told = load(&running, SECOND).await.unwrap();
    let last = told.last().unwrap();
    assert_eq!(last.model.as_ref().unwrap().state(), pb::ModelState::Ready);
    assert!(last.total_bytes > 0 && last.loaded_bytes == last.total_bytes);
    let progress: Vec<u64> = told.iter().map(|message| message.loaded_bytes).collect();
    assert!(progress.is_sorted(), "{progress:?}");
    let first = embed(&running, SECOND).await.unwrap().vectors;
    assert_eq!(load(&running, SECOND).await.unwrap().len(), 1, "it answers already");

    assert_eq!(unload(&running, SECOND).await.unwrap().state(), pb::ModelState::Unloaded);
    let refused = embed(&running, SECOND).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "MODEL_UNLOADED");
    assert!(embed(&running, FIRST).await.is_ok(), "the other one goes on");
    load(&running, SECOND).await.unwrap();
    assert_eq!(embed(&running, SECOND).await.unwrap().vectors, first);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let running = serving(&["--model", FIRST], |_| {}).await;
    for name in ["no/such", "../golden/bert", "golden", ""] {
        assert_eq!(load(&running, name).await.unwrap_err().code(), Code::NotFound, "{name}");
        assert_eq!(unload(&running, name).await.unwrap_err().code(), Code::NotFound, "{name}");
        let get = pb::GetModelRequest { name: name.to_owned() };
        assert_eq!(running.models().get_model(get).await.unwrap_err().code(), Code::NotFound, "{name}");
    }
    let get = pb::GetModelRequest { name: FIRST.to_owned() };
    let model = running.models().get_model(get).await.unwrap().into_inner().model.unwrap();
    assert_eq!((model.name.as_str(), model.state()), (FIRST, pb::ModelState::Ready));
}

#[tokio::test]
async fn weights_stay_within_their_room() {
    // Room for the larger of the two, and not for both.
    let mut room = 0;
    let running = serving(&[], |_| {}).await;
    for model in
        running.models().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner().models
    {
        room = room.max(model.weight_bytes + 8_192);
    }
    let running = serving(&["--model", FIRST], |config| config.plan.weight_bytes = room).await;
    let refused = load(&running, SECOND).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("--max-weight-mib"), "{}", refused.message());
    unload(&running, FIRST).await.unwrap();
    load(&running, SECOND).await.unwrap();
    assert!(embed(&running, SECOND).await.is_ok());
}

#[tokio::test]
async fn unloading_waits_for_what_is_in_flight() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &[]).await;
    let working = tokio::spawn({
        let mut client = running.embedding();
        async move { client.embed(request(&["a b"])).await }
    });
    gate.entered().await;
    let mut hurried = as_admin(pb::UnloadModelRequest { name: "test/gated".to_owned() });
    hurried.set_timeout(Duration::from_millis(200));
    let late = running.models().unload_model(hurried).await.unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late}");
    assert_eq!(embed(&running, "test/gated").await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(running.embed(&["a"]).await.unwrap_err().code(), Code::NotFound, "there is no other");
    gate.open();
    assert!(working.await.unwrap().is_ok(), "what was in flight is finished");
}
