//! A journal on its way upstream: how many records a second travel from the agent's disk through the tunnel and the gateway to the mirror,
//! are verified, stored and countersigned, while tasks run. The records are questions to the owner with their openings, written by the
//! journal's own code while the agent was away.

use crate::Bench;
use crate::cortex::Server;
use crate::load::drive;
use crate::report::{Goal, Row};
use crate::sample;
use anyhow::Context as _;
use cortex_agent::journal::{AskDraft, Identity, Journal, Settings, owner};
use cortex_model::proto as pb;
use cortex_model::{AttemptKey, TaskId, TaskKey, Workspace};
use std::path::Path;
use std::time::{Duration, Instant};

/// Tasks at a time meanwhile.
const IN_FLIGHT: usize = 4;
/// The mirror says how far it is four times a second.
const POLL: Duration = Duration::from_millis(10);
/// Longest time for one round.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures it.
///
/// # Errors
/// When a process fails, a task does not succeed, or the journal does not arrive.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let records: u64 = if bench.tiny { 500 } else { 50_000 };
    let (mut rates, mut agents, mut servers, mut tasks) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut durability = String::new();
    for round in 0..bench.rounds {
        let server = Server::start(bench, &format!("replay-{round}")).await?;
        durability = server.durability().await?;
        let agent = server.agent("cortex-agent", 8, None).await?;
        server.journal(1).await?;
        drop(agent);
        std::fs::write(server.agent_dir().join("agent.toml"), "max_unacked_records = 100000000\n")?;
        let end = fill(&server.agent_dir().join("journal"), records).await?;
        let agent = server.agent_again("cortex-agent", 8).await?;
        let watched = [agent.pid(), server.process.pid()];
        let before = watched.map(crate::procs::cpu);
        let begun = Instant::now();
        // Until the last of them is countersigned; so many tasks run meanwhile.
        let arrived = server.journal(end);
        let running = drive(IN_FLIGHT, bench.window, &[], server.task(request));
        let (arrived, load) = tokio::join!(arrived, running);
        let took = arrived?.duration_since(begun).as_secs_f64();
        for (pid, (before, into)) in
            watched.iter().zip(before.into_iter().zip([&mut agents, &mut servers]))
        {
            let spent = crate::procs::cpu(*pid)?.saturating_sub(before?);
            into.push(spent.as_secs_f64() * 1e6 / records as f64);
        }
        rates.push(records as f64 / took);
        tasks.push(load?.rate);
    }
    let setting = format!(
        "{records} records with openings, {IN_FLIGHT} tasks in flight meanwhile; {durability}"
    );
    Ok(vec![
        Row::new("replay", "records countersigned", &rates, "/s", &setting)
            .goal(Goal::AtLeast(5_000.0)),
        Row::new("replay", "tasks meanwhile", &tasks, "/s", &setting),
        Row::new("replay", "CPU per record, agent", &agents, "us", &setting),
        Row::new("replay", "CPU per record, server", &servers, "us", &setting),
    ])
}

fn request() -> pb::SubmitTaskRequest {
    let payload = b"meanwhile".to_vec();
    sample::request(pb::action::Kind::Echo(pb::EchoAction { payload }))
}

/// Writes records behind those that are there, and returns the journal's size.
async fn fill(dir: &Path, records: u64) -> anyhow::Result<u64> {
    let (domain, node) = owner(dir).context("the agent's journal")?;
    let [workspace, agent] = ["default", "0"].map(str::to_owned);
    let who = Identity { domain, node, workspace, agent };
    let (journal, _) = Journal::open(dir, &who, Settings::default())?;
    let workers = (0..64).map(|worker| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for n in (worker..records).step_by(64) {
                journal.consent_asked(ask(n)?).await?;
            }
            anyhow::Ok(())
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    journal.flush().await?;
    Ok(journal.size())
}

fn ask(n: u64) -> anyhow::Result<AskDraft> {
    let task = TaskKey {
        workspace: Workspace::default_workspace(),
        task: TaskId::parse(&format!("replay-{n}"))?,
    };
    Ok(AskDraft {
        ask: format!("q{n}"),
        key: AttemptKey { task, attempt: 1 },
        actor: None,
        rule: "ask-first".to_owned(),
        policy: "ef".repeat(32),
        text: "rsync -a --delete /srv/data/ backup.example.org:/srv/data/ ".repeat(6),
        fingerprint: "cd".repeat(32),
        scopes: vec!["once".to_owned(), "task".to_owned()],
        expires_ms: None,
    })
}

impl Server {
    /// Waits until so many records of the only node are countersigned; when that was seen.
    async fn journal(&self, size: u64) -> anyhow::Result<Instant> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let logs = self.audit_logs().await?;
            if logs.iter().any(|log| countersigned(log) >= size) {
                return Ok(Instant::now());
            }
            tokio::time::sleep(POLL).await;
        }
        anyhow::bail!("{size} records were not countersigned in {PATIENCE:?}")
    }
}

/// The second line of a checkpoint.
fn countersigned(log: &pb::AuditLog) -> u64 {
    log.cosigned_note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}
