//! How machines come in and are let in: what the registry answers, and what it records.

use crate::support::{Node, Site, refused};
use cortex_model::Code;
use cortex_model::proto as pb;

#[tokio::test]
async fn a_machine_that_needs_approval_holds_no_tunnel_before_it() {
    let site = Site::start(2).await;
    let grant = pb::JoinGrant { uses: 1, require_approval: true, ..Default::default() };
    let token = site.join_token("default", grant).await;
    let mut node = Node::new("n1");
    let answer = node.join(&site, 0, &token).await.unwrap();
    assert_eq!((answer.state(), answer.certificate), (pb::Enrolment::Pending, None));
    assert!(answer.retry_after_ms > 0);
    let again = node.join(&site, 1, &token).await.unwrap();
    assert_eq!(again.state(), pb::Enrolment::Pending);
    let mut root = site.user_at(1, &site.root).await;
    let approve = pb::ApproveNodeRequest { node: "n1".into(), reason: "known".into() };
    let approved = root.access.approve_node(approve).await.unwrap().into_inner();
    let registration = approved.registration.unwrap();
    assert_eq!(
        (registration.state(), registration.reason.as_str()),
        (pb::Enrolment::Approved, "known")
    );
    assert_eq!(node.join(&site, 0, &token).await.unwrap().state(), pb::Enrolment::Approved);
    node.tunnel(&site, 1).await.unwrap().welcomed().await;
}

#[tokio::test]
async fn a_rejected_machine_never_comes_in() {
    let site = Site::start(1).await;
    let grant = pb::JoinGrant { uses: 1, require_approval: true, ..Default::default() };
    let token = site.join_token("default", grant).await;
    let mut node = Node::new("n1");
    node.join(&site, 0, &token).await.unwrap();
    let mut root = site.user(&site.root).await;
    let reject = pb::RejectNodeRequest { node: "n1".into(), reason: String::new() };
    root.access.reject_node(reject).await.unwrap();
    refused(node.join(&site, 0, &token).await, Code::NodeRevoked, "after the rejection");
    let approve = pb::ApproveNodeRequest { node: "n1".into(), reason: String::new() };
    refused(root.access.approve_node(approve).await, Code::WrongStanding, "approve");
}

#[tokio::test]
async fn a_taken_id_is_given_once_and_the_other_machine_gets_one_beside_it() {
    let site = Site::start(1).await;
    let first = site.node("default", "desk").await;
    let second = site.node("default", "desk").await;
    assert_eq!(first.name, "desk");
    assert!(second.name.starts_with("desk-") && second.name.len() == 13, "{}", second.name);
    let nameless = site.node("default", "").await;
    assert!(nameless.name.starts_with('n'), "{}", nameless.name);
    let elsewhere = site.node("other", "desk").await;
    assert_eq!(elsewhere.name, "desk");
}

#[tokio::test]
async fn labels_of_the_join_token_are_the_nodes_and_win() {
    let site = Site::start(1).await;
    let labels = [("site".to_owned(), "berlin".to_owned())].into();
    let token =
        site.join_token("default", pb::JoinGrant { uses: 1, labels, ..Default::default() }).await;
    let mut node = Node::new("n1");
    node.join(&site, 0, &token).await.unwrap();
    let (_tunnel, _) = node.tunnel(&site, 0).await.unwrap().welcomed().await;
    let mut root = site.user(&site.root).await;
    let shown = root.cortex.get_node(pb::GetNodeRequest { node: "n1".into() }).await.unwrap();
    let shown = shown.into_inner().node.unwrap();
    assert_eq!(shown.manifest.unwrap().labels["site"], "berlin");
    assert_eq!(shown.registration.unwrap().labels["site"], "berlin");
}
