//! `cortex task explain`: why is this task not running, and what would change it?

use crate::client;
use crate::commands::Session;
use crate::error::CliError;
use crate::render;
use crate::words::safe;
use cortex_model::proto as pb;
use serde::Serialize;

#[derive(Serialize)]
struct Explanation {
    summary: String,
    suggestions: Vec<String>,
    nodes: Vec<Verdict>,
    more_nodes: u64,
    queued_ahead: u64,
}

#[derive(Serialize)]
struct Verdict {
    node: String,
    eligible: bool,
    online: bool,
    lacks: Vec<String>,
}

/// Prints the explanation.
pub(crate) async fn run(session: &Session, id: &str) -> Result<(), CliError> {
    let task_id = client::task_id(id)?;
    let why = session.connect().await?.explain_task(pb::ExplainTaskRequest { task_id }).await?;
    if session.json() {
        return render::json(&Explanation {
            summary: why.summary,
            suggestions: why.suggestions,
            nodes: why
                .nodes
                .into_iter()
                .map(|n| Verdict {
                    node: n.node,
                    eligible: n.eligible,
                    online: n.online,
                    lacks: n.lacks,
                })
                .collect(),
            more_nodes: why.more_nodes,
            queued_ahead: why.queued_ahead,
        });
    }
    describe(&why).iter().try_for_each(|l| render::line(l))
}

fn describe(why: &pb::ExplainTaskResponse) -> Vec<String> {
    let mut out = vec![safe(&why.summary)];
    if why.queued_ahead > 0 {
        out.push(format!("  {} tasks are ahead of it", why.queued_ahead));
    }
    for n in &why.nodes {
        let online = if n.online { "online" } else { "offline" };
        let verdict = match (n.eligible, n.lacks.is_empty()) {
            (true, true) => "could run it".to_owned(),
            (true, false) => format!("could run it, but {}", safe(&n.lacks.join("; "))),
            (false, true) => "cannot run it".to_owned(),
            (false, false) => safe(&n.lacks.join("; ")),
        };
        out.push(format!("  node {} ({online}): {verdict}", n.node));
    }
    if why.more_nodes > 0 {
        out.push(format!("  and {} more nodes", why.more_nodes));
    }
    out.extend(why.suggestions.iter().map(|s| format!("  try: {}", safe(s))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_names_nodes_and_ways_out() {
        let why = pb::ExplainTaskResponse {
            summary: "no node has docker".into(),
            suggestions: vec!["install docker on n1".into()],
            nodes: vec![pb::NodeVerdict {
                node: "n1".into(),
                eligible: false,
                online: true,
                lacks: vec!["needs docker, has no docker".into()],
            }],
            more_nodes: 3,
            queued_ahead: 0,
        };
        assert_eq!(
            describe(&why),
            [
                "no node has docker",
                "  node n1 (online): needs docker, has no docker",
                "  and 3 more nodes",
                "  try: install docker on n1",
            ]
        );
    }

    #[test]
    fn a_node_that_only_lacks_time_is_told_with_why() {
        let node = |lacks: &[&str]| pb::NodeVerdict {
            node: "n1".into(),
            eligible: true,
            online: true,
            lacks: lacks.iter().map(|l| (*l).to_owned()).collect(),
        };
        let nodes = vec![node(&["has none of its 5 slots free"]), node(&[])];
        let why = pb::ExplainTaskResponse { summary: "busy".into(), nodes, ..Default::default() };
        assert_eq!(
            describe(&why)[1..],
            [
                "  node n1 (online): could run it, but has none of its 5 slots free",
                "  node n1 (online): could run it",
            ]
        );
    }
}
