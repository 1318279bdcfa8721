//! The node's journal alone, in this process: what a durable intent costs beside two `write` and `fdatasync` of the same
//! bytes on the same disk, and how many records a second become durable when many wait at once.

#[path = "../../agent/tests/support/draft.rs"]
mod sample;

use crate::Bench;
use crate::report::{Goal, Row, median};
use anyhow::Context as _;
use cortex_agent::journal::{Identity, IntentDraft, Journal, Settings};
use cortex_model::{Ending, Outcome};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of an intent as it stands in the journal: record, openings and signed head.
const INTENT_BYTES: usize = 2_300;

/// Measures both figures.
///
/// # Errors
/// When the journal does not take what this gives it.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let dir = bench.directory.path().join("journal-bench");
    std::fs::create_dir_all(&dir)?;
    let (alone, many) = if bench.tiny { (20, 64) } else { (400, 8_192) };
    let (mut intents, mut yardsticks, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds.max(3) {
        let journal = open(&dir.join(format!("{round}")))?;
        let mut raw = File::create(dir.join(format!("{round}.raw")))?;
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        // In turn, so that whatever else the disk does hits both.
        for n in 0..alone {
            own.push(millis(intent(&journal, &format!("a{n}")).await?));
            theirs.push(millis(two_syncs(&mut raw)?));
        }
        intents.push(median(&own));
        yardsticks.push(median(&theirs));
        rates.push(rate(&journal, many, 64).await?);
    }
    let setting = "intent durable (one write, one fdatasync), nothing else in flight; yardstick: two write+fdatasync";
    let group = "intents and outcomes durable, 64 in flight";
    Ok(vec![
        Row::new("journal", "durable intent, p50", &intents, "ms", setting)
            .beside(&intents, &yardsticks)
            .goal(Goal::RatioAtMost(2.0)),
        Row::new("journal", "records, 64 in flight", &rates, "/s", group)
            .goal(Goal::AtLeast(5_000.0)),
    ])
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn open(dir: &Path) -> anyhow::Result<Journal> {
    std::fs::create_dir_all(dir)?;
    let [domain, node, workspace, agent] = ["bench", "n1", "default", "0"].map(str::to_owned);
    let who = Identity { domain, node, workspace, agent };
    let (journal, _) = Journal::open(dir, &who, Settings::default())?;
    Ok(journal)
}

/// The time until an intent is durable; its outcome follows outside of the measurement.
async fn intent(journal: &Journal, task: &str) -> anyhow::Result<Duration> {
    let draft = draft(task)?;
    let begun = Instant::now();
    let guard = journal.intent(draft).await?;
    let took = begun.elapsed();
    journal.outcome(guard, Outcome::without_run(Ending::Exited { code: 0 })).await?;
    Ok(took)
}

fn two_syncs(file: &mut File) -> anyhow::Result<Duration> {
    let bytes = [b'x'; INTENT_BYTES];
    let begun = Instant::now();
    for _ in 0..2 {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    Ok(begun.elapsed())
}

/// Records per second of intents and outcomes, so many attempts at a time.
async fn rate(journal: &Journal, records: usize, in_flight: usize) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let each = (records / 2).div_ceil(in_flight);
    let workers = (0..in_flight).map(|worker| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for n in 0..each {
                let guard = journal.intent(draft(&format!("b{worker}-{n}"))?).await?;
                let outcome = Outcome::without_run(Ending::Exited { code: 0 });
                journal.outcome(guard, outcome).await?;
            }
            anyhow::Ok(())
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    Ok((each * in_flight * 2) as f64 / begun.elapsed().as_secs_f64())
}

fn draft(task: &str) -> anyhow::Result<IntentDraft> {
    sample::intent(task).context("the policy allows it")
}
