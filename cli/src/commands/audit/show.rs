//! `cortex audit show`: journals, what was found about a node, records, a task.

use super::{journal, log32, records, standing, story};
use crate::client::{self, Client};
use crate::commands::Session;
use crate::error::CliError;
use crate::words::{actor, safe, time};
use crate::{render, view};
use clap::Args;
use cortex_model::proto as pb;
use pb::audit_node_event::Kind;

/// Flags of `audit show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cortex audit show
  cortex audit show laptop-1
  cortex audit show laptop-1 --from 1200 --count 20
  cortex audit show --task 5k2v...")]
pub(crate) struct ShowArgs {
    /// A node, or the beginning of a journal's id; none lists all journals
    journal: Option<String>,
    /// All records about this task, with what stands behind their hashes where you may see it
    #[arg(long, value_name = "ID", conflicts_with = "journal")]
    task: Option<String>,
    /// Show records from this number on
    #[arg(long, value_name = "N", requires = "journal")]
    from: Option<u64>,
    /// Records to show
    #[arg(long, default_value_t = 20, value_name = "N")]
    count: u64,
}

/// Shows what was asked for.
pub(crate) async fn run(session: &Session, args: ShowArgs) -> Result<(), CliError> {
    if let Some(task) = &args.task {
        return show_task(session, task).await;
    }
    let client = session.connect().await?;
    match (&args.journal, args.from) {
        (None, _) => list(session, &client).await,
        (Some(named), Some(from)) => show_records(session, &client, named, from, args.count).await,
        (Some(named), None) => show_node(session, &client, named).await,
    }
}

async fn list(session: &Session, client: &Client) -> Result<(), CliError> {
    let logs = client.list_audit_logs(pb::ListAuditLogsRequest { node: String::new() }).await?.logs;
    if session.json() {
        return render::json(&logs.iter().map(view::audit::Log::from).collect::<Vec<_>>());
    }
    if logs.is_empty() {
        return render::line("no node has uploaded its journal yet");
    }
    let rows = logs.iter().map(|log| {
        let cosigned =
            cosigned_size(&log.cosigned_note).map_or("-".to_owned(), |size| size.to_string());
        let stored = if log.current { log.stored.to_string() } else { "-".to_owned() };
        vec![log.node.clone(), log32(&log.log), standing(log.standing).to_owned(), stored, cosigned]
    });
    render::line(&render::table(
        &["NODE", "JOURNAL", "STANDS", "RECORDS", "COUNTERSIGNED"],
        rows.collect(),
    ))
}

fn cosigned_size(note: &str) -> Option<u64> {
    Some(cortex_audit::SignedNote::parse(note.as_bytes()).ok()?.checkpoint().size)
}

async fn show_node(session: &Session, client: &Client, named: &str) -> Result<(), CliError> {
    let log = journal(client, named).await?;
    let found =
        client.list_audit_findings(pb::ListAuditFindingsRequest { node: log.node.clone() }).await?;
    let node = found.node.unwrap_or_default();
    if session.json() {
        return render::json(&view::audit::Findings::new(&node, &found.commits));
    }
    for line in describe(&log, &node, &found.commits) {
        render::line(&line)?;
    }
    Ok(())
}

fn describe(
    log: &pb::AuditLog,
    node: &pb::NodeAudit,
    commits: &[pb::AuditNodeCommit],
) -> Vec<String> {
    let mut out = vec![
        format!("node     {} is {}", safe(&log.node), standing(node.standing)),
        format!("journal  {}", log.log),
        format!("key      {}", safe(&log.vkey)),
        format!(
            "stored   {} records, {} of them countersigned at {}",
            node.stored,
            node.cosigned_size,
            time(node.cosigned_at_ms)
        ),
    ];
    if !node.reason.is_empty() {
        out.push(format!("why      {}", safe(&node.reason)));
    }
    if node.unrecorded > 0 {
        out.push(format!(
            "missing  {} attempts were dispatched and are not in the journal",
            node.unrecorded
        ));
    }
    if node.undispatched > 0 {
        out.push(format!(
            "foreign  {} intents are about attempts that were not dispatched",
            node.undispatched
        ));
    }
    if node.standing() == pb::AuditStanding::Quarantined {
        out.push("hint     the node gets no work; export the evidence with 'cortex audit export', then 'cortex audit settle'".to_owned());
    }
    out.push(String::new());
    for commit in commits {
        for event in commit.events.iter().filter_map(|event| event.kind.as_ref()) {
            out.push(format!("{}  {}", time(commit.at_ms), event_words(event)));
        }
    }
    out
}

fn event_words(event: &Kind) -> String {
    match event {
        Kind::LogOpened(o) if o.predecessor.is_empty() => {
            format!("journal {} begins", log32(&o.log))
        }
        Kind::LogOpened(o) => {
            format!("journal {} begins and follows {}", log32(&o.log), log32(&o.predecessor))
        }
        Kind::Suspected(s) => format!("suspect: {}", safe(&s.reason)),
        Kind::Quarantined(q) => format!(
            "QUARANTINED, {}: {} ({} notes are kept)",
            q.code().as_str_name().trim_start_matches("AUDIT_REJECT_CODE_").to_lowercase(),
            safe(&q.reason),
            q.notes.len()
        ),
        Kind::Settled(s) => format!("settled by {}: {}", actor(s.by.as_ref()), safe(&s.reason)),
        Kind::LogRetired(r) => {
            format!("journal {} closed at {}: {}", log32(&r.log), r.size, safe(&r.reason))
        }
        Kind::Unrecorded(u) => format!(
            "attempt {} of task {} was dispatched and is not in the journal",
            u.attempt,
            safe(&u.task_id)
        ),
        Kind::Recorded(r) => {
            format!("attempt {} of task {} was recorded after all", r.attempt, safe(&r.task_id))
        }
        Kind::Undispatched(u) => {
            format!("record {} is about {}, which was not dispatched", u.seq, safe(&u.cmd))
        }
    }
}

async fn show_records(
    session: &Session,
    client: &Client,
    named: &str,
    from: u64,
    count: u64,
) -> Result<(), CliError> {
    let log = journal(client, named).await?;
    let request = pb::ReadAuditRecordsRequest {
        log: log.log,
        from_seq: from,
        to_seq: from.saturating_add(count),
        follow: false,
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

async fn show_task(session: &Session, id: &str) -> Result<(), CliError> {
    let id = client::task_id(id)?;
    let client = session.connect().await?;
    let story = story::of_task(&client, &id).await?;
    if session.json() {
        return render::json(&story);
    }
    if story.is_empty() {
        return render::line("no journal has uploaded a record about this task yet");
    }
    story::tell(&story).iter().skip(1).try_for_each(|line| render::line(line))
}
