//! `cortex-agent journal`: verify, show, doctor and recover. The first three change nothing and run beside an agent.

mod doctor;
mod show;

use crate::config::Config;
use crate::journal::{Identity, Verdict, owner, recover, verify};
use clap::{Args, Subcommand};
use cortex_audit::{Policy, SignedNote, VerifierKey};
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
    /// Exit codes: 0 verified against a trusted key, 1 invalid, 2 usage, 3 no trusted key or nothing signed by it, 4 fork,
    /// 5 rollback, 8 could not be read.
    Verify(Verify),
    /// Print records with what they commit to.
    Show(show::Show),
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
    /// A policy file that names whom to believe.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A checkpoint that you kept: the journal must hold it.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
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

/// The mirror's key that the caller trusts.
fn trusted(mirror: Option<&str>, policy: Option<&Path>) -> Result<Option<VerifierKey>, Fault> {
    if let Some(text) = mirror {
        return VerifierKey::parse(text).map(Some).map_err(|err| usage("--mirror", err));
    }
    let Some(path) = policy else { return Ok(None) };
    let policy = Policy::parse(&read(path)?).map_err(|err| usage("--policy", err))?;
    policy
        .witnesses()
        .first()
        .cloned()
        .map(Some)
        .ok_or_else(|| usage("--policy", "it names no mirror"))
}

fn verify_command(args: &Verify) -> Result<ExitCode, Fault> {
    let mirror = trusted(args.mirror.as_deref(), args.policy.as_deref())?;
    let since = match &args.since {
        Some(path) => Some(SignedNote::parse(&read(path)?).map_err(|err| usage("--since", err))?),
        None => None,
    };
    let report = verify(&args.place.journal(), mirror.as_ref(), since.as_ref());
    if args.json {
        let text = serde_json::to_string(&report).map_err(|err| usage("--json", err))?;
        print(&format!("{text}\n"));
        return Ok(ExitCode::from(report.verdict.exit_code()));
    }
    let mut text = match report.verdict {
        Verdict::Verified => "VERIFIED".to_owned(),
        Verdict::Invalid => "INVALID: the journal's bytes are not what was written".to_owned(),
        Verdict::Unanchored => {
            "UNANCHORED: the journal agrees with itself, and nobody you trust vouches for it"
                .to_owned()
        }
        Verdict::Fork => "FORK: the journal contradicts what its own key signed".to_owned(),
        Verdict::Rollback => "ROLLBACK: the journal is shorter than it once was".to_owned(),
        Verdict::Unreadable => "UNREADABLE: nothing was concluded".to_owned(),
    };
    text.push('\n');
    if let Some(log) = &report.log {
        let node = report.node.as_deref().unwrap_or("?");
        text.push_str(&format!("  journal   {log} of node {node}\n"));
        text.push_str(&format!("  records   {}", report.size));
        match report.first_bad {
            Some(seq) => text.push_str(&format!(", the first bad one is {seq}\n")),
            None => text.push_str(", each follows the one before\n"),
        }
    }
    if report.open_intents > 0 {
        text.push_str(&format!("  open      {} started and not ended\n", report.open_intents));
    }
    if let Some(at) = report.cosigned_at {
        let rest = report.size - report.cosigned;
        text.push_str(&format!("  cosigned  the first {} records, at {at}", report.cosigned));
        text.push_str(&format!(" (seconds since 1970); {rest} came later\n"));
    }
    for finding in &report.findings {
        text.push_str(&format!("  - {finding}\n"));
    }
    print(&text);
    Ok(ExitCode::from(report.verdict.exit_code()))
}

fn recover_command(args: &Recover) -> Result<ExitCode, Fault> {
    let dir = args.place.journal();
    let health = verify(&dir, None, None);
    if health.verdict == Verdict::Unanchored && !args.force {
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
