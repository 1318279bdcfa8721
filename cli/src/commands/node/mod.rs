//! `cortex node`: what is known of the nodes, and which of them may be here.

mod decide;
mod list;
mod narrow;
mod show;

use super::Session;
use crate::error::CliError;
use clap::Subcommand;
use decide::Verdict;

/// Commands about nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes, all or those that meet requirements
    List(list::ListArgs),
    /// Show one node: what it is, what it has, how busy it is
    Show(show::ShowArgs),
    /// Let a pending, quarantined or long absent node in
    Approve(decide::DecideArgs),
    /// Refuse a pending node, for good
    Reject(decide::DecideArgs),
    /// Cut a node off until it is approved again
    Quarantine(decide::DecideArgs),
    /// Take something away from what a node's owner allows, or give it back
    Narrow(narrow::NarrowArgs),
    /// Cut a node off for good; its machine can only join anew, as another node
    Revoke(decide::DecideArgs),
}

/// Runs one of them.
pub(crate) async fn run(session: &Session, command: NodeCommand) -> Result<(), CliError> {
    match command {
        NodeCommand::List(args) => list::run(session, args).await,
        NodeCommand::Show(args) => show::run(session, args).await,
        NodeCommand::Approve(args) => decide::run(session, Verdict::Approve, args).await,
        NodeCommand::Reject(args) => decide::run(session, Verdict::Reject, args).await,
        NodeCommand::Quarantine(args) => decide::run(session, Verdict::Quarantine, args).await,
        NodeCommand::Narrow(args) => narrow::run(session, args).await,
        NodeCommand::Revoke(args) => decide::run(session, Verdict::Revoke, args).await,
    }
}
