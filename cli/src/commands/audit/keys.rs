//! `cortex audit keys`: a policy as the server would have it. An auditor compares it with keys from elsewhere before it is used.

use crate::commands::Session;
use crate::error::CliError;
use crate::render;
use cortex_model::proto as pb;
use serde::Serialize;

#[derive(Serialize)]
struct Keys {
    journals: Vec<String>,
    mirrors: Vec<String>,
}

/// Prints the keys.
pub(crate) async fn run(session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let logs = client.list_audit_logs(pb::ListAuditLogsRequest { node: String::new() }).await?.logs;
    let mirrors = client.list_mirror_keys(pb::ListMirrorKeysRequest {}).await?.vkeys;
    if session.json() {
        let journals = logs.into_iter().map(|log| log.vkey).collect();
        return render::json(&Keys { journals, mirrors });
    }
    render::line(
        "# What this server says. Keep it as your policy only once you have compared the keys with what you know",
    )?;
    render::line(
        "# from elsewhere: the node's own 'cortex-agent journal keys', the mirror's mirror.vkey.",
    )?;
    render::line(policy(&logs, &mirrors).trim_end())
}

/// A C2SP tlog-policy that believes these journals when one of these mirrors has cosigned.
pub(crate) fn policy(logs: &[pb::AuditLog], mirrors: &[String]) -> String {
    let mut text = String::new();
    for log in logs {
        text.push_str(&format!("log {}\n", log.vkey));
    }
    let names: Vec<String> = (1..=mirrors.len()).map(|n| format!("mirror{n}")).collect();
    for (name, key) in names.iter().zip(mirrors) {
        text.push_str(&format!("witness {name} {key}\n"));
    }
    match names.len() {
        0 => text.push_str("quorum none\n"),
        1 => text.push_str(&format!("quorum {}\n", names[0])),
        _ => text.push_str(&format!("group mirrors any {}\nquorum mirrors\n", names.join(" "))),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_audit::Policy;

    const LOG: &str = "cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a+4cb502ed+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
    const MIRROR: &str =
        "cortex.example/mirror/m1+8004e3a1+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";

    #[test]
    fn what_is_printed_is_a_policy() {
        let log = pb::AuditLog { vkey: LOG.into(), ..pb::AuditLog::default() };
        for (mirrors, cosigned) in [(vec![], false), (vec![MIRROR.to_owned()], true)] {
            let text = policy(std::slice::from_ref(&log), &mirrors);
            let read = Policy::parse(text.as_bytes()).unwrap();
            assert_eq!(read.requires_cosignatures(), cosigned, "{text}");
        }
    }
}
