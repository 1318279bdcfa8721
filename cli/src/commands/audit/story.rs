//! Everything about a task in plain words: who asked, what exactly was to run, which rule allowed it, who consented to what, how it ended,
//! and how far each of these is proven. Each record is checked against its proof here; whose checkpoint it is, only a policy can tell.

use super::records;
use crate::client::Client;
use crate::error::CliError;
use crate::words::safe;
use cortex_audit::{Envelope, Leaf, TlogProof, Value};
use cortex_model::Code;
use cortex_model::proto as pb;
use serde::Serialize;

/// One record about a task, checked.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    node: String,
    log: String,
    seq: u64,
    kind: String,
    leaf: String,
    body: serde_json::Value,
    /// Size of the cosigned checkpoint that the record is proven to be under; 0 when none is.
    proven_by: u64,
    /// The proof, a C2SP tlog-proof; empty when there is none.
    proof: String,
    openings: Vec<String>,
    #[serde(skip)]
    raw: Vec<u8>,
}

/// What the journals say about a task.
///
/// # Errors
/// The server's; a server without mirror or a task that no journal knows gives an empty story.
pub(crate) async fn of_task(client: &Client, task_id: &str) -> Result<Vec<Told>, CliError> {
    let request = pb::GetTaskAuditRequest { task_id: task_id.to_owned(), openings: true };
    match client.get_task_audit(request).await {
        Ok(answer) => answer.records.into_iter().map(|record| check(task_id, record)).collect(),
        Err(e) if e.is(Code::NoMirror) || e.is(Code::NoAudit) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn check(task_id: &str, record: pb::TaskAuditRecord) -> Result<Told, CliError> {
    let leaf = Leaf::of(&record.body);
    let lies = |what: &str| {
        CliError::new(
            Code::Internal,
            format!(
                "the server's copy of record {} of journal {} is not genuine: {what}",
                record.seq, record.log
            ),
        )
        .with_hint("verify the journal: cortex audit verify")
    };
    let envelope = Envelope::parse(&record.body).map_err(|e| lies(&e.to_string()))?;
    if envelope.position.seq != record.seq {
        return Err(lies("it carries another number"));
    }
    // Every kind of record that is about an attempt says which, but for what was found at a start: its outcome does.
    let cmd = envelope.data.get("cmd").and_then(Value::as_text);
    if cmd.is_some_and(|cmd| cmd.split('/').next() != Some(task_id)) {
        return Err(lies("it is about another task"));
    }
    let mut proven_by = 0;
    if !record.proof.is_empty() {
        let proof = TlogProof::parse(record.proof.as_bytes()).map_err(|e| lies(&e.to_string()))?;
        let size = proof.note.checkpoint().size;
        if proof.index != record.seq || proof.verify(leaf).is_err() {
            return Err(lies("its proof does not prove it"));
        }
        super::require_asked(&record.node, Some(&proof.note.checkpoint().origin), None)?;
        proven_by = size;
    }
    Ok(Told {
        node: record.node,
        log: record.log,
        seq: record.seq,
        kind: envelope.kind,
        leaf: leaf.to_string(),
        body: records::json(&record.body),
        proven_by,
        proof: record.proof,
        openings: record.openings,
        raw: record.body,
    })
}

/// The story as lines.
pub(crate) fn tell(story: &[Told]) -> Vec<String> {
    let mut out = Vec::new();
    for told in story {
        out.push(String::new());
        let mut lines = records::describe(told.seq, &told.raw, &told.openings).into_iter();
        if let Some(first) = lines.next() {
            out.push(format!("{first}, node {}", safe(&told.node)));
        }
        out.extend(lines);
        out.push(match told.proven_by {
            0 => "proof    none yet: no cosigned checkpoint covers it".to_owned(),
            size => format!(
                "proof    under the cosigned checkpoint of size {size} of journal {}, hash {}",
                told.log, told.leaf
            ),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_audit::{Checkpoint, Frontier, LogKey, Position, Stamp};

    /// A genuine record of a node about a task, under a signed checkpoint.
    fn record(node: &str, task: &str) -> pb::TaskAuditRecord {
        let place = Position { log: Leaf::ZERO, seq: 0, prev: Leaf::ZERO };
        let boot = "0d9dcf7e-2f0b-4c5e-8a40-5a3c1e8f7b21".to_owned();
        let stamp = Stamp { unix_us: 1_795_438_800_000_000, mono_us: 1, boot };
        let cmd = Value::from(format!("{task}/1").as_str());
        let body = Envelope::encode(place, "refusal", &stamp, Value::map([("cmd", cmd)])).unwrap();
        let mut tree = Frontier::new();
        tree.push(Leaf::of(&body));
        let log = Leaf::of(&body).to_string();
        let origin = format!("example.org/audit/{node}/{}", super::super::log32(&log));
        let key = LogKey::from_seed(&[1; 32], &origin).unwrap();
        let note = Checkpoint { origin, size: 1, root: tree.root() }.sign(&key).unwrap();
        let proof = format!("c2sp.org/tlog-proof@v1\nindex 0\n\n{note}");
        pb::TaskAuditRecord { node: node.into(), log, seq: 0, body, proof, ..Default::default() }
    }

    #[test]
    fn an_answer_about_another_node_or_task_is_no_answer_however_genuine() {
        let told = check("t1", record("n1", "t1")).unwrap();
        assert_eq!((told.node.as_str(), told.proven_by), ("n1", 1));
        // All of it is genuine, only not what was asked for.
        let why = format!("{:?}", check("t1", record("n1", "t2")).unwrap_err());
        assert!(why.contains("another task"), "{why}");
        let renamed = pb::TaskAuditRecord { node: "n1".into(), ..record("n2", "t1") };
        let why = format!("{:?}", check("t1", renamed).unwrap_err());
        assert!(why.contains("of node n2, not with that of n1"), "{why}");
        let id = "ab".repeat(32);
        let origin = format!("example.org/audit/n2/{}", &id[..32]);
        for (named, fits) in [
            ("n2", true),
            ("n1", false),
            (&id[..8], true),
            (&id, true),
            ("abababac", false),
            ("ab", false),
        ] {
            let asked = super::super::require_asked(named, Some(&origin), Some(&id));
            assert_eq!(asked.is_ok(), fits, "{named}");
        }
    }
}
