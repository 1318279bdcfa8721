//! `cortex-agent journal show`: records, with the values behind their commitments where this node still has them.

use super::{Place, print};
use crate::journal::Shown;
use clap::Args;
use cortex_audit::Value;
use cortex_model::{Code, Fault};
use std::process::ExitCode;

/// Records that are printed when nothing else is asked for.
const LAST: u64 = 20;

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    place: Place,
    /// Only records about this task.
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Only this record.
    #[arg(long, value_name = "N", conflicts_with_all = ["task", "last"])]
    seq: Option<u64>,
    /// The newest so many records.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Print one JSON object per record: seq, leaf, record, openings.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Show) -> Result<ExitCode, Fault> {
    let wanted = |record: &Shown| match (&args.task, args.seq) {
        (Some(task), _) => {
            let cmd = record.data("cmd").and_then(Value::as_text).unwrap_or_default();
            cmd.split('/').next() == Some(task)
        }
        (None, Some(seq)) => record.seq == seq,
        (None, None) => true,
    };
    let last = match (args.last, &args.task, args.seq) {
        (Some(last), ..) => last,
        (None, None, None) => LAST,
        (None, ..) => u64::MAX,
    };
    let mut some = false;
    let show = |record: Shown| {
        if wanted(&record) {
            some = true;
            print(&if args.json { record.json() } else { record.text() });
        }
    };
    crate::journal::show(&args.place.journal(), last, show).map_err(|err| err.to_fault())?;
    if !some {
        return Err(Fault::new(Code::Usage, "the journal has no such record"));
    }
    Ok(ExitCode::SUCCESS)
}
