//! Which of a node's connections counts when they end at different gateways: the one that came last, and only that one acts.

use crate::support::cut::Cut;
use crate::support::{Node, Site, Tunnel, echo, stays, until};
use cortex_log::{EventLog, MemoryLog, OutputKey};
use cortex_model::Code;
use cortex_model::proto as pb;
use pb::agent_frame::Body as Up;
use pb::gateway_frame::Body as Down;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

/// A connection of a session of this node, up to its welcome.
async fn open(site: &Site, node: &Node, gateway: usize, session: &str, generation: u64) -> Tunnel {
    let opened = node.tunnel_as(site, gateway, session, generation).await.unwrap();
    opened.welcomed().await.0
}

async fn gateway_of(site: &Site, node: &str) -> Option<String> {
    let mut root = site.user_at(1, &site.root).await;
    let request = pb::GetNodeRequest { node: node.to_owned() };
    let node = root.cortex.get_node(request).await.unwrap().into_inner().node.unwrap();
    node.online.then_some(node.gateway)
}

async fn suspected(site: &Site, gateway: usize, node: &str) -> u64 {
    let mut root = site.user_at(gateway, &site.root).await;
    let request = pb::GetNodeRequest { node: node.to_owned() };
    let node = root.cortex.get_node(request).await.unwrap().into_inner().node.unwrap();
    node.registration.unwrap().clone_suspected_at_ms
}

#[tokio::test]
async fn a_tunnel_at_another_gateway_ends_the_first_one_before_it_is_welcomed() {
    let site = Site::start(2).await;
    let node = site.node("default", "n1").await;
    let mut first = open(&site, &node, 0, "a", 1).await;
    let mut second = open(&site, &node, 1, "b", 1).await;
    second.beat();
    // It was told already: what comes next on it is the refusal and the end.
    assert_eq!(first.refused().await, Code::Superseded.as_str());
    assert!(first.next().await.is_none(), "the ghost goes on");
    until("only the second to be seen", async || {
        gateway_of(&site, "n1").await.filter(|gateway| gateway == "g1")
    })
    .await;
    assert_eq!(offered(&site, "b-1", "t1").await, Some(()), "the second takes work");
    assert!(matches!(second.next().await, Some(Down::Offer(_))));
    assert_eq!(offered(&site, "a-1", "t2").await, None, "nobody listens for the ghost");
}

#[tokio::test]
async fn an_older_connection_of_a_session_is_a_ghost_at_every_gateway_also_when_the_newer_one_is_gone()
 {
    let site = Site::start(2).await;
    let node = site.node("default", "n1").await;
    let newer = open(&site, &node, 0, "a", 5).await;
    for (gateway, generation) in [(1, 4), (1, 5), (0, 5)] {
        let mut ghost = node.tunnel_as(&site, gateway, "a", generation).await.unwrap();
        assert_eq!(ghost.refused().await, Code::Superseded.as_str(), "{generation} at {gateway}");
    }
    drop(newer);
    until("the newer one to be gone", async || {
        gateway_of(&site, "n1").await.is_none().then_some(())
    })
    .await;
    let mut ghost = node.tunnel_as(&site, 1, "a", 4).await.unwrap();
    assert_eq!(ghost.refused().await, Code::Superseded.as_str());
    open(&site, &node, 1, "a", 6).await;
}

#[tokio::test]
async fn two_live_holders_of_a_key_are_a_suspected_clone_wherever_their_tunnels_end() {
    let site = Site::start(2).await;
    let node = site.node("default", "n1").await;
    let mut held = Vec::new();
    // A restart is none, nor is one late connection of the process before.
    for (gateway, session, generation) in [(0, "a", 1), (1, "b", 1), (0, "a", 2)] {
        held.push(open(&site, &node, gateway, session, generation).await);
        assert_eq!(suspected(&site, gateway, "n1").await, 0);
    }
    held.push(open(&site, &node, 1, "b", 2).await);
    for gateway in [0, 1] {
        until("the suspicion", async || (suspected(&site, gateway, "n1").await > 0).then_some(()))
            .await;
    }
}

/// Offers a task to a session as a scheduler does; none when nobody listens for it.
async fn offered(site: &Site, session: &str, key: &str) -> Option<()> {
    let mut root = site.user_at(1, &site.root).await;
    let task = root.submit(key).await.unwrap();
    let offer = pb::Offer {
        workspace: "default".into(),
        task_id: task.task_id,
        attempt: 1,
        fence: task.revision,
        spec: echo(key).spec,
        ..Default::default()
    };
    let offer = pb::DispatchOffer { offer: Some(offer), next_n: 2, ..Default::default() };
    let body = pb::dispatch_request::Body::Offer(offer);
    let request = pb::DispatchRequest { scheduler: "s".into(), body: Some(body) };
    let subject = format!("cx.n.default.n1.{session}");
    let (log, bytes) = (site.log.clone(), request.encode_to_vec());
    let asked = log.request(&subject, bytes.into(), Duration::from_millis(300)).await;
    // The answer comes with the node's claim, which nobody made yet.
    (asked != Err(cortex_log::LogError::NoResponders)).then_some(())
}

async fn next_offer(tunnel: &mut Tunnel) -> pb::Offer {
    match tunnel.next().await {
        Some(Down::Offer(offer)) => offer,
        other => panic!("{other:?}"),
    }
}

fn claim(offer: &pb::Offer) -> Up {
    Up::Claim(pb::Claim {
        offer_id: offer.offer_id,
        workspace: offer.workspace.clone(),
        task_id: offer.task_id.clone(),
        attempt: offer.attempt,
        fence: offer.fence,
        slots_free: 0,
    })
}

fn output(offer: &pb::Offer) -> Up {
    let chunk = pb::OutputChunk { stream: 1, offset: 0, data: b"late"[..].into() };
    Up::Output(pb::OutputReport {
        workspace: offer.workspace.clone(),
        task_id: offer.task_id.clone(),
        attempt: offer.attempt,
        chunk: Some(chunk),
    })
}

fn outcome(offer: &pb::Offer, code: i32) -> Up {
    let ending = pb::Ending { kind: Some(pb::ending::Kind::Exited(pb::Exited { code })) };
    Up::Outcome(pb::OutcomeReport {
        workspace: offer.workspace.clone(),
        task_id: offer.task_id.clone(),
        attempt: offer.attempt,
        outcome: Some(pb::Outcome { ending: Some(ending), ..Default::default() }),
        ..Default::default()
    })
}

/// The states of the two tasks, and the output of the first.
async fn told(site: &Site, offers: [&pb::Offer; 2]) -> (Vec<pb::TaskState>, u64) {
    let mut root = site.user_at(1, &site.root).await;
    let mut states = Vec::new();
    for offer in offers {
        let request = pb::GetTaskRequest { task_id: offer.task_id.clone() };
        let task = root.cortex.get_task(request).await.unwrap().into_inner().task.unwrap();
        states.push(task.state());
    }
    let key = OutputKey::new("default", &offers[0].task_id, 1).unwrap();
    (states, site.log.output_end(&key).await.unwrap())
}

#[tokio::test]
async fn a_gateway_that_was_cut_off_does_nothing_for_a_node_that_went_elsewhere() {
    use pb::TaskState::{Pending, Running, Succeeded};
    let shared: Arc<dyn EventLog> = Arc::new(MemoryLog::new(4));
    let cut = Cut::new(shared.clone());
    let site = Site::on([cut.clone(), shared.clone()], shared).await;
    let node = site.node("default", "n1").await;
    let mut ghost = open(&site, &node, 0, "a", 1).await;
    ghost.beat();
    offered(&site, "a-1", "runs").await.unwrap();
    let runs = next_offer(&mut ghost).await;
    ghost.say(claim(&runs)).await;
    assert!(matches!(ghost.next().await, Some(Down::Go(_))));
    offered(&site, "a-1", "waits").await.unwrap();
    let waits = next_offer(&mut ghost).await;
    until("the start to be seen", async || {
        (told(&site, [&runs, &waits]).await.0 == [Running, Pending]).then_some(())
    })
    .await;

    cut.set(true);
    let newer = open(&site, &node, 1, "a", 2).await;
    newer.beat();
    for frame in [claim(&waits), output(&runs), outcome(&runs, 9)] {
        ghost.say(frame).await;
    }
    let unchanged = (vec![Running, Pending], 0);
    stays("the ghost does nothing", Duration::from_secs(1), async || {
        told(&site, [&runs, &waits]).await == unchanged
    })
    .await;

    cut.set(false);
    assert_eq!(ghost.refused().await, Code::Superseded.as_str());
    assert_eq!(told(&site, [&runs, &waits]).await, unchanged, "it acted before it looked");
    newer.say(outcome(&runs, 0)).await;
    until("the outcome through the other gateway", async || {
        (told(&site, [&runs, &waits]).await.0 == [Succeeded, Pending]).then_some(())
    })
    .await;
}
