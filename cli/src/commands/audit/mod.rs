//! `cortex audit`: what the journals of nodes say, and whether that can be believed. Everything that is concluded here is
//! concluded on this machine, from bytes and from keys that the user brings.

mod bundle;
mod export;
mod keys;
mod prove;
pub(crate) mod records;
mod settle;
mod show;
mod story;
mod tail;
mod verify;

use super::Session;
use crate::client::Client;
use crate::error::CliError;
use clap::Subcommand;
use cortex_model::Code;
use cortex_model::proto as pb;
pub(crate) use story::{Told, of_task, tell};

/// Commands about the audit.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify a node's journal: the server's copy, exported bundles, or all against each other
    Verify(verify::VerifyArgs),
    /// Show journals, what was found about a node, records, or everything about a task
    Show(show::ShowArgs),
    /// Follow a node's journal as it is stored
    Tail(tail::TailArgs),
    /// Copy a journal with its proofs into a directory that can be verified without this server
    Export(export::ExportArgs),
    /// Prove that one record is under a cosigned checkpoint
    Prove(prove::ProveArgs),
    /// Print the keys of journals and mirrors as a policy, to be compared with what is known from elsewhere
    Keys,
    /// End suspicion or quarantine of a node, or close one of its journals, after somebody looked
    Settle(settle::SettleArgs),
}

/// Runs one of them and gives the exit code.
///
/// # Errors
/// Whatever keeps it from an answer; what a verification finds is an exit code.
pub(crate) async fn run(session: &Session, command: AuditCommand) -> Result<u8, CliError> {
    match command {
        AuditCommand::Verify(args) => verify::run(session, args).await,
        AuditCommand::Show(args) => show::run(session, args).await.map(|()| 0),
        AuditCommand::Tail(args) => tail::run(session, args).await.map(|()| 0),
        AuditCommand::Export(args) => export::run(session, args).await.map(|()| 0),
        AuditCommand::Prove(args) => prove::run(session, args).await,
        AuditCommand::Keys => keys::run(session).await.map(|()| 0),
        AuditCommand::Settle(args) => settle::run(session, args).await.map(|()| 0),
    }
}

/// The journal that a node's name or the beginning of an id means.
///
/// # Errors
/// `CX-1502` when there is none, or several.
async fn journal(client: &Client, named: &str) -> Result<pb::AuditLog, CliError> {
    let answer = client.list_audit_logs(pb::ListAuditLogsRequest { node: String::new() }).await?;
    let logs = answer.logs;
    if let Some(log) = logs.iter().find(|log| log.node == named && log.current) {
        return Ok(log.clone());
    }
    let mut fitting = logs.into_iter().filter(|log| named.len() >= 8 && log.log.starts_with(named));
    let shown: String = named.chars().take(70).collect();
    match (fitting.next(), fitting.next()) {
        (Some(log), None) => Ok(log),
        (Some(_), Some(_)) => {
            Err(CliError::new(Code::NoAudit, format!("{shown:?} means several journals")))
        }
        (None, _) => Err(CliError::new(
            Code::NoAudit,
            format!("{shown:?} is no node with a journal, and no journal"),
        )),
    }
}

/// Whether a journal is the one that was asked for, by the name that its own key signed; what the server calls it says nothing. A journal of
/// which nothing could be read is none at all, and its verdict says so.
///
/// # Errors
/// It is another.
fn require_asked(named: &str, origin: Option<&str>, log: Option<&str>) -> Result<(), CliError> {
    let Some(origin) = origin else { return Ok(()) };
    let mut parts = origin.split('/').skip(2);
    let (node, log32) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let by_id = named.len() >= 8 && log.unwrap_or(log32).starts_with(named);
    if node == named || by_id {
        return Ok(());
    }
    let shown =
        crate::words::safe(&format!("journal {log32} of node {node}, not with that of {named}"));
    Err(CliError::internal(format!("the server answered with {shown}"))
        .with_hint("believe nothing that it says about this node until somebody knows why"))
}

/// The first 32 hex digits of an id.
fn log32(log: &str) -> String {
    log.chars().take(32).collect()
}

/// The word for where a journal or node stands.
pub(crate) fn standing(standing: i32) -> &'static str {
    match pb::AuditStanding::try_from(standing) {
        Ok(pb::AuditStanding::Active) => "active",
        Ok(pb::AuditStanding::Suspect) => "SUSPECT",
        Ok(pb::AuditStanding::Quarantined) => "QUARANTINED",
        Ok(pb::AuditStanding::Retired) => "retired",
        Ok(pb::AuditStanding::Unspecified) | Err(_) => "unknown",
    }
}
