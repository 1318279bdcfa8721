//! `cortex audit prove`: one record, and the path from it to a cosigned checkpoint, checked here.

use super::{journal, records};
use crate::commands::Session;
use crate::error::CliError;
use crate::render;
use clap::Args;
use cortex_audit::verify::{Trust, Verdict, verify_proof};
use cortex_audit::{Leaf, TlogProof};
use cortex_model::Code;
use cortex_model::proto as pb;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Flags of `audit prove`.
#[derive(Debug, Args)]
#[command(after_help = "\
The proof is a C2SP tlog-proof. With --policy it is checked against your own keys; without, only that the record is under
the checkpoint is checked, not whose checkpoint it is, and the exit code is 3.

Examples:
  cortex audit prove laptop-1 1207 --policy policy.txt
  cortex audit prove laptop-1 1207 --out 1207.tlog-proof --body 1207.json")]
pub(crate) struct ProveArgs {
    /// A node, or the beginning of a journal's id
    journal: String,
    /// Number of the record
    seq: u64,
    /// Keys to believe, a C2SP tlog-policy got by another way than this server
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the proof here
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the record's bytes here
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown<'a> {
    log: &'a str,
    seq: u64,
    leaf: String,
    body: serde_json::Value,
    proof: &'a str,
    verdict: &'static str,
}

/// Proves a record.
pub(crate) async fn run(session: &Session, args: ProveArgs) -> Result<u8, CliError> {
    let trust =
        Trust { policy: super::verify::policy(args.policy.as_deref())?, ..Trust::default() };
    let client = session.connect().await?;
    let log = journal(&client, &args.journal).await?;
    let request = pb::ProveAuditRecordRequest { log: log.log.clone(), seq: args.seq };
    let answer = client.prove_audit_record(request).await?;
    write(args.out.as_deref(), answer.proof.as_bytes())?;
    write(args.body.as_deref(), &answer.body)?;
    let report = verify_proof(&answer.body, answer.proof.as_bytes(), &trust);
    // The server could have answered about another record.
    let same = TlogProof::parse(answer.proof.as_bytes()).is_ok_and(|proof| proof.index == args.seq);
    if !same {
        return Err(CliError::internal("the server proved another record than was asked for"));
    }
    let source = report.sources.first();
    let id = source.and_then(|source| source.log).map(|log| log.to_string());
    let origin = source.and_then(|source| source.origin.as_deref());
    super::require_asked(&args.journal, origin, id.as_deref())?;
    let leaf = Leaf::of(&answer.body).to_string();
    if session.json() {
        render::json(&Shown {
            log: &log.log,
            seq: args.seq,
            leaf,
            body: serde_json::from_slice(&answer.body).unwrap_or_default(),
            proof: &answer.proof,
            verdict: report.verdict.word(),
        })?;
        return Ok(report.verdict.exit());
    }
    for line in records::describe(args.seq, &answer.body, &[]) {
        render::line(&line)?;
    }
    render::line(&format!("hash     {leaf}"))?;
    render::line(&format!("verdict  {}: {}", report.verdict.word(), means(report.verdict)))?;
    if args.out.is_none() {
        render::line("")?;
        render::line(answer.proof.trim_end())?;
    }
    Ok(report.verdict.exit())
}

fn means(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified => "the record is under a checkpoint that your policy believes",
        Verdict::Unanchored => {
            "the record is under the checkpoint, but nothing says that the checkpoint can be believed; pass --policy"
        }
        Verdict::Fork
        | Verdict::Invalid
        | Verdict::Rollback
        | Verdict::Semantic
        | Verdict::Incomplete
        | Verdict::Unreadable => "the proof does not prove the record",
    }
}

fn write(path: Option<&Path>, bytes: &[u8]) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    let failed =
        |e| CliError::new(Code::Usage, format!("{} cannot be written: {e}", path.display()));
    std::fs::write(path, bytes).map_err(failed)
}
