//! The vector that the specification publishes: five records of which one is given whole, keys, notes and roots.

use crate::key::{CosignerKey, LogKey, VerifierKey};
use crate::leaf::Leaf;
use crate::note::{NoteError, SignedNote};
use crate::policy::Policy;
use crate::proof::TlogProof;
use crate::tree::{self, Frontier, Hash, Node, ProofError};

const ORIGIN: &str = "cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a";
const LOG_VKEY: &str = "cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a+4cb502ed+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const MIRROR_VKEY: &str =
    "cortex.example/mirror/m1+8004e3a1+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
const LEAVES: [&str; 5] = [
    "b00459f4f810eea4976b6241f2e12c0aafeee9181f188cfed2482d21adca2851",
    "355b1731bf2fcaea0363c65115ba33ce730d4f375b367b8f177565e2640c5fb2",
    "ea389ce0041944df17eb813227f023e3d15fe20276c026cb9c1c70cfbc170958",
    "41c8c5432cf231561d0832bd015941e63aa3e102d8d0c29aaaddd19036abd858",
    "643563d763b9fa51790a7e3529300ee2a0985b8104fabbf565e2f08194c01678",
];
pub(crate) const NOTE: &str = "cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a
5
Q5HFTyqCXYZwttEWsFWAwT4IGgRoKRlkhJRjlN+rko4=

— cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a TLUC7ezu88Mdy6AIiO9oE0vKxGYwoDezyl6/HcojLdLDA0bC8ggoAjB1oqhKiINTjj/E45eJYPz1cb/ibCoIeStzXws=
— cortex.example/mirror/m1 gATjoQAAAABrBDxUoAyUxXK1/0ja6pHJgd2RtezYARhgmTqVUd2YGC3CNmqGwrkHt8gHJGeNHome37l4m0VknGPfMLTMNit2W3qBDg==
";

fn leaves() -> Vec<Leaf> {
    LEAVES.iter().map(|hex| Leaf::parse(hex).unwrap()).collect()
}

fn root(size: usize) -> Hash {
    let mut frontier = Frontier::new();
    leaves()[..size].iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// Complete subtrees of a list of leaves.
pub(crate) fn nodes(leaves: &[Leaf]) -> impl FnMut(Node) -> Result<Hash, ProofError> {
    move |node| {
        let mut frontier = Frontier::new();
        let range = node.leaves();
        for index in range {
            frontier.push(leaves[usize::try_from(index).unwrap()]);
        }
        Ok(frontier.root())
    }
}

#[test]
fn the_published_leaves_have_the_published_roots() {
    assert_eq!(root(1).to_base64(), "sARZ9PgQ7qSXa2JB8uEsCq/u6RgfGIz+0kgtIa3KKFE=");
    assert_eq!(root(4).to_base64(), "goMemB74zB+IOdsQ4MPpajLQaaXTL86OiK1jDvr3NVw=");
    assert_eq!(root(5).to_base64(), "Q5HFTyqCXYZwttEWsFWAwT4IGgRoKRlkhJRjlN+rko4=");
    assert_eq!(root(1), Hash::from(leaves()[0]));
}

#[test]
fn the_published_note_verifies_and_is_signed_again_to_the_byte() {
    let note = SignedNote::parse(NOTE.as_bytes()).unwrap();
    assert_eq!(note.to_string(), NOTE);
    let (log, mirror) =
        (VerifierKey::parse(LOG_VKEY).unwrap(), VerifierKey::parse(MIRROR_VKEY).unwrap());
    assert_eq!((log.to_string(), mirror.to_string()), (LOG_VKEY.into(), MIRROR_VKEY.into()));
    note.verify_log(&log).unwrap();
    assert_eq!(note.verify_cosignature(&mirror).unwrap(), 0x6b04_3c54);
    assert_eq!(note.verify_cosignature(&log), Err(NoteError::Missing));
    assert_eq!(note.verify_log(&mirror), Err(NoteError::Origin));

    let key = LogKey::from_seed(&[1; 32], ORIGIN).unwrap();
    let cosigner = CosignerKey::from_seed(&[2; 32], "cortex.example/mirror/m1").unwrap();
    assert_eq!((key.verifier(), cosigner.verifier()), (&log, &mirror));
    let mut again = note.checkpoint().sign(&key).unwrap();
    again.cosign(&cosigner, 0x6b04_3c54).unwrap();
    assert_eq!(again.to_string(), NOTE);
}

#[test]
fn the_published_note_satisfies_a_policy_that_names_its_keys() {
    let text = format!("log {LOG_VKEY}\nwitness m {MIRROR_VKEY}\nquorum m\n");
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let note = SignedNote::parse(NOTE.as_bytes()).unwrap();
    assert_eq!(policy.log_keys(ORIGIN).len(), 1);
    let judged = policy.judge(&note).unwrap();
    assert_eq!((judged.quorum, judged.at), (true, Some(0x6b04_3c54)));
}

#[test]
fn proofs_over_the_published_leaves_verify_and_make_a_proof_file() {
    let all = leaves();
    let note = SignedNote::parse(NOTE.as_bytes()).unwrap();
    for index in 0..5 {
        let hashes = tree::prove_inclusion(index, 5, &mut nodes(&all)).unwrap();
        let proof = TlogProof { index, hashes, note: note.clone() };
        let read = TlogProof::parse(proof.to_string().as_bytes()).unwrap();
        assert_eq!(read, proof);
        let leaf = all[usize::try_from(index).unwrap()];
        read.verify(leaf).unwrap();
        assert_eq!(read.verify(Leaf::ZERO), Err(ProofError::Root));
    }
    for old in 1..=5 {
        let proof = tree::prove_consistency(old, 5, &mut nodes(&all)).unwrap();
        let size = usize::try_from(old).unwrap();
        tree::verify_consistency((old, &root(size)), (5, &root(5)), &proof).unwrap();
    }
}
