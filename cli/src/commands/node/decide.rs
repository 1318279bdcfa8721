//! `cortex node approve|reject|quarantine|revoke`: an admin's word on a node.

use crate::client::required;
use crate::commands::Session;
use crate::error::CliError;
use crate::{render, view};
use clap::Args;
use cortex_model::NodeId;
use cortex_model::proto as pb;

/// What is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Approve,
    Reject,
    Quarantine,
    Revoke,
}

/// Flags of each of them.
#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The node's id
    node: String,
    /// Why, for people
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
}

/// Decides and prints where the node stands.
pub(crate) async fn run(
    session: &Session,
    verdict: Verdict,
    args: DecideArgs,
) -> Result<(), CliError> {
    let (node, reason) = (NodeId::parse(&args.node)?.to_string(), args.reason);
    let client = session.connect().await?;
    let registration = match verdict {
        Verdict::Approve => {
            client.approve_node(pb::ApproveNodeRequest { node, reason }).await?.registration
        }
        Verdict::Reject => {
            client.reject_node(pb::RejectNodeRequest { node, reason }).await?.registration
        }
        Verdict::Quarantine => {
            client.quarantine_node(pb::QuarantineNodeRequest { node, reason }).await?.registration
        }
        Verdict::Revoke => {
            client.revoke_node(pb::RevokeNodeRequest { node, reason }).await?.registration
        }
    };
    let registration = required(registration)?;
    let shown = view::Registration::from(&registration);
    if session.json() {
        return render::json(&shown);
    }
    render::line(&format!("node {} is {}", registration.node, shown.state))
}
