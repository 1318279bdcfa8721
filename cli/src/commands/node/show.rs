//! `cortex node show`.

use crate::client::required;
use crate::commands::{Session, audit};
use crate::error::CliError;
use crate::words::{safe, time};
use crate::{render, view};
use clap::Args;
use cortex_model::NodeId;
use cortex_model::proto as pb;

/// Flags of `node show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cortex node show laptop-1")]
pub(crate) struct ShowArgs {
    /// The node's id
    node: String,
}

/// Prints one node.
pub(crate) async fn run(session: &Session, args: ShowArgs) -> Result<(), CliError> {
    let node = NodeId::parse(&args.node)?.to_string();
    let answer = session.connect().await?.get_node(pb::GetNodeRequest { node }).await?;
    let node = required(answer.node)?;
    if session.json() {
        return render::json(&view::Node::from(&node));
    }
    describe(&node).iter().try_for_each(|l| render::line(l))
}

fn describe(n: &pb::Node) -> Vec<String> {
    let m = n.manifest.clone().unwrap_or_default();
    let online = if n.online {
        format!("online through gateway {}", safe(&n.gateway))
    } else {
        format!("offline, last seen {}", time(n.last_seen_ms))
    };
    let mut out = vec![
        format!("node     {} ({online})", n.node),
        format!(
            "system   {}, {} {}, kernel {}",
            safe(&m.hostname),
            safe(&m.os),
            safe(&m.arch),
            safe(&m.kernel)
        ),
        format!("size     {} cpus, {} MiB of memory", m.cpus, m.memory_bytes / (1024 * 1024)),
        format!("slots    {} free of {}", n.slots_free, n.slots),
        format!("agent    {}, journal {}", safe(&n.agent_version), safe(&n.incarnation)),
    ];
    if let Some(r) = &n.registration {
        out.extend(registration(r));
    }
    if let Some(j) = &n.journal {
        out.push(format!("journal  {} entries, head {}", j.size, safe(&j.leaf)));
    }
    if let Some(a) = &n.audit {
        let why =
            if a.reason.is_empty() { String::new() } else { format!(": {}", safe(&a.reason)) };
        out.push(format!("audit    {}{why}", audit::standing(a.standing)));
        out.push(format!(
            "mirror   has {} records, countersigned {} of them at {}",
            a.stored,
            a.cosigned_size,
            time(a.cosigned_at_ms)
        ));
    }
    if let Some(e) = &m.unable {
        out.push(format!("UNABLE   takes no work: {} {}", safe(&e.code), safe(&e.message)));
        out.push(format!("         {}", safe(&e.hint)));
    }
    out.extend(narrowing(n.registration.as_ref(), m.narrowed.as_ref()));
    out.extend(m.labels.iter().map(|(k, v)| format!("label    {}={}", safe(k), safe(v))));
    out.extend(m.capabilities.iter().map(|c| {
        let text = format!("has      {} {} {}", safe(&c.name), safe(&c.version), safe(&c.path));
        text.trim_end().to_owned()
    }));
    out
}

/// What is taken away from what its owner allows, and what the node makes of it.
fn narrowing(r: Option<&pb::Registration>, held: Option<&pb::Narrowed>) -> Vec<String> {
    let mut out = Vec::new();
    let sent = r.and_then(|r| r.narrowing.as_ref());
    if let Some(sent) = sent {
        let by = sent.actor.as_ref().map_or(String::new(), |a| format!(" by {}", safe(&a.id)));
        let why = if sent.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", safe(&sent.reason))
        };
        let what = if sent.text.is_empty() { "no more" } else { "yes" };
        out.push(format!(
            "narrowed {what}, revision {}, since {}{by}{why}",
            sent.revision,
            time(sent.at_ms)
        ));
    }
    let Some(held) = held else {
        let open = sent.is_some_and(|sent| !sent.text.is_empty());
        out.extend(
            open.then(|| "         the node has not said yet that it holds to it".to_owned()),
        );
        return out;
    };
    if sent.is_some_and(|sent| sent.revision > held.revision) {
        out.push(format!("         the node still holds to revision {}", held.revision));
    }
    out.extend(held.applied.iter().map(|what| format!("         takes away: {}", safe(what))));
    out.extend(held.ignored.iter().map(|what| format!("         ignored: {}", safe(what))));
    out
}

fn registration(r: &pb::Registration) -> Vec<String> {
    let by = r.decided_by.as_ref().map_or(String::new(), |a| format!(" by {}", safe(&a.id)));
    let why = if r.reason.is_empty() { String::new() } else { format!(": {}", safe(&r.reason)) };
    let state = view::enrolment(r.state());
    let mut out = vec![
        format!("standing {state} since {}{by}{why}", time(r.decided_at_ms)),
        format!(
            "joined   {} from {} with token {}",
            time(r.enrolled_at_ms),
            safe(&r.address),
            safe(&r.token_id)
        ),
        format!("valid    certificate until {}", time(r.certificate_not_after_ms)),
    ];
    if r.clone_suspected_at_ms != 0 {
        let at = time(r.clone_suspected_at_ms);
        out.push(format!(
            "warning  its key was on two machines at {at}, it seems: quarantine or revoke it"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_described() {
        let n = pb::Node {
            node: "n1".into(),
            last_seen_ms: 1_700_000_000_000,
            slots: 4,
            slots_free: 3,
            agent_version: "0.1.0".into(),
            incarnation: "abc".into(),
            manifest: Some(pb::Manifest {
                hostname: "box".into(),
                os: "linux".into(),
                arch: "x86_64".into(),
                cpus: 2,
                memory_bytes: 8 << 30,
                kernel: "6.1".into(),
                capabilities: vec![pb::Capability { name: "shell".into(), ..Default::default() }],
                labels: [("rack".to_owned(), "b".to_owned())].into(),
                unable: Some(pb::Error {
                    code: "CX-1402".into(),
                    message: "the journal is damaged".into(),
                    hint: "recover it".into(),
                    ..pb::Error::default()
                }),
                narrowed: None,
            }),
            ..Default::default()
        };
        assert_eq!(
            describe(&n),
            [
                "node     n1 (offline, last seen 2023-11-14T22:13:20.000Z)",
                "system   box, linux x86_64, kernel 6.1",
                "size     2 cpus, 8192 MiB of memory",
                "slots    3 free of 4",
                "agent    0.1.0, journal abc",
                "UNABLE   takes no work: CX-1402 the journal is damaged",
                "         recover it",
                "label    rack=b",
                "has      shell",
            ]
        );
    }
}
