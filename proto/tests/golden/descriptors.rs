//! The list of everything in the contract that has a name and a number: it may only grow. And each
//! of them says what it is for.

use crate::{blessing, folder};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};
use std::collections::BTreeSet;

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(cortex_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let ours: Vec<_> = set.file.into_iter().filter(|f| f.package() == "cortex.v1").collect();
    assert!(ours.len() >= 5);
    ours
}

/// One line for each field, enum value and call of the contract.
fn lines(files: &[FileDescriptorProto]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in files {
        file.message_type.iter().for_each(|m| message("", m, &mut lines));
        file.enum_type.iter().for_each(|e| enumeration("", e, &mut lines));
        file.service.iter().for_each(|s| service(s, &mut lines));
    }
    lines
}

fn message(within: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let path = format!("{within}{}", message.name());
    for field in &message.field {
        let label = match field.oneof_index {
            Some(at) => {
                let oneof = usize::try_from(at).ok().and_then(|at| message.oneof_decl.get(at));
                format!("oneof {}", oneof.expect("a oneof of this message").name())
            }
            None if field.label() == Label::Repeated => "repeated".to_owned(),
            None => "single".to_owned(),
        };
        let (name, number) = (field.name(), field.number());
        lines.insert(format!("{path}.{name} = {number} {} {label}", type_name(field)));
    }
    let within = format!("{path}.");
    message.nested_type.iter().for_each(|m| self::message(&within, m, lines));
    message.enum_type.iter().for_each(|e| enumeration(&within, e, lines));
}

fn type_name(field: &FieldDescriptorProto) -> String {
    if matches!(field.r#type(), Type::Message | Type::Enum) {
        return field.type_name().trim_start_matches(".cortex.v1.").to_owned();
    }
    field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase()
}

fn enumeration(within: &str, e: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &e.value {
        lines.insert(format!("{within}{}.{} = {}", e.name(), value.name(), value.number()));
    }
}

fn service(service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    let stream = |is: bool| if is { "stream " } else { "" };
    for call in &service.method {
        lines.insert(format!(
            "{}.{}({}{}) returns ({}{})",
            service.name(),
            call.name(),
            stream(call.client_streaming()),
            call.input_type().trim_start_matches(".cortex.v1."),
            stream(call.server_streaming()),
            call.output_type().trim_start_matches(".cortex.v1."),
        ));
    }
}

/// What the list has and the contract has not, and the other way round.
fn differences(listed: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    let lost = listed.difference(now).map(|l| format!("changed or vanished: {l}"));
    let new = now.difference(listed).map(|l| format!("not in fields.txt yet: {l}"));
    lost.chain(new).collect()
}

#[test]
fn fields_are_only_ever_added() {
    let path = folder().join("fields.txt");
    let now = lines(&files());
    let read = std::fs::read_to_string(&path).unwrap_or_default();
    let mut listed: BTreeSet<_> = read.lines().map(str::to_owned).collect();
    if blessing() {
        listed.extend(now.iter().cloned());
        let text: String = listed.iter().map(|l| format!("{l}\n")).collect();
        std::fs::write(&path, text).unwrap();
    }
    let found = differences(&listed, &now);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_renumbered_field_and_a_new_one_are_noticed() {
    let mut files = files();
    let before = lines(&files);
    let messages = files.iter_mut().flat_map(|f| &mut f.message_type);
    let first = messages.flat_map(|m| &mut m.field).next().unwrap();
    first.number = Some(first.number() + 1000);
    assert_eq!(differences(&before, &lines(&files)).len(), 2, "one line lost, one new");
    assert!(differences(&before, &before).is_empty());
}

#[test]
fn everything_in_the_contract_is_documented() {
    let mut missing = Vec::new();
    for file in files() {
        let info = file.source_code_info.as_ref().unwrap();
        let documented: BTreeSet<_> = info
            .location
            .iter()
            .filter(|l| !l.leading_comments().trim().is_empty())
            .map(|l| l.path.clone())
            .collect();
        let mut ask = |path: &[i32], name: String| {
            if !documented.contains(path) {
                missing.push(format!("{}: {name}", file.name()));
            }
        };
        // The numbers are those of FileDescriptorProto's own fields: 4 messages, 5 enums, 6 services.
        for (m, message) in (0..).zip(&file.message_type) {
            ask(&[4, m], message.name().to_owned());
            // A variant of a oneof is documented by the message that it names.
            let fields = (0..).zip(&message.field).filter(|(_, f)| f.oneof_index.is_none());
            for (f, field) in fields {
                ask(&[4, m, 2, f], format!("{}.{}", message.name(), field.name()));
            }
        }
        for (e, enumeration) in (0..).zip(&file.enum_type) {
            ask(&[5, e], enumeration.name().to_owned());
            for (v, value) in (0..).zip(&enumeration.value).filter(|(_, v)| v.number() != 0) {
                ask(&[5, e, 2, v], value.name().to_owned());
            }
        }
        for (s, service) in (0..).zip(&file.service) {
            ask(&[6, s], service.name().to_owned());
            for (c, call) in (0..).zip(&service.method) {
                ask(&[6, s, 2, c], format!("{}.{}", service.name(), call.name()));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}
