//! Two workspaces on one deployment: what is in the other one does not exist, whatever is asked and however it is guessed.

use crate::support::{Site, User, code, id_of, next, refused, until};
use cortex_model::Code;
use cortex_model::proto as pb;

async fn both(site: &Site) -> (User, User) {
    let mut users = Vec::new();
    for workspace in ["blue", "red"] {
        let token = site.token(workspace, pb::Role::Admin, "anna").await;
        users.push(site.user(&token).await);
    }
    let red = users.pop().unwrap();
    (users.pop().unwrap(), red)
}

#[tokio::test]
async fn a_task_of_another_workspace_is_not_found_by_any_call() {
    let site = Site::start(1).await;
    let (mut blue, mut red) = both(&site).await;
    let task_id = blue.submit("secret").await.unwrap().task_id;
    let id = || task_id.clone();
    let gone = Code::TaskNotFound;
    refused(red.cortex.get_task(pb::GetTaskRequest { task_id: id() }).await, gone, "get");
    let cancel = pb::CancelTaskRequest { task_id: id(), ..Default::default() };
    refused(red.cortex.cancel_task(cancel).await, gone, "cancel");
    let resolve = pb::ResolveTaskRequest {
        task_id: id(),
        r#as: pb::ResolveAs::Failed.into(),
        reason: "mine".into(),
        ..Default::default()
    };
    refused(red.cortex.resolve_task(resolve).await, gone, "resolve");
    refused(
        red.cortex.explain_task(pb::ExplainTaskRequest { task_id: id() }).await,
        gone,
        "explain",
    );
    refused(red.cortex.type_terminal(typed(&task_id)).await, gone, "type");
    let history = pb::GetTaskHistoryRequest { task_id: id(), ..Default::default() };
    refused(red.cortex.get_task_history(history).await, gone, "history");
    for include_output in [false, true] {
        let watch = pb::WatchTaskRequest { task_id: id(), include_output, ..Default::default() };
        let mut updates = red.cortex.watch_task(watch).await.unwrap().into_inner();
        refused(next(&mut updates).await, gone, "watch");
    }
    let listed = red.cortex.list_tasks(pb::ListTasksRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().tasks, []);
    // It is there, untouched.
    let task = blue.cortex.get_task(pb::GetTaskRequest { task_id: id() }).await.unwrap();
    assert!(!task.into_inner().task.unwrap().cancel_requested);
}

fn typed(task_id: &str) -> pb::TypeTerminalRequest {
    let (task_id, attachment) = (task_id.to_owned(), "a-1".to_owned());
    pb::TypeTerminalRequest { task_id, attachment, attach: true, ..Default::default() }
}

#[tokio::test]
async fn who_may_not_submit_types_into_no_terminal() {
    let site = Site::start(1).await;
    let mut operator = site.user(&site.token("blue", pb::Role::Operator, "olga").await).await;
    let mut viewer = site.user(&site.token("blue", pb::Role::Viewer, "vera").await).await;
    let shell = pb::ShellAction {
        argv: vec![b"bash".to_vec()],
        terminal: Some(pb::Terminal::default()),
        ..Default::default()
    };
    let action = Some(pb::Action { kind: Some(pb::action::Kind::Shell(shell)) });
    let spec = Some(pb::TaskSpec { action, ..Default::default() });
    let request = pb::SubmitTaskRequest { spec, ..Default::default() };
    let task = operator.cortex.submit_task(request).await.unwrap().into_inner().task.unwrap();
    let id = task.task_id.as_str();
    refused(viewer.cortex.type_terminal(typed(id)).await, Code::Forbidden, "a viewer");
    // Whoever may is only told that nothing runs yet.
    let answer = operator.cortex.type_terminal(typed(id)).await.unwrap().into_inner();
    assert_eq!(answer.standing, i32::from(pb::TerminalStanding::None));
    // In another's name only who may name others.
    let named = pb::Actor { kind: 1, id: "somebody-else".to_owned(), ..Default::default() };
    let request = pb::TypeTerminalRequest { actor: Some(named), ..typed(id) };
    assert_ne!(code(operator.cortex.type_terminal(request).await), "ok");
    let no_name = pb::TypeTerminalRequest { attachment: String::new(), ..typed(id) };
    refused(operator.cortex.type_terminal(no_name).await, Code::Malformed, "without a name");
    let large =
        pb::TypeTerminalRequest { data: vec![0; 16 * 1024 + 1], attach: false, ..typed(id) };
    refused(operator.cortex.type_terminal(large).await, Code::TooLarge, "too much at once");
    let plain = operator.submit("plain").await.unwrap().task_id;
    refused(operator.cortex.type_terminal(typed(&plain)).await, Code::NoTerminal, "without one");
}

#[tokio::test]
async fn the_same_key_is_another_task_in_another_workspace() {
    let site = Site::start(1).await;
    let (mut blue, mut red) = both(&site).await;
    let (ours, theirs) = (blue.submit("k").await.unwrap(), red.submit("k").await.unwrap());
    assert_ne!(ours.task_id, theirs.task_id);
    assert_eq!((ours.workspace.as_str(), theirs.workspace.as_str()), ("blue", "red"));
}

#[tokio::test]
async fn a_node_of_another_workspace_is_not_found_by_any_call() {
    let site = Site::start(1).await;
    let (mut blue, mut red) = both(&site).await;
    let node = site.node("blue", "desk").await;
    let (_tunnel, welcome) = node.tunnel(&site, 0).await.unwrap().welcomed().await;
    assert_eq!(welcome.workspace, "blue");
    let gone = Code::NodeNotFound;
    let name = || node.name.clone();
    refused(red.cortex.get_node(pb::GetNodeRequest { node: name() }).await, gone, "get");
    let reason = String::new;
    refused(
        red.access.approve_node(pb::ApproveNodeRequest { node: name(), reason: reason() }).await,
        gone,
        "approve",
    );
    refused(
        red.access.reject_node(pb::RejectNodeRequest { node: name(), reason: reason() }).await,
        gone,
        "reject",
    );
    refused(
        red.access
            .quarantine_node(pb::QuarantineNodeRequest { node: name(), reason: reason() })
            .await,
        gone,
        "quarantine",
    );
    refused(
        red.access.revoke_node(pb::RevokeNodeRequest { node: name(), reason: reason() }).await,
        gone,
        "revoke",
    );
    let listed = red.cortex.list_nodes(pb::ListNodesRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().nodes, []);
    let own = blue.cortex.list_nodes(pb::ListNodesRequest::default()).await.unwrap().into_inner();
    let own: Vec<_> = own.nodes.iter().map(|n| (n.node.as_str(), n.online)).collect();
    assert_eq!(own, [("desk", true)]);
    // An explanation names no node of others either.
    let task_id = red.submit("t").await.unwrap().task_id;
    let why =
        red.cortex.explain_task(pb::ExplainTaskRequest { task_id }).await.unwrap().into_inner();
    assert!(!format!("{why:?}").contains("desk"), "{why:?}");
}

#[tokio::test]
async fn a_token_of_another_workspace_is_not_found_and_not_listed() {
    let site = Site::start(1).await;
    let (mut blue, mut red) = both(&site).await;
    let ours = id_of(&site.token("blue", pb::Role::Viewer, "bert").await);
    let revoke = |token_id: &str| pb::RevokeTokenRequest {
        token_id: token_id.to_owned(),
        reason: String::new(),
    };
    refused(red.access.revoke_token(revoke(&ours)).await, Code::TokenNotFound, "revoke");
    refused(red.access.revoke_token(revoke("../../blue/t-x")).await, Code::TokenNotFound, "a path");
    let listed =
        red.access.list_tokens(pb::ListTokensRequest { all: true, ..Default::default() }).await;
    let listed = listed.unwrap().into_inner().tokens;
    assert!(listed.iter().all(|t| t.workspace == "red" && t.token_id != ours), "{listed:?}");
    assert_eq!(code(blue.access.revoke_token(revoke(&ours)).await), "ok");
}

#[tokio::test]
async fn a_workspace_that_calls_too_often_waits_and_the_others_do_not() {
    let site = Site::slow(5).await;
    let (greedy, modest) = (
        site.token("greedy", pb::Role::Viewer, "gina").await,
        site.token("modest", pb::Role::Viewer, "mia").await,
    );
    let who = async |token: &str| {
        let mut user = site.user(token).await;
        user.access.who_am_i(pb::WhoAmIRequest {}).await
    };
    // Twice the rate may come at once.
    let mut user = site.user(&greedy).await;
    let mut codes = Vec::new();
    for _ in 0..40 {
        codes.push(code(user.access.who_am_i(pb::WhoAmIRequest {}).await));
    }
    assert_eq!(codes[0], "ok");
    let first = codes.iter().position(|code| code == Code::RateLimited.as_str());
    assert!(first.is_some_and(|at| at >= 10), "{codes:?}");
    let status = user.access.who_am_i(pb::WhoAmIRequest {}).await.unwrap_err();
    assert!(status.message().contains("wait"), "{status:?}");
    // Another of the same workspace shares the limit; another workspace does not.
    let other = site.token("greedy", pb::Role::Viewer, "gus").await;
    refused(who(&other).await, Code::RateLimited, "the same workspace");
    assert_eq!(code(who(&modest).await), "ok");
    until("its turn to come", async || who(&greedy).await.ok()).await;
}
