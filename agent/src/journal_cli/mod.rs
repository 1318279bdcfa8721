//! `cortex-agent journal`: verify, show, keys, doctor and recover. All but the last change nothing and run beside an agent.

mod doctor;
mod keys;
mod show;

use crate::clock::unix_now;
use crate::config::Config;
use crate::journal::{Believed, Identity, Report, owner, recover, verify};
use clap::{Args, Subcommand};
use cortex_audit::verify::{Trust, Verdict};
use cortex_audit::{KeyKind, Policy, SignedNote, VerifierKey};
use cortex_model::{Code, Fault};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Looks after the node's journal.
#[derive(Debug, Args)]
pub(crate) struct Journal {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify the whole journal: chain, tree, signatures and cosigned checkpoints.
    ///
    /// Exit codes, as of `cortex audit verify`: 0 verified against a trusted key, 1 invalid, 2 usage, 3 no trusted key or nothing
    /// signed by it, 4 fork, 5 rollback, 6 something is missing or too old, 7 records contradict each other, 8 could not be read.
    Verify(Verify),
    /// Print records with what they commit to.
    Show(show::Show),
    /// Print the journal's key and its mirror's as this machine has them, as a policy for `cortex audit verify`.
    Keys(keys::Keys),
    /// Say what is wrong with the journal, if anything, and what helps.
    Doctor(doctor::Doctor),
    /// Set a journal aside that cannot be used, as evidence, and begin a new one that names it.
    Recover(Recover),
}

/// Where the journal is.
#[derive(Debug, Args)]
struct Place {
    /// Directory of the journal, waiting output and the policy.
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: PathBuf,
}

impl Place {
    fn journal(&self) -> PathBuf {
        self.data_dir.join("journal")
    }
}

#[derive(Debug, Args)]
struct Verify {
    #[command(flatten)]
    place: Place,
    /// The mirror's key as you got it from elsewhere: NAME+ID+KEY.
    #[arg(long, value_name = "KEY", conflicts_with = "policy")]
    mirror: Option<String>,
    /// A C2SP tlog-policy file that names whom to believe, got by another way than the journal.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A checkpoint that you kept: the journal must continue it.
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// Oldest acceptable newest countersignature.
    #[arg(long, value_name = "HOURS")]
    max_age_hours: Option<u64>,
    /// Every hashed value must be there or erased on purpose.
    #[arg(long)]
    require_openings: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Recover {
    #[command(flatten)]
    place: Place,
    /// Why: recovery, reinstall, fork or corrupt.
    #[arg(long, value_name = "REASON", default_value = "recovery",
          value_parser = ["recovery", "reinstall", "fork", "corrupt"])]
    reason: String,
    /// Also when nothing is wrong with the journal.
    #[arg(long)]
    force: bool,
    /// The node's id, should the old journal not tell it.
    #[arg(long, value_name = "ID")]
    node: Option<String>,
}

/// Runs one of them.
pub(crate) fn run(journal: Journal) -> ExitCode {
    let result = match journal.command {
        Command::Verify(args) => verify_command(&args),
        Command::Show(args) => show::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Recover(args) => recover_command(&args),
    };
    result.unwrap_or_else(|fault| {
        let mut out = std::io::stderr().lock();
        // Nothing is left to say when even this cannot be printed.
        writeln!(out, "error {fault}\nhint: {}", fault.hint).ok();
        ExitCode::from(if fault.code == Code::Usage { 2 } else { 8 })
    })
}

/// Prints, and does not mind when nobody reads any more.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|err| Fault::new(Code::Usage, format!("{}: {err}", path.display())))
}

fn usage(what: &str, err: impl std::fmt::Display) -> Fault {
    Fault::new(Code::Usage, format!("{what}: {err}"))
}

/// Whom the caller believes, and what else is asked for.
fn believed(args: &Verify) -> Result<Believed, Fault> {
    let mut trust = Trust { require_openings: args.require_openings, ..Trust::default() };
    for path in &args.since {
        trust.since.push(SignedNote::parse(&read(path)?).map_err(|err| usage("--since", err))?);
    }
    if let Some(hours) = args.max_age_hours {
        trust.max_age = Some((unix_now().0 / 1_000, hours.saturating_mul(3_600)));
    }
    if let Some(path) = &args.policy {
        trust.policy = Some(Policy::parse(&read(path)?).map_err(|err| usage("--policy", err))?);
    }
    let Some(text) = &args.mirror else { return Ok(Believed::Policy(Box::new(trust))) };
    let mirror = VerifierKey::parse(text).map_err(|err| usage("--mirror", err))?;
    if mirror.kind() != KeyKind::Cosigner {
        return Err(usage("--mirror", "this is no key of a mirror"));
    }
    Ok(Believed::Mirror(Box::new(mirror), Box::new(trust)))
}

fn verify_command(args: &Verify) -> Result<ExitCode, Fault> {
    let report = verify(&args.place.journal(), &believed(args)?);
    let exit = ExitCode::from(report.verdict.exit());
    if args.json {
        print(&format!("{}\n", json(&report)));
        return Ok(exit);
    }
    let mut text = String::new();
    let node = report.node.as_deref().unwrap_or("?");
    text.push_str(&format!("journal of node {node}: {} records", report.size));
    if report.open_intents > 0 {
        text.push_str(&format!(", {} started and not ended", report.open_intents));
    }
    text.push('\n');
    for line in report.report.iter().flat_map(|report| &report.sources).flat_map(|s| s.lines()) {
        text.push_str(&format!("  {line}\n"));
    }
    for (_, why) in &report.local {
        text.push_str(&format!("  found here    {why}\n"));
    }
    text.push_str(&format!("{}: {}\n", report.verdict.word(), report.verdict.means()));
    print(&text);
    Ok(exit)
}

/// What the engine says, and what only this machine knows.
fn json(report: &Report) -> serde_json::Value {
    let engine = report.report.as_ref().and_then(|report| {
        serde_json::from_slice::<serde_json::Value>(&report.to_value().to_bytes().ok()?).ok()
    });
    let local = report.local.iter();
    let local =
        local.map(|(verdict, why)| serde_json::json!({"verdict": verdict.word(), "why": why}));
    serde_json::json!({
        "schema": "cortex-journal-verify/1",
        "verdict": report.verdict.word(),
        "exit": report.verdict.exit(),
        "node": report.node,
        "size": report.size,
        "open_intents": report.open_intents,
        "local": local.collect::<Vec<_>>(),
        "report": engine,
    })
}

fn recover_command(args: &Recover) -> Result<ExitCode, Fault> {
    let dir = args.place.journal();
    let health = verify(&dir, &Believed::OwnKey);
    if health.verdict == Verdict::Verified && !args.force {
        let message = "the journal is in order; there is nothing to recover".to_owned();
        return Err(Fault::new(Code::Usage, message)
            .with_hint("with --force it is set aside all the same, and a new one begins"));
    }
    let mut config = Config::new(&args.place.data_dir, "");
    let own = args.place.data_dir.join("agent.toml");
    if own.exists() {
        config.read(&own)?;
    }
    if let Some(node) = &args.node {
        cortex_model::NodeId::parse(node)?;
        config.node.clone_from(node);
    }
    let known = owner(&dir);
    let (domain, node) = known.unwrap_or_else(|| (config.domain.clone(), config.node_id()));
    let who = Identity {
        domain,
        node: args.node.clone().unwrap_or(node),
        workspace: config.workspace.to_string(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let evidence = args.place.data_dir.join("evidence");
    let done = recover(&dir, &evidence, &who, &args.reason).map_err(|err| err.to_fault())?;
    let old = done.old.map_or("unknown".to_owned(), |log| log.to_string());
    print(&format!(
        "A new journal has begun. It names the old one.\n  evidence  {} (read-only, with SHA256SUMS)\n  \
         digest    {}\n  old       journal {old}, {} records are proven by its own signature\n\
         What the old journal still owed upstream is in the evidence and is not sent by itself.\n",
        done.evidence.display(),
        done.digest,
        done.size,
    ));
    Ok(ExitCode::SUCCESS)
}
