//! Everything published keeps its meaning on the wire, as `buf breaking` checks by its WIRE rules.
//!
//! `published.txt` has a line for every field, enum value and method. A line may be added and never
//! changed or taken away: clients that were built with it are out there.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};

fn message_lines(prefix: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{prefix}.{}", message.name());
    for field in &message.field {
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        let kind = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
            kind => format!("{kind:?}").to_lowercase(),
        };
        lines.insert(format!("{name} {} = {} {repeated}{kind}", field.name(), field.number()));
    }
    message.nested_type.iter().for_each(|nested| message_lines(&name, nested, lines));
    message.enum_type.iter().for_each(|nested| enum_lines(&name, nested, lines));
}

fn enum_lines(prefix: &str, kind: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    let value = |value: &prost_types::EnumValueDescriptorProto| {
        format!("{prefix}.{} {} = {}", kind.name(), value.name(), value.number())
    };
    lines.extend(kind.value.iter().map(value));
}

fn service_lines(prefix: &str, service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    for method in &service.method {
        let side = |stream: bool, name: &str| {
            let name = name.trim_start_matches('.');
            if stream { format!("stream {name}") } else { name.to_owned() }
        };
        lines.insert(format!(
            "{prefix}.{}/{} ({}) -> ({})",
            service.name(),
            method.name(),
            side(method.client_streaming(), method.input_type()),
            side(method.server_streaming(), method.output_type()),
        ));
    }
}

fn contract() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(observatory_proto::FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("observatory.")) {
        let package = file.package();
        file.message_type.iter().for_each(|message| message_lines(package, message, &mut lines));
        file.enum_type.iter().for_each(|kind| enum_lines(package, kind, &mut lines));
        file.service.iter().for_each(|service| service_lines(package, service, &mut lines));
    }
    lines
}

fn published() -> BTreeSet<String> {
    include_str!("../published.txt").lines().map(str::to_owned).collect()
}

#[test]
fn nothing_published_is_changed_or_gone() {
    let (contract, published) = (contract(), published());
    let gone: Vec<&String> = published.difference(&contract).collect();
    assert!(gone.is_empty(), "changed or gone, which breaks clients:\n{gone:#?}");
}

#[test]
fn everything_is_published() {
    let (contract, published) = (contract(), published());
    let new: Vec<&str> = contract.difference(&published).map(String::as_str).collect();
    assert!(new.is_empty(), "add to proto/published.txt, sorted:\n{}", new.join("\n"));
}
