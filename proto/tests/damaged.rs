//! Messages that are damaged in ways nobody thought of: read or refused, never a panic, and what is
//! read is written again.

use observatory_proto::{inference::v1 as inference, pipeline::v1 as pipeline};
use prost::Message;

fn check<M: Message + Default>(name: &str, message: &M) {
    observatory_mutator::bytes(name, &[message.encode_to_vec()], |bytes| {
        if let Ok(read) = M::decode(bytes) {
            let written = read.encode_to_vec();
            assert!(written.len() <= 4 * bytes.len() + 64, "{} bytes of {}", written.len(), bytes.len());
            // Numbers that are none differ from themselves; what is written is compared.
            let again = M::decode(&*written).expect("what was written");
            assert_eq!(again.encode_to_vec(), written);
        }
    });
}

#[test]
fn messages_of_callers() {
    let texts = vec!["Panadero con experiencia en masa madre".to_owned(), "ñandú 🧑‍🍳".to_owned()];
    let settings =
        inference::EmbedSettings { dimensions: Some(64), normalize: Some(true), ..Default::default() };
    check("embed", &inference::EmbedRequest { settings: Some(settings), texts });
    let options = pipeline::RunOptions {
        portals: vec!["elempleo".to_owned()],
        countries: vec!["CO".to_owned(), "MX".to_owned()],
        since_seconds: 86_400,
        limit: 500,
        stages: vec!["extract".to_owned()],
    };
    check("run", &pipeline::StartRunRequest { options: Some(options) });
    let line = pipeline::ImportPostingsRequest {
        posting_json: r#"{"title": "Panadero"}"#.to_owned(),
        file: "avisos.csv".to_owned(),
        line: 17,
        dry_run: true,
    };
    check("import", &line);
}
