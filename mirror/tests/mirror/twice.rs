//! Two mirrors with one key on one log: whatever they are told and in whatever order, the key signs one history.

use crate::World;
use crate::node::Node;
use crate::storage::rewritten;
use cortex_audit::SignedNote;
use cortex_model::proto as pb;
use pb::mirror_reply::Body as Reply;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rounds of uploads, each to both mirrors at the same time.
const ROUNDS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mirrors_never_sign_two_histories() {
    for seed in 0..6 {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let one = world.mirror_named("m1", Duration::from_secs(600)).await;
    let two = world.mirror_named("m2", Duration::from_secs(600)).await;
    let mut honest = Node::new("n1", 1);
    honest.grow(200);
    // The fork comes late in most runs and early in some.
    let clone = rewritten(&honest, rng.u64(5..190));
    let mut signed: BTreeMap<u64, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let first = (round * 5).saturating_sub(rng.u64(0..8));
        let end = (first + rng.u64(1..14)).min(honest.size());
        let node = if rng.u8(0..4) == 0 { &clone } else { &honest };
        let (a, b) = if rng.bool() { (&one, &two) } else { (&two, &one) };
        let answers =
            tokio::join!(a.gateway.send(&honest, first, end), b.gateway.send(node, first, end));
        for answer in [answers.0, answers.1] {
            let note = match answer {
                Reply::Ack(ack) => ack.cosigned_note,
                Reply::Resend(_) | Reply::Reject(_) => continue,
                other => panic!("seed {seed}: {other:?}"),
            };
            let note = SignedNote::parse(note.as_bytes()).unwrap();
            note.verify_cosignature(&one.gateway.vkey).unwrap();
            let (size, root) = (note.checkpoint().size, note.checkpoint().root.to_base64());
            let before = signed.entry(size).or_insert_with(|| root.clone());
            assert_eq!(*before, root, "seed {seed}: two roots of size {size} were signed");
        }
    }
    // All signed sizes belong to one of the two histories, never to both.
    let fits =
        |node: &Node| signed.iter().all(|(size, root)| node.root(*size).to_base64() == *root);
    assert!(!signed.is_empty() && (fits(&honest) || fits(&clone)), "seed {seed}: {signed:?}");
}
