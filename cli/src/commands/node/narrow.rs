//! `cortex node narrow`: takes something away from what a node's owner allows. It can give back only what it took.

use crate::client::required;
use crate::commands::Session;
use crate::error::CliError;
use crate::{render, view};
use clap::Args;
use cortex_model::limits::NARROWING_MAX;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, NodeId};
use std::io::Read as _;

/// Flags of `node narrow`.
#[derive(Debug, Args)]
#[command(
    after_help = "The file is TOML; everything in it takes away, and it replaces what was taken before:

  version = 1
  deny = [\"curl\", \"ssh\"]      # programs that do not run; \"*\" is all
  network = \"none\"             # no task has a network
  effect = \"ask\"               # what the policy allows the node's owner is asked about
  fs = \"read-only\"             # roots cannot be written to
  terminal = \"deny\"            # no program has a terminal
  [limits.task]                # cpu, memory, pids, wall, output, file_size
  wall = \"5m\"
  [limits.agent]
  tasks = 1

Examples:
  cortex node narrow laptop-1 --file quiet.toml --reason 'audit week'
  cortex node narrow laptop-1 --clear"
)]
pub(crate) struct NarrowArgs {
    /// The node's id
    node: String,
    /// What is taken away; - reads standard input
    #[arg(long, value_name = "FILE", required_unless_present = "clear")]
    file: Option<String>,
    /// Give back everything that was taken
    #[arg(long, conflicts_with = "file")]
    clear: bool,
    /// Send it also where nodes would leave part of it out
    #[arg(long, requires = "file")]
    as_is: bool,
    /// Why, for people
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
}

/// Sends it and prints what holds now.
pub(crate) async fn run(session: &Session, args: NarrowArgs) -> Result<(), CliError> {
    let (node, reason) = (NodeId::parse(&args.node)?.to_string(), args.reason);
    let text = match &args.file {
        Some(file) => read(file)?,
        None => String::new(),
    };
    if let Some(file) = args.file.as_ref().filter(|_| !args.as_is) {
        cortex_agent::policy::check_narrowing(&text).map_err(|why| {
            Fault::new(Code::Usage, format!("{file}: {why}"))
                .with_hint("see 'cortex node narrow --help'; --as-is sends it nevertheless")
        })?;
    }
    let client = session.connect().await?;
    let answer = client.narrow_node(pb::NarrowNodeRequest { node, text, reason }).await?;
    let registration = required(answer.registration)?;
    if session.json() {
        return render::json(&view::Registration::from(&registration));
    }
    let node = &registration.node;
    match registration.narrowing.as_ref().filter(|held| !held.text.is_empty()) {
        Some(held) => render::line(&format!(
            "node {node} is narrowed (revision {}); 'cortex node show {node}' says what it makes of it",
            held.revision
        )),
        None => render::line(&format!("nothing is taken away from node {node}")),
    }
}

fn read(file: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let most = NARROWING_MAX as u64 + 1;
    let done = match file {
        "-" => std::io::stdin().lock().take(most).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|f| f.take(most).read_to_string(&mut text)),
    };
    done.map_err(|err| Fault::new(Code::Usage, format!("{file} cannot be read: {err}")))?;
    Ok(text)
}
