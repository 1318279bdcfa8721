//! What the server must be and how its streams must be set up. Decides on plain data, so that every
//! rule is in a table; asks and compares, and never changes a stream that exists.

use super::api::Api;
use crate::error::{LogError, Result};
use crate::key::{PARTITIONS, Space};
use crate::limits::COMMIT_MAX;
use serde_json::{Value, json};

/// Older servers ignore what fences need.
const OLDEST: [u64; 3] = [2, 10, 26];
/// Clusters before this one sync every message by itself.
const CLUSTER_ADVISED: [u64; 3] = [2, 15, 1];
/// The server counts headers as part of a message.
const HEADERS_MAX: usize = 16 * 1024;
/// Largest message of output, bytes.
pub(super) const OUTPUT_MESSAGE_MAX: usize = 160 * 1024;
/// Output is kept this long at most, nanoseconds: 7 days.
const OUTPUT_AGE: u64 = 7 * 24 * 3_600 * 1_000_000_000;

/// What to think of a server version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Warn(String),
    Refuse(String),
}

pub(super) fn judge_version(version: &str, clustered: bool) -> Verdict {
    let Some(number) = parse_version(version) else {
        return Verdict::Refuse(format!("the server's version {version:?} cannot be read"));
    };
    let [a, b, c] = OLDEST;
    if number < OLDEST {
        return Verdict::Refuse(format!(
            "nats-server {version} is too old: {a}.{b}.{c} is the oldest that keeps fences"
        ));
    }
    let [a, b, c] = CLUSTER_ADVISED;
    if clustered && number < CLUSTER_ADVISED {
        return Verdict::Warn(format!(
            "nats-server {version} is slow when it syncs always in a cluster: use {a}.{b}.{c}"
        ));
    }
    Verdict::Fine
}

/// A pre-release counts as older than its release.
fn parse_version(version: &str) -> Option<[u64; 3]> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let (plain, pre) = match version.split_once('-') {
        Some((plain, _)) => (plain, true),
        None => (version.split('+').next()?, false),
    };
    let mut parts = plain.split('.').map(str::parse);
    let (a, b, c) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if parts.next().is_some() {
        return None;
    }
    match (pre, a, b, c) {
        (false, a, b, c) => Some([a, b, c]),
        (true, a, b, 0) => Some([a, u64::checked_sub(b, 1)?, u64::MAX]),
        (true, a, b, c) => Some([a, b, c - 1]),
    }
}

/// Name of the stream that holds a shard.
pub(super) fn stream_name(space: Space, shard: u32) -> String {
    match space {
        Space::Task => format!("CX_T_{shard}"),
        Space::Audit => format!("CX_A_{shard}"),
        Space::Registry => "CX_R".into(),
    }
}

pub(super) fn output_stream(shard: u32) -> String {
    format!("CX_O_{shard}")
}

/// Settings that every stream of the log must have: what was asked is compared with what is.
pub(super) fn streams(shards: u32, replicas: usize) -> Vec<Value> {
    let mut out = Vec::new();
    for space in Space::ALL {
        for shard in 0..space.shards(shards) {
            out.push(commits(space, shard, shards, replicas));
        }
    }
    out.extend((0..shards).map(|shard| outputs(shard, shards, replicas)));
    out
}

fn subjects(letter: &str, shard: u32, shards: u32) -> Vec<String> {
    let partitions = (0..PARTITIONS).filter(|vp| vp % shards == shard);
    partitions.map(|vp| format!("cx.{letter}.{vp}.>")).collect()
}

fn commits(space: Space, shard: u32, shards: u32, replicas: usize) -> Value {
    let mut config = json!({
        "name": stream_name(space, shard),
        "subjects": subjects(space.letter(), shard, space.shards(shards)),
        "storage": "file", "num_replicas": replicas, "retention": "limits", "discard": "new",
        "max_msgs": -1, "max_msgs_per_subject": -1, "max_age": 0, "max_consumers": -1,
        "max_msg_size": COMMIT_MAX + HEADERS_MAX,
        "allow_direct": true, "allow_rollup_hdrs": true, "deny_delete": true,
        "deny_purge": false, "no_ack": false, "sealed": false, "duplicate_window": 100_000_000,
    });
    if space == Space::Task {
        config["republish"] = json!({"src": "cx.t.>", "dest": "cxr.t.>", "headers_only": true});
    }
    config
}

fn outputs(shard: u32, shards: u32, replicas: usize) -> Value {
    json!({
        "name": output_stream(shard), "subjects": subjects("o", shard, shards),
        "storage": "file", "num_replicas": replicas, "retention": "limits", "discard": "old",
        "max_msgs": -1, "max_msgs_per_subject": -1, "max_age": OUTPUT_AGE, "max_consumers": -1,
        "max_msg_size": OUTPUT_MESSAGE_MAX, "allow_direct": true, "deny_delete": true,
        "deny_purge": false, "no_ack": false, "sealed": false, "compression": "s2",
        "duplicate_window": 100_000_000,
        "republish": {"src": "cx.o.>", "dest": "cxr.o.>", "headers_only": true},
    })
}

/// The first setting that is not as asked, in words. A server that drops what it does not know
/// shows here, and so does a stream that somebody made by hand.
pub(super) fn difference(asked: &Value, found: &Value) -> Option<String> {
    let name = asked["name"].as_str().unwrap_or_default();
    let fields = asked.as_object()?;
    let wrong = fields.iter().find(|(field, wanted)| !same(wanted, &found[field.as_str()]));
    if let Some((field, wanted)) = wrong {
        let found = &found[field.as_str()];
        return Some(format!(
            "stream {name} is not safe to use: {field} should be {wanted} and is {found}"
        ));
    }
    let foreign = ["mirror", "sources", "subject_transform"];
    let foreign = foreign.into_iter().find(|field| !found[*field].is_null())?;
    Some(format!("stream {name} is not safe to use: {foreign} is set and must not be"))
}

/// Servers leave out what is off.
fn same(wanted: &Value, found: &Value) -> bool {
    let off = found.is_null() && (wanted == &json!(false) || wanted == &json!(0));
    let order_free = match (wanted.as_array(), found.as_array()) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().all(|x| b.contains(x)),
        _ => false,
    };
    off || order_free || wanted == found
}

/// Creates a stream if it is not there, and checks it in any case.
pub(super) async fn ensure(api: &Api, asked: &Value, max_bytes: Option<u64>) -> Result<()> {
    let name = asked["name"].as_str().unwrap_or_default();
    let info = match api.call(&format!("STREAM.INFO.{name}"), &json!({})).await {
        Err(e) if e.is_not_found() => {
            let mut config = asked.clone();
            config["max_bytes"] = json!(max_bytes.map_or(-1, |b| i64::try_from(b).unwrap_or(-1)));
            api.call(&format!("STREAM.CREATE.{name}"), &config).await
        }
        other => other,
    };
    let info = info.map_err(|e| e.about(name))?;
    difference(asked, &info["config"]).map_or(Ok(()), |words| Err(LogError::Refused(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged_by_a_table() {
        for (version, clustered, expected) in [
            ("2.15.1", true, "fine"),
            ("2.15.1", false, "fine"),
            ("2.15.0", true, "warn"),
            ("2.15.0", false, "fine"),
            ("2.14.6", true, "warn"),
            ("2.10.26", false, "fine"),
            ("2.10.26", true, "warn"),
            ("2.10.25", false, "refuse"),
            ("2.9.10", false, "refuse"),
            ("1.4.1", true, "refuse"),
            ("3.0.0", true, "fine"),
            ("v2.15.1", true, "fine"),
            ("2.15.1+build", true, "fine"),
            ("2.10.26-RC.1", false, "refuse"),
            ("2.16.0-preview.2", true, "fine"),
            ("2.11.0-dev", false, "fine"),
            ("", false, "refuse"),
            ("2.15", false, "refuse"),
            ("new", false, "refuse"),
        ] {
            let got = match judge_version(version, clustered) {
                Verdict::Fine => "fine",
                Verdict::Warn(_) => "warn",
                Verdict::Refuse(_) => "refuse",
            };
            assert_eq!(got, expected, "{version} {clustered}");
        }
    }

    #[test]
    fn every_unsafe_setting_is_named_with_what_was_asked_and_found() {
        for asked in streams(4, 3) {
            assert_eq!(difference(&asked, &asked), None);
            for (field, wanted) in asked.as_object().unwrap() {
                let mut found = asked.clone();
                found[field] = json!("something else");
                let words = difference(&asked, &found).unwrap();
                assert!(words.contains(field) && words.contains(&wanted.to_string()), "{words}");
                assert!(words.contains("something else"), "{words}");
            }
        }
    }

    #[test]
    fn settings_that_are_off_may_be_left_out_and_subjects_may_be_sorted() {
        let asked = streams(1, 1).remove(0);
        let mut found = asked.clone();
        found.as_object_mut().unwrap().retain(|k, _| k != "no_ack" && k != "sealed");
        found["subjects"].as_array_mut().unwrap().reverse();
        assert_eq!(difference(&asked, &found), None);
        found["mirror"] = json!({"name": "x"});
        assert!(difference(&asked, &found).unwrap().contains("mirror"));
    }

    #[test]
    fn every_partition_lies_in_one_stream() {
        for shards in [1, 4, 16] {
            let all = streams(shards, 1);
            let of = |letter: &str| {
                let prefix = format!("cx.{letter}.");
                let listed = all.iter().flat_map(|s| s["subjects"].as_array().unwrap().clone());
                let mut own: Vec<String> = listed
                    .filter_map(|s| s.as_str().filter(|s| s.starts_with(&prefix)).map(Into::into))
                    .collect();
                own.sort();
                own.dedup();
                own.len()
            };
            assert_eq!(["t", "a", "r", "o"].map(of), [64; 4]);
            assert_eq!(all.len(), 3 * shards as usize + 1);
        }
    }
}
