//! `cortex audit verify`: reads copies of a journal and says, with separate verdicts, what is certain about them.

use super::{bundle, export, journal};
use crate::client::Client;
use crate::commands::Session;
use crate::error::CliError;
use crate::{duration, render};
use clap::Args;
use cortex_audit::verify::{Report, Trust, Verdict, verify, verify_proof};
use cortex_audit::{Policy, SignedNote};
use cortex_model::Code;
use std::path::{Path, PathBuf};

/// Exit code of a policy or note that cannot be read.
const USAGE: u8 = 2;

/// Flags of `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 verified, 1 invalid, 2 policy or note not readable, 3 unanchored, 4 fork, 5 rollback, 6 incomplete,
7 contradictory, 8 unreadable. Without --policy the answer is never 'verified'.

Examples:
  cortex audit verify laptop-1 --policy policy.txt
  cortex audit verify --bundle ./laptop-1-audit --policy policy.txt --since last-week.note
  cortex audit verify laptop-1 --bundle ./laptop-1-audit --policy policy.txt --max-age 1h --json
  cortex audit verify --record 1207.json --proof 1207.tlog-proof --policy policy.txt")]
pub(crate) struct VerifyArgs {
    /// A node, or the beginning of a journal's id: the server's copy is verified
    #[arg(required_unless_present_any = ["bundle", "proof"])]
    journal: Option<String>,
    /// An exported bundle; may be given several times, then all are compared
    #[arg(long, value_name = "DIR")]
    bundle: Vec<PathBuf>,
    /// Keys to believe: a C2SP tlog-policy, got by another way than the journal
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A checkpoint that was seen before: the journal must continue it
    #[arg(long, value_name = "NOTE")]
    since: Vec<PathBuf>,
    /// Oldest acceptable newest countersignature
    #[arg(long, value_name = "DURATION")]
    max_age: Option<String>,
    /// Every hashed value must be there or erased on purpose
    #[arg(long)]
    require_openings: bool,
    /// Verify one record instead, with this proof of it ('cortex audit prove --out')
    #[arg(long, value_name = "FILE", requires = "record", conflicts_with_all = ["journal", "bundle"])]
    proof: Option<PathBuf>,
    /// The bytes of that record ('cortex audit prove --body')
    #[arg(long, value_name = "FILE", requires = "proof")]
    record: Option<PathBuf>,
}

/// Reads a policy.
///
/// # Errors
/// `CX-0803` when it cannot be read.
pub(super) fn policy(path: Option<&Path>) -> Result<Option<Policy>, CliError> {
    let Some(path) = path else { return Ok(None) };
    let bad = |why: String| CliError::new(Code::Usage, format!("{}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    Policy::parse(&bytes).map(Some).map_err(|e| bad(e.to_string()))
}

fn trust(args: &VerifyArgs) -> Result<Trust, CliError> {
    let mut since = Vec::new();
    for path in &args.since {
        let bad = |why: String| CliError::new(Code::Usage, format!("{}: {why}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        since.push(SignedNote::parse(&bytes).map_err(|e| bad(e.to_string()))?);
    }
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let max_age = args.max_age.as_deref().map(duration::parse).transpose()?;
    Ok(Trust {
        policy: policy(args.policy.as_deref())?,
        since,
        max_age: max_age.map(|ms| (now, ms / 1_000)),
        require_openings: args.require_openings,
    })
}

/// A copy of the server's journal for as long as it is read.
struct Fetched(PathBuf);

impl Drop for Fetched {
    fn drop(&mut self) {
        // What cannot be removed is in the system's own temporary directory, readable by its owner alone.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn fetch(client: &Client, named: &str, openings: bool) -> Result<Fetched, CliError> {
    let log = journal(client, named).await?;
    let dir = std::env::temp_dir().join(format!("cortex-audit-{}", uuid::Uuid::new_v4().simple()));
    let fetched = Fetched(dir);
    export::bundle(client, &log, &fetched.0, openings).await?;
    Ok(fetched)
}

/// Verifies, and gives the verdict as exit code.
pub(crate) async fn run(session: &Session, args: VerifyArgs) -> Result<u8, CliError> {
    let trust = match trust(&args) {
        Ok(trust) => trust,
        Err(e) => {
            e.report(session.json());
            return Ok(USAGE);
        }
    };
    if let (Some(record), Some(proof)) = (&args.record, &args.proof) {
        return match (std::fs::read(record), std::fs::read(proof)) {
            (Ok(record), Ok(proof)) => {
                let record = record.strip_suffix(b"\n").unwrap_or(&record);
                say(session, &verify_proof(record, &proof, &trust), &["the record".to_owned()])
            }
            (Err(e), _) => unreadable(session, &format!("{}: {e}", record.display())),
            (_, Err(e)) => unreadable(session, &format!("{}: {e}", proof.display())),
        };
    }
    let mut fetched = None;
    if let Some(named) = &args.journal {
        let client = session.connect().await?;
        fetched = Some(fetch(&client, named, true).await?);
    }
    let mut names = Vec::new();
    let mut paths = Vec::new();
    if let (Some(named), Some(copy)) = (&args.journal, &fetched) {
        names.push(format!("the server's copy of {named}"));
        paths.push(copy.0.clone());
    }
    for dir in &args.bundle {
        names.push(dir.display().to_string());
        paths.push(dir.clone());
    }
    let read = tokio::task::spawn_blocking(move || judge(paths, names, trust));
    let judged = read.await.map_err(|e| CliError::internal(format!("the verifier ended: {e}")))?;
    drop(fetched);
    let (report, names) = match judged {
        Ok(judged) => judged,
        Err(bundle::NotRead(why)) => return unreadable(session, &why),
    };
    if let (Some(named), Some(source)) = (&args.journal, report.sources.first()) {
        let log = source.log.map(|log| log.to_string());
        if let Err(e) = super::require_asked(named, source.origin.as_deref(), log.as_deref()) {
            e.report(session.json());
            return Ok(Verdict::Unanchored.exit());
        }
    }
    say(session, &report, &names)
}

/// Prints a report; its exit code.
fn say(session: &Session, report: &Report, names: &[String]) -> Result<u8, CliError> {
    if session.json() {
        let bytes = report.to_value().to_bytes().map_err(|e| CliError::internal(e.to_string()))?;
        render::line(&String::from_utf8_lossy(&bytes))?;
    } else {
        report.lines(names).iter().try_for_each(|line| render::line(line))?;
    }
    Ok(report.verdict.exit())
}

/// Reads and verifies the copies, and the other histories that they keep as evidence.
fn judge(
    mut paths: Vec<PathBuf>,
    mut names: Vec<String>,
    mut trust: Trust,
) -> Result<(Report, Vec<String>), bundle::NotRead> {
    for dir in paths.clone() {
        for branch in bundle::branches(&dir)? {
            names.push(format!("another history, kept as evidence in {}", branch.display()));
            paths.push(branch);
        }
        trust.since.extend(bundle::evidence(&dir)?);
    }
    let sources = paths.iter().map(|path| bundle::source(path)).collect::<Result<_, _>>()?;
    Ok((verify(sources, &trust), names))
}

/// Nothing was concluded, and that is the verdict.
fn unreadable(session: &Session, why: &str) -> Result<u8, CliError> {
    CliError::new(Code::Usage, why).report(session.json());
    say(session, &verify(Vec::new(), &Trust::default()), &[])
}
