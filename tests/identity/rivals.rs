//! One key on two machines whose tunnels end at different gateways, over real sockets and a real log.

use crate::machine::{Two, address};
use crate::raw::Stranger;
use crate::support::{Server, wait};
use cortex_proto::v1 as pb;
use cortex_proto::v1::gateway_frame::Body as Down;
use std::time::{Duration, Instant};
use tonic::Streaming;

/// An open tunnel, or the code of the refusal.
type Held = Result<Streaming<pb::GatewayFrame>, String>;

async fn hello(holder: &Stranger, session: &str, generation: u64) -> Held {
    let token = holder.mint().await.unwrap();
    let (first, rest) = holder.hold(Some(&token), session, generation).await.unwrap();
    match first.body {
        Some(Down::Welcome(_)) => Ok(rest),
        Some(Down::Refuse(refuse)) => Err(refuse.error.unwrap().code),
        other => panic!("{other:?}"),
    }
}

/// The code a tunnel is ended with.
async fn end(mut tunnel: Streaming<pb::GatewayFrame>) -> String {
    while let Ok(Some(frame)) = tunnel.message().await {
        if let Some(Down::Refuse(refuse)) = frame.body {
            let error = refuse.error.unwrap();
            assert!(!error.hint.is_empty(), "{error:?}");
            return error.code;
        }
    }
    "none".to_owned()
}

fn shown(gateway: &Server) -> String {
    gateway.cortex(&["node", "show", "m1"]).ok().text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_holders_of_one_key_at_two_gateways_throw_each_other_out_and_are_reported_at_both() {
    let two = Two::start();
    let [a, b] = &two.gateways;
    let join = |gateway: &Server, node: &str| {
        Stranger::with_roots(&two.authority, address(gateway)).enrolled(gateway, node)
    };
    let first = std::thread::scope(|scope| scope.spawn(|| join(a, "m1")).join().unwrap());
    let second = first.copied().facing(b);
    let one = hello(&first, "a", 1).await.unwrap();
    let begun = Instant::now();
    let other = hello(&second, "b", 1).await.unwrap();
    assert_eq!(end(one).await, "CX-0303");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // The first one's older connections are ghosts at either gateway.
    assert_eq!(hello(&second, "b", 1).await.unwrap_err(), "CX-0303");
    assert_eq!(hello(&first, "b", 1).await.unwrap_err(), "CX-0303");
    let one = hello(&first, "a", 2).await.unwrap();
    assert_eq!(end(other).await, "CX-0303");
    for gateway in [a, b] {
        assert!(!shown(gateway).contains("two machines"), "so far it can be a restart");
    }
    let last = hello(&second, "b", 2).await.unwrap();
    assert_eq!(end(one).await, "CX-0303");
    for gateway in [a, b] {
        wait::until("the suspicion", || shown(gateway).contains("two machines").then_some(()));
        let json = gateway.cortex(&["node", "show", "m1", "--json"]).ok().json();
        assert!(json["registration"]["clone_suspected_at_ms"].as_u64().is_some_and(|at| at > 0));
    }
    let said = b.up_process().stderr();
    assert!(said.contains("two machines") && said.contains("m1"), "{said}");
    drop(last);
    // Both gateways go on serving others.
    for (gateway, name) in [(a, "m2"), (b, "m3")] {
        let other = std::thread::scope(|scope| scope.spawn(|| join(gateway, name)).join().unwrap());
        assert!(hello(&other, "c", 1).await.is_ok());
    }
}
