//! What the settings of a classification change: units of positions, labels, tokens.

use observatory_proto::inference::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::Running;

/// Letters of one, two and four bytes.
const TEXT: &str = "Diseño 🙂 de programación en Python, soldadura y más";

async fn ask(running: &Running, settings: pb::ClassifySettings) -> Result<pb::ClassifiedText, Status> {
    let request = pb::ClassifyRequest { settings: Some(settings), texts: vec![TEXT.to_owned()] };
    let answer = running.classification().classify(request).await?.into_inner();
    Ok(answer.texts[0].clone())
}

#[tokio::test]
async fn every_unit_points_at_the_same_text() {
    let running = Running::with_fixtures(&["golden/xlmr-ner"], &[]).await;
    let settings = |unit: pb::OffsetUnit| pb::ClassifySettings {
        offset_unit: unit.into(),
        aggregation: pb::Aggregation::None.into(),
        return_tokens: true,
        ..Default::default()
    };
    let utf16: Vec<u16> = TEXT.encode_utf16().collect();
    let chars: Vec<char> = TEXT.chars().collect();
    let check = async |unit: pb::OffsetUnit, cut: &dyn Fn(usize, usize) -> String| {
        let found = ask(&running, settings(unit)).await.unwrap();
        assert!(found.entities.len() > 5, "{found:?}");
        for entity in &found.entities {
            assert_eq!(cut(entity.start as usize, entity.end as usize), entity.text, "{unit:?}");
        }
        let tokens = found.tokens.iter().map(|token| cut(token.start as usize, token.end as usize));
        tokens.collect::<Vec<String>>()
    };
    let of_chars = |start: usize, end: usize| chars[start..end].iter().collect();
    let default = check(pb::OffsetUnit::Unspecified, &of_chars).await;
    assert!(default.len() > 8 && default.concat().contains("programación"), "{default:?}");
    assert_eq!(check(pb::OffsetUnit::CodePoint, &of_chars).await, default);
    assert_eq!(check(pb::OffsetUnit::Byte, &|start, end| TEXT[start..end].to_owned()).await, default);
    let of_utf16 = |start: usize, end: usize| String::from_utf16(&utf16[start..end]).unwrap();
    assert_eq!(check(pb::OffsetUnit::Utf16, &of_utf16).await, default);
}

#[tokio::test]
async fn tokens_are_what_entities_are_made_of() {
    let running = Running::with_fixtures(&["golden/xlmr-ner"], &[]).await;
    let settings = pb::ClassifySettings { aggregation: pb::Aggregation::None.into(), ..Default::default() };
    let without = ask(&running, settings.clone()).await.unwrap();
    assert!(without.tokens.is_empty());
    let with = ask(&running, pb::ClassifySettings { return_tokens: true, ..settings }).await.unwrap();
    assert_eq!(with.entities, without.entities);
    let labelled: Vec<(&str, f32, u32, u32)> = with
        .tokens
        .iter()
        .filter(|token| token.label != "O")
        .map(|token| (token.label.as_str(), token.score, token.start, token.end))
        .collect();
    let entities: Vec<(&str, f32, u32, u32)> =
        with.entities.iter().map(|e| (e.label.as_str(), e.score, e.start, e.end)).collect();
    assert_eq!(labelled, entities);
    assert_eq!(with.tokens.len(), with.status.unwrap().tokens as usize);
}

#[tokio::test]
async fn only_the_labels_asked_for_are_answered() {
    let running = Running::with_fixtures(&["golden/xlmr-ner"], &[]).await;
    for aggregation in [pb::Aggregation::None, pb::Aggregation::Simple] {
        let settings = |labels: &[&str]| pb::ClassifySettings {
            aggregation: aggregation.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            ..Default::default()
        };
        let all = ask(&running, settings(&[])).await.unwrap().entities;
        let mut known: Vec<&str> = all.iter().map(|e| e.label.rsplit('-').next().unwrap()).collect();
        known.sort_unstable();
        known.dedup();
        let one = ask(&running, settings(&known[..1])).await.unwrap().entities;
        let expected: Vec<pb::Entity> =
            all.iter().filter(|entity| entity.label.ends_with(known[0])).cloned().collect();
        assert_eq!(one, expected);
        assert_eq!(ask(&running, settings(&known)).await.unwrap().entities, all);
        let status = ask(&running, settings(&[known[0], "Nothing"])).await.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "settings.labels[1]");
    }
    let wrong = ask(&running, pb::ClassifySettings { offset_unit: 9, ..Default::default() }).await;
    assert!(wrong.unwrap_err().message().starts_with("invalid settings.offset_unit `9`"));
}
