//! `cortex-agent join`, `leave`, `status`: arguments and words. What they do is next door.

use super::join;
use super::leave::leave as forget;
use super::store::{Enrolled, Standing, Store};
use crate::clock::unix_now;
use crate::config;
use clap::Args;
use cortex_model::{Code, Fault};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Longest token that is read, bytes.
const TOKEN_MAX: u64 = 4096;

/// Arguments of `join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The gateway, https://HOST:PORT.
    server: String,
    /// The join token, as 'cortex token create node' printed it.
    #[arg(required_unless_present = "token_file")]
    token: Option<String>,
    /// File that holds the token, '-' for standard input: keeps it out of the list of processes.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The id this node would like [default: from the host's name].
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// Do not wait for an administrator; the agent asks on when it runs.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    data: DataDir,
}

/// Arguments of `leave`.
#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Why; kept in the server's history.
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    data: DataDir,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

#[derive(Debug, Args)]
struct DataDir {
    /// The agent's data directory [default: cortex-agent below XDG_DATA_HOME].
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDir {
    fn path(&self) -> Result<PathBuf, Fault> {
        self.data_dir.clone().map_or_else(config::default_data_dir, Ok)
    }
}

/// Joins, and waits for an administrator where one must decide.
pub(crate) async fn join(args: JoinArgs) -> Result<(), Fault> {
    let data_dir = args.data.path()?;
    let token = match (args.token, args.token_file) {
        (Some(token), _) => token,
        (None, Some(file)) => read_token(&file)?,
        (None, None) => return Err(Fault::new(Code::Usage, "no token is given")),
    };
    config::prepare(&data_dir)?;
    let node = args.node.unwrap_or_else(|| config::Config::new(&data_dir, "").node_id());
    let store = Store::of(&data_dir);
    let joined = match join::begin(&store, &args.server, &node, &token).await {
        Err(fault) if fault.code == Code::NodeNotApproved && !args.no_wait => {
            note(&format!(
                "{}\n{}\nwaiting; Ctrl-C and 'cortex-agent run' goes on from here",
                fault.message, fault.hint
            ));
            join::wait(&store, &store.key()?, |_| {}).await?
        }
        Err(fault) if fault.code == Code::NodeNotApproved => {
            return say(&format!("{}\n{}\n", fault.message, fault.hint));
        }
        other => other?,
    };
    say(&format!(
        "this machine is node {} of workspace {}\nnext: cortex-agent run, or have systemd do it: cortex-agent service install\n",
        joined.node, joined.workspace
    ))
}

fn read_token(file: &Path) -> Result<String, Fault> {
    let failed =
        |err: std::io::Error| Fault::new(Code::Usage, format!("{}: {err}", file.display()));
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(TOKEN_MAX).read_to_string(&mut text).map_err(failed)?;
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(TOKEN_MAX).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text.trim().to_owned())
}

/// Leaves, and says what the server knows.
pub(crate) async fn leave(args: LeaveArgs) -> Result<(), Fault> {
    let left = forget(&args.data.path()?, &args.reason).await?;
    match &left.enrolled {
        Some(enrolled) => {
            say(&format!("this machine is no longer node {}; its key is gone\n", enrolled.node))?
        }
        None => say("what was left of an identity is gone\n")?,
    }
    if let Some(aside) = left.aside {
        say(&format!("journal and output lie in {}\n", aside.display()))?;
    }
    if let Some(pid) = left.still_running {
        note(&format!(
            "the agent (process {pid}) still runs: it has no way to connect again; end it with: kill {pid}"
        ));
    }
    if let Some(fault) = left.untold {
        let node = left.enrolled.map_or_else(String::new, |enrolled| enrolled.node);
        note(&format!(
            "the server was not told ({fault}); an administrator can: cortex node revoke {node}"
        ));
    }
    Ok(())
}

/// Says who this node is and how long that holds.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Fault> {
    let data_dir = args.data.path()?;
    let store = Store::of(&data_dir);
    let enrolled = store.load()?;
    let running = crate::lock::holder(&data_dir)?;
    let key = store.key()?.fingerprint();
    if args.json {
        return say(&format!("{}\n", describe(&enrolled, &key, running)));
    }
    let mut text = format!(
        "node       {}\nworkspace  {}\nserver     {}\n",
        enrolled.node, enrolled.workspace, enrolled.server
    );
    match &enrolled.standing {
        Standing::Pending { .. } => text.push_str("state      waits for an administrator\n"),
        Standing::Certified(certificate) => {
            let now = unix_now().0;
            let left = certificate.not_after_ms.saturating_sub(now) / 60_000;
            let validity = if left > 0 {
                format!("valid for {} h {} min", left / 60, left % 60)
            } else {
                "ran out; it is renewed with the next connection".to_owned()
            };
            text.push_str(&format!(
                "state      enrolled in {}\ncertificate {validity}\n",
                certificate.trust_domain
            ));
        }
    }
    text.push_str(&format!("key        sha256 {key}\n"));
    match running {
        Some(pid) => text.push_str(&format!("agent      runs, process {pid}\n")),
        None => text.push_str("agent      does not run\n"),
    }
    say(&text)
}

fn describe(enrolled: &Enrolled, key: &str, running: Option<u32>) -> serde_json::Value {
    let certificate = enrolled.certificate().ok();
    serde_json::json!({
        "node": enrolled.node,
        "workspace": enrolled.workspace,
        "server": enrolled.server,
        "state": if certificate.is_some() { "enrolled" } else { "pending" },
        "trust_domain": certificate.map(|c| &c.trust_domain),
        "not_after_ms": certificate.map(|c| c.not_after_ms),
        "renew_at_ms": certificate.map(|c| c.renew_at_ms),
        "key_sha256": key,
        "agent_pid": running,
    })
}

fn say(text: &str) -> Result<(), Fault> {
    let written = crate::out::out().write_all(text.as_bytes());
    written.map_err(|err| Fault::new(Code::AgentUnable, format!("standard output: {err}")))
}

/// For people; nothing is left to say when even this cannot be printed.
fn note(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").ok();
}
