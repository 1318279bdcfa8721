//! `cortex audit tail`: a journal as it comes in.

use super::{journal, records};
use crate::commands::Session;
use crate::error::CliError;
use crate::render;
use clap::Args;
use cortex_model::proto as pb;

/// Flags of `audit tail`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cortex audit tail laptop-1")]
pub(crate) struct TailArgs {
    /// A node, or the beginning of a journal's id
    journal: String,
    /// Records that are there already, shown first
    #[arg(long, short = 'n', default_value_t = 10, value_name = "N")]
    lines: u64,
    /// End when what is there was shown
    #[arg(long)]
    no_follow: bool,
}

/// Prints one line for each record, as JSON the record itself.
pub(crate) async fn run(session: &Session, args: TailArgs) -> Result<(), CliError> {
    let client = session.connect().await?;
    let log = journal(&client, &args.journal).await?;
    let request = pb::ReadAuditRecordsRequest {
        log: log.log,
        from_seq: log.stored.saturating_sub(args.lines),
        to_seq: 0,
        follow: !args.no_follow,
    };
    let mut stream = client.read_audit_records(request).await?;
    while let Some(batch) = stream.message().await? {
        for (seq, body) in records::lines(&batch) {
            if session.json() {
                render::line(&String::from_utf8_lossy(body))?;
            } else {
                render::line(&records::one_line(seq, body))?;
            }
        }
    }
    Ok(())
}
