//! `cortex-agent journal doctor`: what is wrong with the journal, in words, and which command helps. It changes nothing.

use super::{Place, print};
use crate::config::Config;
use crate::journal::{Believed, Journal, is_written, verify};
use clap::Args;
use cortex_audit::verify::Verdict;
use cortex_model::Fault;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    place: Place,
    /// Only read the store to its end. Started by the agent itself.
    #[arg(long, hide = true)]
    open: bool,
}

pub(super) fn run(args: &Doctor) -> Result<ExitCode, Fault> {
    let dir = args.place.journal();
    if args.open {
        return match Journal::probe(&dir) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(err) => Err(err.to_fault()),
        };
    }
    let report = verify(&dir, &Believed::OwnKey);
    let mut text = String::new();
    let agent = if is_written(&dir) { "an agent has it open" } else { "no agent has it open" };
    text.push_str(&format!("journal {}: {agent}\n", dir.display()));
    text.push_str(&format!("  records: {}\n", report.size));
    if let Ok(stat) = rustix::fs::statvfs(&args.place.data_dir) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let least = Config::new(&args.place.data_dir, "").min_free;
        let word = if free < least { "TOO LITTLE: no work is taken" } else { "enough" };
        text.push_str(&format!("  free space: {} MiB ({word})\n", free / (1024 * 1024)));
    }
    let healthy = report.verdict == Verdict::Verified;
    if healthy {
        text.push_str("  chain, tree and signatures agree\n");
        text.push_str("Nothing is wrong that this node can see by itself.\n");
        text.push_str("To compare with the mirror: cortex-agent journal verify --mirror KEY\n");
    } else {
        for finding in report.findings() {
            text.push_str(&format!("  WRONG: {finding}\n"));
        }
        text.push_str(match report.verdict {
            Verdict::Unreadable => {
                "Nothing was concluded: look at the disk and at the permissions of the directory.\n"
            }
            Verdict::Verified
            | Verdict::Invalid
            | Verdict::Unanchored
            | Verdict::Fork
            | Verdict::Rollback
            | Verdict::Semantic
            | Verdict::Incomplete => {
                "Keep a copy of the data directory. Then, with the agent stopped:\n  \
                 cortex-agent journal recover --data-dir DIR\nkeeps the evidence and begins a new journal.\n"
            }
        });
    }
    print(&text);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(report.verdict.exit()) })
}
