//! Examples of what the log stores for ever about nodes and tokens: a commit with each kind of event.

use crate::examples::{Example, example};
use crate::values::{INCARNATION, SESSION, actor};
use cortex_proto::v1::*;
use registry_event::Kind;
use std::collections::BTreeMap;

const AT: u64 = 1_760_000_000_000;
const REASON: &str = "sold the laptop";

pub(crate) fn examples() -> Vec<Example> {
    let mut all = nodes_and_tokens();
    all.push(example("node-kept", kept()));
    all
}

/// What is kept of a node in the bucket `CX_NODES`.
fn kept() -> NodePresence {
    let seat = Seat {
        gateway: "g-1".into(),
        session: SESSION.into(),
        generation: 7,
        incarnation: INCARNATION.into(),
        address: "192.0.2.7".into(),
        thrown_out: vec!["0192f3f0-0000-7000-8000-000000000009".into()],
        returned_at_ms: vec![AT, AT + 5_000],
        suspected_at_ms: AT + 5_000,
    };
    NodePresence {
        workspace: "default".into(),
        node: "desk-1".into(),
        session: format!("{SESSION}-7"),
        incarnation: INCARNATION.into(),
        generation: 7,
        slots: 4,
        slots_free: 0,
        manifest: Some(Manifest::default()),
        journal: Some(JournalHead { size: 12, ..JournalHead::default() }),
        agent_version: "0.1.0".into(),
        connected_at_ms: AT,
        last_seen_ms: AT,
        seat: Some(seat),
    }
}

fn nodes_and_tokens() -> Vec<Example> {
    let (actor, reason) = (Some(actor()), REASON.to_owned());
    let at_ms = AT;
    vec![
        commit("registry-node-enrolled", 1, Kind::NodeEnrolled(enrolled())),
        commit(
            "registry-node-approved",
            2,
            Kind::NodeApproved(NodeApproved {
                actor: actor.clone(),
                reason: reason.clone(),
                at_ms,
            }),
        ),
        commit(
            "registry-node-rejected",
            2,
            Kind::NodeRejected(NodeRejected {
                actor: actor.clone(),
                reason: reason.clone(),
                at_ms,
            }),
        ),
        commit(
            "registry-node-quarantined",
            3,
            Kind::NodeQuarantined(NodeQuarantined {
                actor: actor.clone(),
                reason: reason.clone(),
                at_ms,
            }),
        ),
        commit(
            "registry-node-revoked",
            4,
            Kind::NodeRevoked(NodeRevoked { actor: actor.clone(), reason: reason.clone(), at_ms }),
        ),
        commit("registry-certificate-issued", 5, Kind::CertificateIssued(issued())),
        commit("registry-node-left", 6, Kind::NodeLeft(NodeLeft { reason: reason.clone(), at_ms })),
        commit("registry-clone-suspected", 7, Kind::CloneSuspected(clone_suspected())),
        commit(
            "registry-node-narrowed",
            8,
            Kind::NodeNarrowed(NodeNarrowed {
                actor: actor.clone(),
                reason: reason.clone(),
                at_ms,
                text: "version = 1\ndeny = [\"curl\"]\n".into(),
            }),
        ),
        commit("registry-token-created-join", 1, Kind::TokenCreated(created(join()))),
        commit("registry-token-created-user", 1, Kind::TokenCreated(created(user()))),
        commit("registry-token-used", 2, Kind::TokenUsed(used())),
        commit(
            "registry-token-revoked",
            3,
            Kind::TokenRevoked(TokenRevoked { actor, reason, at_ms }),
        ),
        example("registry-commit-of-several-events", several()),
    ]
}

fn event(kind: Kind) -> RegistryEvent {
    RegistryEvent { kind: Some(kind) }
}

fn commit(name: &'static str, n: u64, kind: Kind) -> Example {
    example(name, RegistryCommit { n, events: vec![event(kind)] })
}

fn several() -> RegistryCommit {
    let approved = NodeApproved { actor: Some(actor()), reason: String::new(), at_ms: AT };
    let events = vec![
        event(Kind::NodeEnrolled(enrolled())),
        event(Kind::NodeApproved(approved)),
        event(Kind::CertificateIssued(issued())),
    ];
    RegistryCommit { n: 1, events }
}

fn labels() -> BTreeMap<String, String> {
    [("rack".to_owned(), "b".to_owned()), ("site".to_owned(), "berlin".to_owned())].into()
}

fn enrolled() -> NodeEnrolled {
    NodeEnrolled {
        key_sha256: vec![0x11; 32],
        token_id: "k3v7q2".into(),
        hostname: "desk".into(),
        labels: labels(),
        address: "192.0.2.7".into(),
        agent_version: "0.1.0".into(),
        at_ms: AT,
        gateway: "gateway-1".into(),
    }
}

fn issued() -> CertificateIssued {
    CertificateIssued {
        serial: "0badcafe".into(),
        certificate_sha256: vec![0x22; 32],
        not_before_ms: AT - 3_600_000,
        not_after_ms: AT + 86_400_000,
        at_ms: AT,
        gateway: "gateway-1".into(),
    }
}

fn clone_suspected() -> CloneSuspected {
    CloneSuspected {
        addresses: vec!["192.0.2.7".into(), "192.0.2.8".into()],
        incarnations: vec![INCARNATION.into()],
        at_ms: AT,
        gateway: "gateway-1".into(),
    }
}

fn created(grant: token_created::Grant) -> TokenCreated {
    TokenCreated {
        secret_sha256: vec![0x33; 32],
        grant: Some(grant),
        expires_at_ms: AT + 3_600_000,
        actor: Some(actor()),
        note: "laptops of the new office".into(),
        at_ms: AT,
    }
}

fn join() -> token_created::Grant {
    token_created::Grant::Join(JoinGrant {
        uses: 1,
        require_approval: true,
        labels: labels(),
        node: "desk-1".into(),
    })
}

fn user() -> token_created::Grant {
    token_created::Grant::User(UserGrant { role: Role::Operator.into(), holder: Some(actor()) })
}

fn used() -> TokenUsed {
    TokenUsed { key_sha256: vec![0x11; 32], node: "desk-1".into(), at_ms: AT }
}
