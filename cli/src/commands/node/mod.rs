//! `cortex node`: what is known of the nodes.

mod list;
mod show;

use super::Session;
use crate::error::CliError;
use clap::Subcommand;

/// Commands about nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes, all or those that meet requirements
    List(list::ListArgs),
    /// Show one node: what it is, what it has, how busy it is
    Show(show::ShowArgs),
}

/// Runs one of them.
pub(crate) async fn run(session: &Session, command: NodeCommand) -> Result<(), CliError> {
    match command {
        NodeCommand::List(args) => list::run(session, args).await,
        NodeCommand::Show(args) => show::run(session, args).await,
    }
}
