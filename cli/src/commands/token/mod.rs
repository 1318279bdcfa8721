//! `cortex token`: who may join machines and call the API.

mod create;
mod list;
mod revoke;

use super::Session;
use crate::error::CliError;
use clap::Subcommand;

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token: for machines that shall join, or for a person or program
    #[command(subcommand)]
    Create(create::CreateCommand),
    /// List the workspace's tokens, without their secrets
    List(list::ListArgs),
    /// End a token, and whatever goes on under it
    Revoke(revoke::RevokeArgs),
}

/// Runs one of them.
pub(crate) async fn run(session: &Session, command: TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Create(command) => create::run(session, command).await,
        TokenCommand::List(args) => list::run(session, args).await,
        TokenCommand::Revoke(args) => revoke::run(session, args).await,
    }
}
