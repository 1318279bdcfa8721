//! "Why is this not running?": from the very state that decides, so it can hold no other opinion.

use crate::queue::ClassKey;
use crate::scheduler::{Entry, Scheduler};
use cortex_model::limits::EXPLAIN_NODES_MAX;
use cortex_model::{NodeFacts, NodeId, TaskKey, TaskState, UnixMillis};

/// Why a task is where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// One sentence.
    pub summary: String,
    /// What would change it.
    pub suggestions: Vec<String>,
    /// Nodes, the most suitable first.
    pub nodes: Vec<Verdict>,
    /// Nodes beyond those.
    pub more_nodes: u64,
    /// Tasks of the same kind before it.
    pub queued_ahead: u64,
}

/// One node and the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The node.
    pub node: NodeId,
    /// It could take the task.
    pub eligible: bool,
    /// It is connected.
    pub online: bool,
    /// What it lacks.
    pub lacks: Vec<String>,
}

impl Scheduler {
    /// Explains a task that is not over; `None` when it is, or is not known here.
    #[must_use]
    pub fn explain(&self, key: &TaskKey, now: UnixMillis) -> Option<Explanation> {
        let entry = self.tasks.get(key)?;
        if let Some(why) = &entry.quarantine {
            return Some(Explanation {
                summary: format!(
                    "its history is inconsistent, so nothing more is done with it: {why}"
                ),
                suggestions: vec!["look at 'cortex task history' and report it".to_owned()],
                ..Explanation::default()
            });
        }
        Some(match entry.view.state {
            TaskState::Pending => self.explain_pending(entry, now),
            TaskState::Running => self.explain_running(entry, now),
            TaskState::Indeterminate => Explanation {
                summary: format!(
                    "nobody can say how attempt {} ended: {}",
                    entry.view.attempt, entry.view.evidence
                ),
                suggestions: vec![format!(
                    "settle it: cortex task resolve {} --as succeeded|failed|retry",
                    key.task
                )],
                ..Explanation::default()
            },
            over @ (TaskState::Succeeded
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Denied
            | TaskState::Expired) => Explanation {
                summary: format!("it is over: {}", over.name()),
                ..Explanation::default()
            },
        })
    }

    fn explain_running(&self, entry: &Entry, now: UnixMillis) -> Explanation {
        let Some(node) = entry.node() else { return Explanation::default() };
        let summary = if self.nodes.present.contains_key(&node) {
            let wish =
                if entry.view.cancel_requested { "; its cancellation was passed on" } else { "" };
            format!("attempt {} runs on {}{wish}", entry.view.attempt, node.node)
        } else {
            let since = entry.missing_since.map_or(0, |t| now.since(t)) / 1000;
            format!(
                "attempt {} was started on {}, which has not been connected for {since} s",
                entry.view.attempt, node.node
            )
        };
        let mut suggestions = Vec::new();
        if !self.nodes.present.contains_key(&node) {
            suggestions.push(format!(
                "start the agent on {}: it reports what became of the attempt",
                node.node
            ));
            if let Some(due) = crate::decide::run_due(&entry.view) {
                let left = due.since(now) / 1000;
                suggestions
                    .push(format!("otherwise the attempt counts as unaccounted for in {left} s"));
            }
        }
        Explanation { summary, suggestions, ..Explanation::default() }
    }

    fn explain_pending(&self, entry: &Entry, now: UnixMillis) -> Explanation {
        let mut verdicts = self.verdicts(&entry.class);
        let eligible = verdicts.iter().filter(|v| v.eligible).count();
        let online = verdicts.iter().filter(|v| v.eligible && v.online).count();
        let all = verdicts.len();
        verdicts.sort_by_key(|v| (!v.eligible, !v.online, v.lacks.len(), v.node.clone()));
        let needs = entry.class.requirements.join(", ");
        let (summary, suggestions) = if let Some(at) = entry.view.retry_at.filter(|t| *t > now) {
            (format!("waits {} ms before its next attempt", at.since(now)), Vec::new())
        } else if let Some((node, _)) = &entry.offer {
            (format!("is being offered to {}", node.node), Vec::new())
        } else if all == 0 {
            (
                "no node has ever connected to this workspace".to_owned(),
                vec!["start an agent".to_owned()],
            )
        } else if eligible == 0 {
            let closest =
                verdicts.first().map(|v| format!("closest is {}: {}", v.node, v.lacks.join("; ")));
            (format!("no node meets {needs}"), closest.into_iter().collect())
        } else if online == 0 {
            let names: Vec<&str> =
                verdicts.iter().filter(|v| v.eligible).take(3).map(|v| v.node.as_str()).collect();
            (
                format!("the nodes that meet {needs} are offline"),
                vec![format!("start the agent on {}", names.join(" or "))],
            )
        } else {
            (
                format!(
                    "{online} nodes meet {needs}, and none has a free slot or takes an offer now"
                ),
                entry
                    .refusals
                    .last()
                    .map(|r| format!("{} did not take it: {}", r.node, r.why))
                    .into_iter()
                    .collect(),
            )
        };
        let queued_ahead = self
            .queue
            .classes
            .get(&entry.class)
            .map_or(0, |c| c.waiting.range(..entry.position()).count() as u64);
        let more_nodes = all.saturating_sub(EXPLAIN_NODES_MAX) as u64;
        verdicts.truncate(EXPLAIN_NODES_MAX);
        Explanation { summary, suggestions, nodes: verdicts, more_nodes, queued_ahead }
    }

    fn verdicts(&self, class: &ClassKey) -> Vec<Verdict> {
        let verdict = |node: &NodeId, facts: &NodeFacts, online| {
            let lacks = class.lacks(node, facts);
            Verdict { node: node.clone(), eligible: lacks.is_empty(), online, lacks }
        };
        let present = self.nodes.present.iter().filter(|(k, _)| k.workspace == class.workspace);
        let absent = self.nodes.absent.iter().filter(|(k, _)| k.workspace == class.workspace);
        present
            .map(|(k, n)| verdict(&k.node, &n.view.facts, true))
            .chain(absent.map(|(k, a)| verdict(&k.node, &a.facts, false)))
            .collect()
    }
}
