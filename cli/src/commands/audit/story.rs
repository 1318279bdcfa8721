//! Everything about a task in plain words: who asked, what exactly was to run, which rule allowed it, who consented to what, how it ended,
//! and how far each of these is proven. Each record is checked against its proof here; whose checkpoint it is, only a policy can tell.

use super::records;
use crate::client::Client;
use crate::error::CliError;
use crate::words::safe;
use cortex_audit::{Envelope, Leaf, TlogProof};
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
        Ok(answer) => answer.records.into_iter().map(check).collect(),
        Err(e) if e.is(Code::NoMirror) || e.is(Code::NoAudit) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn check(record: pb::TaskAuditRecord) -> Result<Told, CliError> {
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
    let mut proven_by = 0;
    if !record.proof.is_empty() {
        let proof = TlogProof::parse(record.proof.as_bytes()).map_err(|e| lies(&e.to_string()))?;
        let size = proof.note.checkpoint().size;
        if proof.index != record.seq || proof.verify(leaf).is_err() {
            return Err(lies("its proof does not prove it"));
        }
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
