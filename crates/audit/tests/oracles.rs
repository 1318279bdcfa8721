//! The format against implementations of others: the tree and its proofs, the canonical JSON, and the published example
//! of a signed note.
#![expect(clippy::unwrap_used, reason = "a test ends where something else comes than it expects")]

use cortex_audit::tree::{
    Node, ProofError, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion,
};
use cortex_audit::{Frontier, Hash, Leaf, Value, canonical};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

fn leaves(size: u64) -> Vec<Leaf> {
    (0..size).map(|n| Leaf::of(&n.to_be_bytes())).collect()
}

fn root(leaves: &[Leaf]) -> Hash {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

fn nodes(leaves: &[Leaf]) -> impl FnMut(Node) -> Result<Hash, ProofError> {
    move |node| {
        let range = node.leaves();
        let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        Ok(root(&leaves[part]))
    }
}

fn joined(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn every_root_and_proof_up_to_70_leaves_is_that_of_another_implementation() {
    let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=70u64 {
        other.push((size - 1).to_be_bytes().to_vec());
        let all = leaves(size);
        let top = root(&all);
        assert_eq!(other.root().as_bytes().as_slice(), top.0, "root of {size}");
        for index in 0..size {
            let proof = prove_inclusion(index, size, &mut nodes(&all)).unwrap();
            let at = usize::try_from(index).unwrap();
            assert_eq!(other.prove_inclusion(at).as_bytes(), joined(&proof), "{index} in {size}");
            verify_inclusion(all[at], index, size, &top, &proof).unwrap();
        }
        for old in 1..size {
            let proof = prove_consistency(old, size, &mut nodes(&all)).unwrap();
            let added = usize::try_from(size - old).unwrap();
            assert_eq!(
                other.prove_consistency(added).as_bytes(),
                joined(&proof),
                "{old} to {size}"
            );
            let before = root(&all[..usize::try_from(old).unwrap()]);
            verify_consistency((old, &before), (size, &top), &proof).unwrap();
        }
    }
}

/// What somebody who wants a false proof to pass would try.
fn damaged(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = vec![[proof, &[Hash::empty()]].concat(), [&[Hash::empty()], proof].concat()];
    for at in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[at].0[at % 32] ^= 1;
        let mut missing = proof.to_vec();
        missing.remove(at);
        let mut swapped = proof.to_vec();
        swapped.swap(at, (at + 1) % proof.len());
        all.extend([flipped, missing, [&proof[..at], &proof[at..=at], &proof[at..]].concat()]);
        all.extend((swapped != proof).then_some(swapped));
    }
    all
}

#[test]
fn systematically_damaged_proofs_prove_nothing() {
    let mut refused = 0;
    for size in [1u64, 2, 3, 4, 5, 7, 8, 9, 13, 16, 31, 33] {
        let (all, top) = (leaves(size), root(&leaves(size)));
        for index in 0..size {
            let proof = prove_inclusion(index, size, &mut nodes(&all)).unwrap();
            let leaf = all[usize::try_from(index).unwrap()];
            for bad in damaged(&proof) {
                assert!(verify_inclusion(leaf, index, size, &top, &bad).is_err());
                refused += 1;
            }
            assert!(verify_inclusion(Leaf::ZERO, index, size, &top, &proof).is_err());
            assert!(verify_inclusion(leaf, index, size, &Hash::empty(), &proof).is_err());
            assert!(verify_inclusion(leaf, size + index, size, &top, &proof).is_err());
            for other in (0..size).filter(|other| *other != index) {
                assert!(verify_inclusion(leaf, other, size, &top, &proof).is_err());
            }
        }
        for old in 1..size {
            let before = root(&all[..usize::try_from(old).unwrap()]);
            let proof = prove_consistency(old, size, &mut nodes(&all)).unwrap();
            for bad in damaged(&proof) {
                assert!(verify_consistency((old, &before), (size, &top), &bad).is_err());
                refused += 1;
            }
            for (one, two) in [(top, top), (before, before), (top, before)] {
                assert!(verify_consistency((old, &one), (size, &two), &proof).is_err());
            }
            assert!(verify_consistency((size, &top), (old, &before), &proof).is_err());
            assert!(verify_consistency((0, &before), (size, &top), &proof).is_err());
        }
    }
    assert!(refused > 500, "only {refused}");
}

#[test]
fn a_frontier_taken_up_anywhere_goes_on_alike() {
    let all = leaves(40);
    for size in 0..40usize {
        let mut whole = Frontier::new();
        all[..size].iter().for_each(|leaf| whole.push(*leaf));
        let parts = (whole.size(), whole.hashes().to_vec());
        let mut taken = Frontier::from_parts(parts.0, parts.1).unwrap();
        all[size..].iter().for_each(|leaf| taken.push(*leaf));
        assert_eq!(taken.root(), root(&all));
    }
    assert!(Frontier::from_parts(3, vec![Hash::empty()]).is_none());
}

#[test]
fn the_published_example_of_a_signed_note_has_its_signature() {
    let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let vkey = cortex_audit::VerifierKey::parse(vkey).unwrap();
    let line = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=";
    use base64::Engine as _;
    let raw = base64::engine::general_purpose::STANDARD.decode(line).unwrap();
    let (id, signature) = raw.split_first_chunk::<4>().unwrap();
    assert_eq!(*id, vkey.id());
    let signature: &[u8; 64] = signature.try_into().unwrap();
    assert!(vkey.key().verifies(b"This is an example message.\n", signature));
    assert!(!vkey.key().verifies(b"This is an example message\n", signature));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (1 - canonical::MAX_INT..canonical::MAX_INT).prop_map(Value::Int),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::btree_map("[a-z0-9_.$]{1,8}", inner, 0..6).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_bytes_are_those_of_rfc_8785(value in any_value()) {
        let ours = value.to_bytes().unwrap();
        let read: serde_json::Value = serde_json::from_slice(&ours).unwrap();
        prop_assert_eq!(serde_json_canonicalizer::to_vec(&read).unwrap(), ours);
    }
}
