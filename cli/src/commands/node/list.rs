//! `cortex node list`.

use crate::commands::Session;
use crate::error::CliError;
use crate::{render, view, words};
use clap::Args;
use cortex_model::Requirement;
use cortex_model::limits::PAGE_MAX;
use cortex_model::proto as pb;

/// Flags of `node list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex node list
  cortex node list --online --require 'python>=3.10' --require os=linux
  cortex node list --json")]
pub(crate) struct ListArgs {
    /// Only nodes that have this; repeat for more
    #[arg(long, value_name = "CAPABILITY")]
    require: Vec<String>,
    /// Only nodes that are connected
    #[arg(long)]
    online: bool,
}

/// Prints the nodes, all pages.
pub(crate) async fn run(session: &Session, args: ListArgs) -> Result<(), CliError> {
    for r in &args.require {
        Requirement::parse(r)?;
    }
    let client = session.connect().await?;
    let mut request = pb::ListNodesRequest {
        require: args.require,
        online_only: args.online,
        page_size: PAGE_MAX,
        page_token: String::new(),
    };
    let mut nodes = Vec::new();
    loop {
        let page = client.list_nodes(request.clone()).await?;
        nodes.extend(page.nodes);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if session.json() {
        let nodes: Vec<view::Node> = nodes.iter().map(Into::into).collect();
        return render::json(&serde_json::json!({ "nodes": nodes }));
    }
    if nodes.is_empty() {
        return render::line("no nodes");
    }
    let rows = nodes.iter().map(row).collect();
    render::line(&render::table(&["NODE", "STATE", "ONLINE", "SLOTS FREE", "SYSTEM", "HAS"], rows))
}

fn row(n: &pb::Node) -> Vec<String> {
    let m = n.manifest.clone().unwrap_or_default();
    let has: Vec<String> = m.capabilities.iter().map(|c| words::safe(&c.name)).collect();
    vec![
        n.node.clone(),
        view::enrolment(n.registration.clone().unwrap_or_default().state()).to_owned(),
        if n.online { "yes" } else { "no" }.to_owned(),
        format!("{}/{}", n.slots_free, n.slots),
        words::safe(&format!("{}/{}", m.os, m.arch)),
        words::short(&has.join(" "), 60),
    ]
}
