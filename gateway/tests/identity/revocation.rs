//! What is revoked at one gateway is cut at the other, within two seconds.

use crate::support::{Site, Tunnel, id_of, next, refused, until};
use cortex_model::Code;
use cortex_model::proto as pb;
use std::time::{Duration, Instant};

/// How soon a revocation must have taken effect everywhere.
const SOON: Duration = Duration::from_secs(2);

async fn cut(tunnel: &mut Tunnel, since: Instant, expected: Code) {
    assert_eq!(tunnel.refused().await, expected.as_str());
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert!(tunnel.next().await.is_none(), "the tunnel goes on after its end");
}

#[tokio::test]
async fn a_revoked_nodes_tunnel_is_cut_at_the_other_gateway_and_never_opens_again() {
    let site = Site::start(2).await;
    let (node, other) = (site.node("default", "n1").await, site.node("default", "n2").await);
    let (mut tunnel, _) = node.tunnel(&site, 0).await.unwrap().welcomed().await;
    let (mut bystander, _) = other.tunnel(&site, 0).await.unwrap().welcomed().await;
    let token = node.mint(&site, 0).await.unwrap();
    let mut root = site.user_at(1, &site.root).await;
    let since = Instant::now();
    let revoke = pb::RevokeNodeRequest { node: "n1".into(), reason: "stolen".into() };
    root.access.revoke_node(revoke).await.unwrap();
    cut(&mut tunnel, since, Code::NodeRevoked).await;
    for gateway in [0, 1] {
        refused(node.mint(&site, gateway).await, Code::NodeRevoked, "a new token");
        let opened = node.tunnel_with(&site, gateway, Some(&token)).await;
        refused(opened, Code::NodeRevoked, "the old token");
    }
    let left = tokio::time::timeout(Duration::from_millis(300), bystander.down.message()).await;
    assert!(!matches!(left, Ok(Ok(None) | Err(_))), "another node's tunnel was cut too");
}

#[tokio::test]
async fn a_quarantined_node_is_cut_off_until_it_is_approved_again() {
    let site = Site::start(2).await;
    let node = site.node("default", "n1").await;
    let (mut tunnel, _) = node.tunnel(&site, 0).await.unwrap().welcomed().await;
    let mut root = site.user_at(1, &site.root).await;
    let since = Instant::now();
    let quarantine = pb::QuarantineNodeRequest { node: "n1".into(), reason: "odd".into() };
    root.access.quarantine_node(quarantine).await.unwrap();
    cut(&mut tunnel, since, Code::NodeNotApproved).await;
    refused(node.mint(&site, 0).await, Code::NodeNotApproved, "in quarantine");
    let approve = pb::ApproveNodeRequest { node: "n1".into(), reason: "looked at it".into() };
    root.access.approve_node(approve).await.unwrap();
    let again = until("the other gateway to know", async || node.tunnel(&site, 0).await.ok()).await;
    again.welcomed().await;
}

#[tokio::test]
async fn a_node_that_leaves_is_gone_for_good() {
    let site = Site::start(2).await;
    let node = site.node("default", "n1").await;
    let (mut tunnel, _) = node.tunnel(&site, 1).await.unwrap().welcomed().await;
    let channel = node.channel(&site, 0).await.unwrap();
    let mut client = cortex_proto::v1::node_identity_client::NodeIdentityClient::new(channel);
    let since = Instant::now();
    client.leave(pb::LeaveRequest { reason: "sold".into() }).await.unwrap();
    cut(&mut tunnel, since, Code::NodeRevoked).await;
    refused(node.mint(&site, 0).await, Code::NodeRevoked, "after it left");
    let mut root = site.user(&site.root).await;
    let shown = root.cortex.get_node(pb::GetNodeRequest { node: "n1".into() }).await.unwrap();
    let registration = shown.into_inner().node.unwrap().registration.unwrap();
    assert_eq!((registration.state(), registration.reason.as_str()), (pb::Enrolment::Left, "sold"));
}

#[tokio::test]
async fn a_revoked_token_stops_at_the_other_gateway_and_its_watches_end() {
    let site = Site::start(2).await;
    let task = site.user(&site.root).await.submit("t").await.unwrap();
    let text = site.token("default", pb::Role::Viewer, "anna").await;
    let mut anna = until("the other gateway to know the token", async || {
        let mut anna = site.user_at(1, &text).await;
        anna.access.who_am_i(pb::WhoAmIRequest {}).await.ok().map(|_| anna)
    })
    .await;
    let watch = pb::WatchTaskRequest { task_id: task.task_id, ..Default::default() };
    let mut updates = anna.cortex.watch_task(watch).await.unwrap().into_inner();
    // An event and that it is all: from here on it only waits.
    for _ in 0..2 {
        next(&mut updates).await.unwrap().unwrap();
    }
    let mut root = site.user_at(0, &site.root).await;
    let since = Instant::now();
    let revoke = pb::RevokeTokenRequest { token_id: id_of(&text), reason: "left".into() };
    let token = root.access.revoke_token(revoke.clone()).await.unwrap().into_inner().token.unwrap();
    assert_eq!(token.state(), pb::TokenState::Revoked);
    refused(next(&mut updates).await, Code::TokenRevoked, "the watch");
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    refused(anna.access.who_am_i(pb::WhoAmIRequest {}).await, Code::TokenRevoked, "a call");
    // Again is fine.
    root.access.revoke_token(revoke).await.unwrap();
}

#[tokio::test]
async fn a_revoked_join_token_enrols_nobody_and_its_nodes_stay() {
    let site = Site::start(1).await;
    let text = site.join_token("default", pb::JoinGrant { uses: 5, ..Default::default() }).await;
    let mut first = crate::support::Node::new("n1");
    first.join(&site, 0, &text).await.unwrap();
    let mut root = site.user(&site.root).await;
    let revoke = pb::RevokeTokenRequest { token_id: id_of(&text), reason: String::new() };
    root.access.revoke_token(revoke).await.unwrap();
    let mut second = crate::support::Node::new("n2");
    refused(second.join(&site, 0, &text).await, Code::TokenRevoked, "a second machine");
    first.tunnel(&site, 0).await.unwrap().welcomed().await;
}
