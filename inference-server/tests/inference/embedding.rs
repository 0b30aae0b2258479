//! What the settings of an embedding change: encoding, length, prompt.

use observatory_proto::inference::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Gate, Running, request};

async fn running() -> Running {
    let gate = Gate::closed();
    gate.open();
    Running::with_gate(&gate, &[]).await
}

async fn embed(
    running: &Running,
    settings: pb::EmbedSettings,
    texts: &[&str],
) -> Result<pb::EmbedResponse, Status> {
    let asked = pb::EmbedRequest { settings: Some(settings), ..request(texts) };
    running.embedding().embed(asked).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn encodings_and_lengths() {
    let running = running().await;
    let check = async |settings: pb::EmbedSettings, dimensions: u32, expected: &[u8], scales: &[f32]| {
        let answer = embed(&running, settings, &["a b", " ", "a"]).await.unwrap();
        assert_eq!(answer.dimensions, dimensions);
        assert_eq!((answer.vectors.as_slice(), answer.scales.as_slice()), (expected, scales));
        assert_eq!(answer.items.iter().map(|item| item.ok).collect::<Vec<_>>(), [true, false, true]);
    };
    let settings = |encoding: pb::VectorEncoding, dimensions: Option<u32>| pb::EmbedSettings {
        encoding: encoding.into(),
        dimensions,
        ..Default::default()
    };
    // The vectors are (4, 3), none, and (3, 3).
    use pb::VectorEncoding::{Bf16, Binary, F16, F32, Int8};
    check(settings(F32, Some(1)), 1, &[0, 0, 0x80, 0x40, 0, 0, 0, 0, 0, 0, 0x40, 0x40], &[]).await;
    check(settings(F16, None), 2, &[0, 0x44, 0, 0x42, 0, 0, 0, 0, 0, 0x42, 0, 0x42], &[]).await;
    check(settings(Bf16, Some(2)), 2, &[0x80, 0x40, 0x40, 0x40, 0, 0, 0, 0, 0x40, 0x40, 0x40, 0x40], &[])
        .await;
    check(settings(Int8, None), 2, &[127, 95, 0, 0, 127, 127], &[4.0 / 127.0, 0.0, 3.0 / 127.0]).await;
    check(settings(Binary, None), 2, &[0b1100_0000, 0, 0b1100_0000], &[]).await;
    let unit = pb::EmbedSettings { normalize: Some(true), ..settings(F32, Some(1)) };
    check(unit, 1, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0, 0, 0, 0x80, 0x3f], &[]).await;
}

#[tokio::test]
async fn a_prompt_of_the_callers_own() {
    let running = running().await;
    let first = async |prompt: Option<&str>| {
        let settings = pb::EmbedSettings {
            prompt: prompt.map(str::to_owned),
            encoding: pb::VectorEncoding::Int8.into(),
            ..Default::default()
        };
        let answer = embed(&running, settings, &["a"]).await.unwrap();
        (answer.items[0].tokens, answer.scales[0] * 127.0)
    };
    assert_eq!(first(None).await, (3, 3.0));
    assert_eq!(first(Some("")).await, (3, 3.0));
    assert_eq!(first(Some("d c ")).await, (5, 6.0));
}

#[tokio::test]
async fn wrong_settings_name_their_field() {
    let running = running().await;
    let check = async |settings: pb::EmbedSettings, reason: &str, field: &str, part: &str| {
        let status = embed(&running, settings, &["a"]).await.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(details.error_info().unwrap().reason, reason);
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
        assert!(status.message().contains(part), "{}", status.message());
    };
    let settings = pb::EmbedSettings::default;
    let shorter = pb::EmbedSettings { dimensions: Some(0), ..settings() };
    check(shorter, "INVALID_VALUE", "settings.dimensions", "expected 1, 2").await;
    let longer = pb::EmbedSettings { dimensions: Some(3), ..settings() };
    check(longer, "INVALID_VALUE", "settings.dimensions", "invalid settings.dimensions `3`").await;
    let encoding = pb::EmbedSettings { encoding: 9, ..settings() };
    check(encoding, "INVALID_VALUE", "settings.encoding", "invalid settings.encoding `9`").await;
    let both =
        pb::EmbedSettings { prompt: Some("d ".to_owned()), prompt_name: "query".to_owned(), ..settings() };
    check(both, "INVALID_VALUE", "settings.prompt", "together with settings.prompt_name").await;
    let long = pb::EmbedSettings { prompt: Some("d".repeat(4_097)), ..settings() };
    check(long, "INPUT_TOO_LARGE", "settings.prompt", "at most 4096").await;
}
