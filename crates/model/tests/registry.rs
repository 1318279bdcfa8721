//! Where nodes and tokens stand, as tables: what may follow what, who gets in, what a token is good for and when.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use cortex_model::registry::node::Verb;
use cortex_model::registry::*;
use cortex_model::role::author;
use cortex_model::wire::{decode_registry_commit, encode_registry_commit};
use cortex_model::*;

const GRACE: u64 = 1_000;

fn person(id: &str) -> Actor {
    Actor {
        kind: ActorKind::Human,
        id: id.into(),
        model: String::new(),
        on_behalf_of: String::new(),
    }
}

fn ai(id: &str, for_whom: &str) -> Actor {
    Actor { kind: ActorKind::Ai, id: id.into(), model: "v/m".into(), on_behalf_of: for_whom.into() }
}

fn decision(at: u64) -> Decision {
    Decision { actor: person("anna"), reason: "because".into(), at: UnixMillis(at) }
}

fn key(n: u8) -> Digest {
    Digest([n; 32])
}

fn enrolled() -> RegistryEvent {
    RegistryEvent::NodeEnrolled(Box::new(NodeEnrolled {
        key: key(1),
        token_id: "t1".into(),
        hostname: "desk".into(),
        labels: [("rack".to_owned(), "b".to_owned())].into(),
        address: "127.0.0.1".into(),
        agent_version: "1".into(),
        at: UnixMillis(10),
        gateway: "g".into(),
    }))
}

fn certificate(not_after: u64) -> RegistryEvent {
    RegistryEvent::CertificateIssued(CertificateIssued {
        serial: "0a".into(),
        sha256: key(9),
        not_before: UnixMillis(0),
        not_after: UnixMillis(not_after),
        at: UnixMillis(11),
        gateway: "g".into(),
    })
}

fn created(grant: Grant, expires_at: u64) -> RegistryEvent {
    RegistryEvent::TokenCreated(Box::new(TokenCreated {
        secret: key(7),
        grant,
        expires_at: UnixMillis(expires_at),
        actor: person("anna"),
        note: "laptops".into(),
        at: UnixMillis(5),
    }))
}

fn join_grant(uses: u32) -> Grant {
    let labels = [("k".to_owned(), "v".to_owned())].into();
    Grant::Join(JoinGrant { uses, require_approval: true, labels, node: None })
}

fn used(n: u8) -> RegistryEvent {
    RegistryEvent::TokenUsed(TokenUsed { key: key(n), node: format!("n-{n}"), at: UnixMillis(6) })
}

/// Folds events, one commit each.
fn history(events: &[RegistryEvent]) -> Result<Record, Fault> {
    let mut record = None;
    for (n, event) in (1..).zip(events) {
        record = Some(fold(record, &RegistryCommit { n, events: vec![event.clone()] })?);
    }
    Ok(record.unwrap())
}

fn node(events: &[RegistryEvent]) -> NodeRecord {
    match history(events).unwrap() {
        Record::Node(node) => node,
        Record::Token(_) => panic!("a token"),
    }
}

fn token(events: &[RegistryEvent]) -> TokenRecord {
    match history(events).unwrap() {
        Record::Token(token) => token,
        Record::Node(_) => panic!("a node"),
    }
}

fn after(standing: Standing) -> NodeRecord {
    use RegistryEvent::{NodeApproved, NodeQuarantined, NodeRejected, NodeRevoked};
    let mut events = vec![enrolled()];
    events.extend(match standing {
        Standing::Pending => vec![],
        Standing::Approved => vec![NodeApproved(decision(20))],
        Standing::Quarantined => vec![NodeApproved(decision(20)), NodeQuarantined(decision(21))],
        Standing::Rejected => vec![NodeRejected(decision(20))],
        Standing::Revoked => vec![NodeApproved(decision(20)), NodeRevoked(decision(21))],
        Standing::Left => {
            vec![RegistryEvent::NodeLeft { reason: "sold".into(), at: UnixMillis(20) }]
        }
    });
    node(&events)
}

#[test]
fn what_may_be_decided_on_a_node_depends_on_where_it_stands() {
    use Standing::*;
    let no = Err(Code::WrongStanding);
    // Approve, reject, quarantine, revoke: the event, nothing, or an error.
    let table: [(Standing, [Result<&str, Code>; 4]); 6] = [
        (Pending, [Ok("NodeApproved"), Ok("NodeRejected"), no, Ok("NodeRevoked")]),
        (Approved, [Ok(""), no, Ok("NodeQuarantined"), Ok("NodeRevoked")]),
        (Quarantined, [Ok("NodeApproved"), no, Ok(""), Ok("NodeRevoked")]),
        (Rejected, [no, Ok(""), no, no]),
        (Revoked, [no, no, no, Ok("")]),
        (Left, [no, no, no, no]),
    ];
    let verbs = [Verb::Approve, Verb::Reject, Verb::Quarantine, Verb::Revoke];
    for (standing, expected) in table {
        let node = after(standing);
        assert_eq!(node.standing, standing);
        for (verb, expected) in verbs.into_iter().zip(expected) {
            let got = node.decide(verb, decision(30), GRACE);
            let got = got.map(|e| e.as_ref().map_or("", RegistryEvent::name)).map_err(|f| f.code);
            assert_eq!(got, expected, "{standing:?} {verb:?}");
        }
    }
}

#[test]
fn only_the_key_of_an_approved_node_gets_in() {
    for (standing, expected) in [
        (Standing::Pending, Err(Code::NodeNotApproved)),
        (Standing::Approved, Ok(())),
        (Standing::Quarantined, Err(Code::NodeNotApproved)),
        (Standing::Rejected, Err(Code::NodeRevoked)),
        (Standing::Revoked, Err(Code::NodeRevoked)),
        (Standing::Left, Err(Code::NodeRevoked)),
    ] {
        let node = after(standing);
        assert_eq!(node.admits(&key(1)).map_err(|f| f.code), expected, "{standing:?}");
        assert_eq!(node.admits(&key(2)).unwrap_err().code, Code::NotBound, "{standing:?}");
    }
}

#[test]
fn a_certificate_is_renewed_by_its_key_until_the_grace_is_over_and_then_by_an_admin() {
    let approved = RegistryEvent::NodeApproved(decision(20));
    let mut events = vec![enrolled(), approved, certificate(100)];
    for (now, expected) in [(50, Ok(())), (1_100, Ok(())), (1_101, Err(Code::RenewalTooLate))] {
        let got = node(&events).renews(&key(1), UnixMillis(now), GRACE).map_err(|f| f.code);
        assert_eq!(got, expected, "{now}");
    }
    let yes = node(&events).decide(Verb::Approve, decision(5_000), GRACE).unwrap();
    events.push(yes.expect("a late approval is an event"));
    assert_eq!(node(&events).renews(&key(1), UnixMillis(5_900), GRACE), Ok(()));
    assert!(node(&events).renews(&key(1), UnixMillis(6_001), GRACE).is_err());
    assert!(node(&events).renews(&key(2), UnixMillis(5_900), GRACE).is_err());
}

#[test]
fn a_history_that_cannot_be_is_refused() {
    let approved = || RegistryEvent::NodeApproved(decision(20));
    let revoked = || RegistryEvent::NodeRevoked(decision(21));
    for events in [
        vec![approved()],
        vec![enrolled(), enrolled()],
        vec![enrolled(), certificate(100)],
        vec![enrolled(), revoked(), approved()],
        vec![enrolled(), approved(), RegistryEvent::NodeRejected(decision(22))],
        vec![enrolled(), used(1)],
        vec![created(join_grant(1), 9), approved()],
        vec![created(join_grant(1), 9), RegistryEvent::TokenRevoked(decision(6)), used(1)],
    ] {
        assert_eq!(history(&events).unwrap_err().code, Code::Quarantined, "{events:?}");
    }
    let first = history(&[enrolled()]).unwrap();
    let gap = RegistryCommit { n: 3, events: vec![approved()] };
    assert_eq!(fold(Some(first), &gap).unwrap_err().code, Code::Quarantined);
}

#[test]
fn a_join_token_counts_keys_and_not_tries() {
    let one = [created(join_grant(1), 100)];
    let taken = [created(join_grant(1), 100), used(1)];
    let revoked = [created(join_grant(1), 100), used(1), RegistryEvent::TokenRevoked(decision(9))];
    let counted = Ok(JoinStep::Counted("n-1".into()));
    let table = [
        (&one[..], key(7), 1, 50, Ok(JoinStep::Use)),
        (&one, key(8), 1, 50, Err(Code::BadJoinToken)),
        (&one, key(7), 1, 100, Err(Code::JoinTokenExpired)),
        (&taken, key(7), 1, 50, counted.clone()),
        (&taken, key(7), 1, 500, counted),
        (&taken, key(7), 2, 50, Err(Code::JoinTokenUsed)),
        (&taken, key(8), 1, 50, Err(Code::BadJoinToken)),
        (&revoked, key(7), 1, 50, Err(Code::TokenRevoked)),
    ];
    for (events, secret, joins, now, expected) in table {
        let token = token(events);
        let got = token.join(&secret, &key(joins), UnixMillis(now));
        assert_eq!(
            got.map(|(_, step)| step).map_err(|f| f.code),
            expected,
            "{events:?} {joins} {now}"
        );
    }
}

#[test]
fn a_user_token_is_good_for_calls_until_its_time_is_over_or_somebody_revokes_it() {
    let user = Grant::User(UserGrant { role: Role::Operator, holder: person("bert") });
    let valid = [created(user.clone(), 100)];
    let revoked = [created(user, 100), RegistryEvent::TokenRevoked(decision(9))];
    let join = [created(join_grant(1), 100)];
    for (events, secret, now, expected) in [
        (&valid[..], key(7), 99, Ok(Role::Operator)),
        (&valid, key(7), 100, Err(Code::TokenExpired)),
        (&valid, key(8), 99, Err(Code::Unauthenticated)),
        (&revoked, key(7), 99, Err(Code::TokenRevoked)),
        (&revoked, key(8), 99, Err(Code::Unauthenticated)),
        (&join, key(7), 99, Err(Code::Unauthenticated)),
    ] {
        let got = token(events).user(&secret, UnixMillis(now)).map(|u| u.role).map_err(|f| f.code);
        assert_eq!(got, expected, "{events:?} {now}");
    }
}

#[test]
fn a_grant_has_limits() {
    let labelled = |k: String| {
        let labels = [(k, String::new())].into();
        Grant::Join(JoinGrant { uses: 1, require_approval: false, labels, node: None })
    };
    for bad in
        [join_grant(0), join_grant(1_001), labelled(String::new()), labelled("k".repeat(257))]
    {
        assert_eq!(bad.check().unwrap_err().code, Code::BadGrant, "{bad:?}");
    }
    assert_eq!(join_grant(1_000).check(), Ok(()));
    assert_eq!(join_grant(1).ttl(0), Ok(3_600_000));
    assert!(join_grant(1).ttl(u64::MAX).is_err());
}

#[test]
fn the_role_table_is_what_the_docs_say() {
    use Permission as P;
    let roles = [Role::Viewer, Role::Operator, Role::Auditor, Role::Admin, Role::Root];
    let table = [
        (P::Public, "yyyyy"),
        (P::Enrol, "-----"),
        (P::ActAsNode, "-----"),
        (P::HoldTunnel, "-----"),
        (P::KnowOneself, "yyyyy"),
        (P::ReadTasks, "yyyyy"),
        (P::ReadNodes, "yyyyy"),
        (P::ReadServer, "yyyyy"),
        (P::ReadAudit, "--yyy"),
        (P::SubmitTasks, "-y-yy"),
        (P::CancelTasks, "-y-yy"),
        (P::ResolveTasks, "-y-yy"),
        (P::ManageNodes, "---yy"),
        (P::ManageTokens, "---yy"),
        (P::Backup, "----y"),
    ];
    assert_eq!(table.len(), P::ALL.len());
    for (permission, row) in table {
        let got: String = roles.iter().map(|r| if r.may(permission) { 'y' } else { '-' }).collect();
        assert_eq!(got, row, "{permission:?}");
    }
    for machine in [Role::Machine, Role::Node, Role::Agent, Role::Anonymous] {
        let may = P::ALL.into_iter().filter(|p| machine.may(*p)).count();
        assert!(may <= 2, "{machine:?}");
    }
}

#[test]
fn who_holds_the_token_stands_behind_the_request() {
    let (anna, bert, bot) = (person("anna"), person("bert"), ai("bot", "anna"));
    let table = [
        (Role::Operator, &anna, None, Ok(anna.clone())),
        (Role::Operator, &anna, Some(anna.clone()), Ok(anna.clone())),
        (Role::Operator, &anna, Some(bert.clone()), Err(Code::ActorMismatch)),
        (Role::Operator, &anna, Some(ai("bot", "")), Ok(bot.clone())),
        (Role::Operator, &anna, Some(bot.clone()), Ok(bot.clone())),
        (Role::Operator, &anna, Some(ai("bot", "bert")), Err(Code::ActorMismatch)),
        (Role::Operator, &bot, Some(ai("bot", "bert")), Ok(bot.clone())),
        (Role::Operator, &bot, Some(anna.clone()), Err(Code::ActorMismatch)),
        (Role::Root, &anna, Some(bert.clone()), Ok(bert.clone())),
    ];
    for (role, holder, named, expected) in table {
        let got = author(role, holder, named.clone()).map_err(|f| f.code);
        assert_eq!(got, expected, "{holder:?} names {named:?}");
    }
}

#[test]
fn every_event_survives_its_way_to_bytes_and_back() {
    let d = || decision(33);
    let user = Grant::User(UserGrant { role: Role::Auditor, holder: ai("bot", "anna") });
    let events = vec![
        enrolled(),
        RegistryEvent::NodeApproved(d()),
        RegistryEvent::NodeRejected(d()),
        RegistryEvent::NodeQuarantined(d()),
        RegistryEvent::NodeRevoked(d()),
        certificate(100),
        RegistryEvent::NodeLeft { reason: "sold".into(), at: UnixMillis(3) },
        RegistryEvent::CloneSuspected(CloneSuspected {
            addresses: vec!["a".into(), "b".into()],
            incarnations: vec!["c".into()],
            at: UnixMillis(4),
            gateway: "g".into(),
        }),
        RegistryEvent::NodeNarrowed(Box::new(Narrowed {
            decision: d(),
            text: "version = 1\n".into(),
        })),
        created(join_grant(3), 77),
        created(user, 78),
        used(1),
        RegistryEvent::TokenRevoked(d()),
    ];
    let commit = RegistryCommit { n: 4, events };
    let bytes = encode_registry_commit(&commit);
    assert_eq!(decode_registry_commit(bytes.clone()), Ok(commit));
    assert!(decode_registry_commit(bytes.slice(..bytes.len() - 1)).is_err());
    assert!(decode_registry_commit(bytes::Bytes::new()).is_err());
}

#[test]
fn aggregates_are_named_by_what_they_are() {
    let node = NodeId::parse(&"n".repeat(62)).unwrap();
    assert_eq!(named(&registry::node_aggregate(&node).unwrap()), Named::Node(node.as_str()));
    assert_eq!(named(&registry::token_aggregate("abc")), Named::Token("abc"));
    assert_eq!(named("mirror"), Named::Other);
    let long = NodeId::parse(&"n".repeat(63)).unwrap();
    assert_eq!(registry::node_aggregate(&long).unwrap_err().code, Code::BadIdentifier);
}
