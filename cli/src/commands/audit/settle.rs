//! `cortex audit settle`: a person looked at what was found about a node, and says what holds from now on.

use crate::client::required;
use crate::commands::Session;
use crate::error::CliError;
use crate::words::safe;
use crate::{render, view};
use clap::Args;
use cortex_model::proto as pb;

/// Flags of `audit settle`.
#[derive(Debug, Args)]
#[command(after_help = "\
The reason and who gave it stay in the node's audit history for ever.

Examples:
  cortex audit settle laptop-1 --reason 'disk restored from the backup of Monday; nothing ran in between'
  cortex audit settle laptop-1 --close 0123456789abcdef0123456789abcdef --reason 'machine was wiped'")]
pub(crate) struct SettleArgs {
    /// The node
    node: String,
    /// Close this journal of the node (its id, or the first 32 digits); nothing more of it is taken
    #[arg(long, value_name = "ID")]
    close: Option<String>,
    /// Why
    #[arg(long)]
    reason: String,
}

/// Settles it.
pub(crate) async fn run(session: &Session, args: SettleArgs) -> Result<(), CliError> {
    let request = pb::SettleNodeAuditRequest {
        node: args.node,
        retire_log: args.close.unwrap_or_default(),
        reason: args.reason,
        actor: session.actor()?,
    };
    let answer = session.connect().await?.settle_node_audit(request).await?;
    let node = required(answer.node)?;
    if session.json() {
        return render::json(&view::audit::NodeAudit::from(&node));
    }
    render::line(&format!("node {} is {} now", safe(&node.node), super::standing(node.standing)))
}
