//! The agent against a scripted mirror: what it sends of its journal, what it takes for an acknowledgement, and what it
//! does when its journal and the mirror's memory contradict each other.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

#[path = "support/mirror.rs"]
mod mirror;
mod support;

use cortex_audit::{LogKey, SignedNote, VerifierKey};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use mirror::{Mirror, now_s};
use support::*;

fn verify(node: &Machine, key: &VerifierKey) -> (i32, serde_json::Value) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_cortex-agent"))
        .args(["journal", "verify", "--json", "--mirror", &key.to_string(), "--data-dir"])
        .arg(node.dir.path())
        .output()
        .unwrap();
    let report = serde_json::from_slice(&done.stdout).unwrap();
    (done.status.code().unwrap(), report)
}

/// How far the journal itself knows that the mirror has countersigned it.
fn cosigned(node: &Machine, key: &VerifierKey) -> Option<u64> {
    verify(node, key).1["report"]["sources"][0]["freshness"]["cosigned_size"].as_u64()
}

/// Records that nobody has countersigned.
fn tail(node: &Machine, key: &VerifierKey) -> u64 {
    let report = verify(node, key).1;
    report["report"]["sources"][0]["freshness"]["tail_uncosigned"].as_u64().unwrap()
}

/// The next batch, whatever comes before it.
async fn batch(connection: &mut Connection) -> AuditBatch {
    loop {
        if let Up::AuditBatch(batch) = connection.audit().await {
            return batch;
        }
    }
}

async fn run(connection: &mut Connection, task: &str, id: u64) {
    connection.send(Down::Offer(offer(task, id, sh("echo hidden-argument")))).await;
    connection.go(&connection.hello.session.clone(), task, id).await;
}

#[tokio::test]
async fn records_and_openings_go_up_and_what_is_cosigned_is_kept() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut mirror = Mirror::new(1);
    run(&mut connection, "t1", 1).await;
    mirror.until(&mut connection, "outcome").await;
    assert_eq!(mirror.kinds()[..2], ["genesis", "session.open"]);
    assert!(!mirror.records.iter().any(|body| body.contains("hidden-argument")));
    // What it commits to comes once the record itself is cosigned.
    while !mirror.openings.lines().any(|line| line.starts_with("3 ") || line.starts_with("2 ")) {
        mirror.answer(&mut connection).await;
    }
    for line in mirror.openings.lines() {
        let (seq, text) = line.split_once(' ').unwrap();
        let opening = cortex_audit::Opening::from_stored(text);
        let commitment = opening.commitment().as_str().to_owned();
        assert!(mirror.records[seq.parse::<usize>().unwrap()].contains(&commitment));
    }
    // Beside the running agent: its journal verifies against the mirror's key.
    let key = mirror.key.verifier().clone();
    until("a cosigned checkpoint", || cosigned(&node, &key) >= Some(4)).await;
    let (code, report) = verify(&node, &key);
    assert_eq!((code, report["verdict"].as_str()), (0, Some("VERIFIED")), "{report}");
    let stranger = Mirror::new(9).key.verifier().clone();
    assert_eq!(verify(&node, &stranger).0, 3);
    kill(agent).await;
}

#[tokio::test]
async fn an_acknowledgement_that_comes_at_once_finds_the_mirrors_key_pinned() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let mut command = node.command(&gateway);
    command.env("LD_PRELOAD", node.library("slow_disk")).stderr(std::process::Stdio::piped());
    let mut agent = command.spawn().unwrap();
    let mut connection = gateway.welcome().await;
    let mut mirror = Mirror::new(1);
    mirror.until(&mut connection, "session.open").await;
    agent.start_kill().unwrap();
    let said = agent.wait_with_output().await.unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains("an acknowledgement is not one"), "{said}");
    assert!(said.contains("pinning the mirror's key"), "{said}");
}

#[tokio::test]
async fn only_the_pinned_mirrors_cosignature_of_this_log_counts() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let said = node.path("said");
    let mut command = node.command(&gateway);
    let agent = command.stderr(std::fs::File::create(&said).unwrap()).spawn().unwrap();
    let alerts = |text: &str| {
        let said = std::fs::read_to_string(&said).unwrap();
        said.lines().filter(|line| line.contains("ERROR") && line.contains(text)).count()
    };
    let (no_ack, too_short) = ("an acknowledgement is not one", "covers less than was sent");
    let mut connection = gateway.welcome().await;
    let (mut mirror, stranger) = (Mirror::new(1), Mirror::new(9));
    // The first answer pins the mirror.
    mirror.until(&mut connection, "session.open").await;
    let key = mirror.key.verifier().clone();
    until("a cosigned checkpoint", || cosigned(&node, &key) >= Some(2)).await;
    let before = cosigned(&node, &key);
    let older = mirror.notes[0].clone();
    let (mut genuine, mut waiting) = (String::new(), tail(&node, &key));
    for (n, forge) in ["none", "a stranger's", "of another log", "older"].into_iter().enumerate() {
        let alerts_before = (alerts(no_ack), alerts(too_short));
        run(&mut connection, &format!("t{n}"), n as u64 + 1).await;
        // Every upload of this task gets a forged answer.
        while mirror.kinds().iter().filter(|kind| *kind == "outcome").count() <= n {
            let batch = batch(&mut connection).await;
            genuine = mirror.take(&batch);
            let mut note = SignedNote::parse(batch.note.as_bytes()).unwrap();
            let cosigned_note = match forge {
                "none" => batch.note.clone(),
                "a stranger's" => {
                    note.cosign(&stranger.key, now_s()).unwrap();
                    note.to_string()
                }
                "older" => older.clone(),
                _ => {
                    let mut other = note.checkpoint().clone();
                    other.origin = "example.org/audit/n1/0123456789abcdef0123456789abcdef".into();
                    let other_key = LogKey::from_seed(&[5; 32], &other.origin).unwrap();
                    let mut note = other.sign(&other_key).unwrap();
                    note.cosign(&mirror.key, now_s()).unwrap();
                    note.to_string()
                }
            };
            let ack = AuditAck { id: batch.id, cosigned_note, resume_from: 99 };
            connection.send(Down::AuditAck(ack)).await;
        }
        // The queue is in order: once this is answered, the forged ones were judged.
        assert_eq!(connection.query("nothing").await.phase(), AttemptPhase::Unknown);
        assert_eq!(cosigned(&node, &key), before, "{forge}");
        // Somebody is told, and what waits for the mirror is counted on.
        let alerted = (alerts(no_ack) > alerts_before.0, alerts(too_short) > alerts_before.1);
        assert_eq!(alerted, (forge != "older", forge == "older"), "{forge}");
        let now = tail(&node, &key);
        assert!(now > waiting, "{forge}: {now} records wait, {waiting} did before");
        waiting = now;
    }
    // A new connection: everything that is not acknowledged is sent again, and the genuine note is taken.
    drop(connection);
    let mut connection = gateway.welcome().await;
    let Up::AuditHello(hello) = connection.audit().await else { panic!() };
    let kept = SignedNote::parse(hello.newest_cosigned.as_bytes()).unwrap();
    assert_eq!(Some(kept.checkpoint().size), before);
    let state = AuditState { cosigned_note: genuine, ..mirror.state() };
    connection.send(Down::AuditState(state)).await;
    until("the genuine note", || cosigned(&node, &key) != before).await;
    kill(agent).await;
}

#[tokio::test]
async fn a_node_whose_acknowledgements_are_all_forged_ends_its_work_by_itself() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    std::fs::write(node.path("agent.toml"), "max_unacked_records = 12\n").unwrap();
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut mirror = Mirror::new(1);
    mirror.until(&mut connection, "session.open").await;
    let key = mirror.key.verifier().clone();
    until("a cosigned checkpoint", || cosigned(&node, &key) >= Some(2)).await;
    let mut ran = 0;
    let refused = loop {
        connection.send(Down::Offer(offer(&format!("t{ran}"), ran + 1, echo("x")))).await;
        match connection.next().await {
            Up::Claim(_) => {
                let session = connection.hello.session.clone();
                connection.go(&session, &format!("t{ran}"), ran + 1).await;
            }
            Up::Busy(busy) => break busy.error.unwrap().code,
            other => panic!("{other:?}"),
        }
        // One more record of this task, whatever it says.
        let count = mirror.records.len();
        while mirror.records.len() <= count {
            let batch = batch(&mut connection).await;
            mirror.take(&batch);
            let ack = AuditAck { id: batch.id, cosigned_note: batch.note.clone(), resume_from: 99 };
            connection.send(Down::AuditAck(ack)).await;
        }
        if mirror.kinds().contains(&"refusal".to_owned()) {
            break mirror.records.last().unwrap().clone();
        }
        ran += 1;
        assert!(ran < 30, "it goes on for ever");
    };
    assert!(refused.contains("CX-1410"), "{refused}");
    assert!(ran >= 3, "only {ran} tasks ran");
    kill(agent).await;
}

#[tokio::test]
async fn a_mirror_that_the_owner_named_is_the_only_one_whatever_a_gateway_says() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let (mut named, mut stranger) = (Mirror::new(1), Mirror::new(9));
    let key = named.key.verifier().clone();
    std::fs::write(node.path("agent.toml"), format!("mirror = \"{key}\"\n")).unwrap();
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    stranger.until(&mut connection, "session.open").await;
    // The queue is in order: once this is answered, what the stranger said was judged.
    assert_eq!(connection.query("nothing").await.phase(), AttemptPhase::Unknown);
    assert_eq!(cosigned(&node, stranger.key.verifier()), None);
    drop(connection);
    let mut connection = gateway.welcome().await;
    named.until(&mut connection, "session.open").await;
    until("a cosigned checkpoint", || cosigned(&node, &key) >= Some(2)).await;
    kill(agent).await;
}

#[tokio::test]
async fn what_upstream_lost_is_sent_again_to_the_byte() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut mirror = Mirror::new(1);
    run(&mut connection, "t1", 1).await;
    mirror.until(&mut connection, "outcome").await;
    // In the middle of a connection: the mirror has nothing any more, but remembers what it saw.
    connection.send(Down::AuditState(AuditState { resume_from: 0, ..mirror.state() })).await;
    loop {
        if let Up::AuditBatch(batch) = connection.audit().await {
            mirror.take(&batch);
            if batch.first_seq == 0 {
                break;
            }
        }
    }
    kill(agent).await;
    // And after a restart, from wherever it says.
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let Up::AuditHello(_) = connection.audit().await else { panic!() };
    connection.send(Down::AuditState(AuditState { resume_from: 3, ..mirror.state() })).await;
    let batch = batch(&mut connection).await;
    assert_eq!(batch.first_seq, 3);
    mirror.take(&batch);
    kill(agent).await;
}

#[tokio::test]
async fn a_node_that_no_mirror_countersigns_for_a_day_takes_no_work_until_one_does() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut mirror = Mirror::new(1);
    // A day, the hour of difference between clocks that is allowed for, and a minute.
    mirror.age_s = (24 + 1) * 60 * 60 + 60;
    mirror.until(&mut connection, "session.open").await;
    let key = mirror.key.verifier().clone();
    until("a cosigned checkpoint", || cosigned(&node, &key) >= Some(2)).await;
    // Also after a start: the journal itself says how old its newest cosignature is.
    let mut agent = agent;
    for round in 1..3 {
        run(&mut connection, &format!("t{round}"), round).await;
        mirror.until_count(&mut connection, "refusal", round as usize).await;
        assert!(mirror.records.last().unwrap().contains("CX-1410"), "{:?}", mirror.records.last());
        assert!(!mirror.kinds().contains(&"intent".to_owned()), "nothing was to start");
        kill(agent).await;
        agent = node.start(&gateway);
        connection = gateway.welcome().await;
        mirror.until_count(&mut connection, "session.open", 1 + round as usize).await;
    }
    // What is refused is a record too, and so brings a fresh cosignature.
    mirror.age_s = 0;
    run(&mut connection, "t8", 8).await;
    mirror.until_count(&mut connection, "refusal", 3).await;
    let size = mirror.records.len() as u64;
    until("a fresh cosignature", || cosigned(&node, &key) >= Some(size)).await;
    run(&mut connection, "t9", 9).await;
    mirror.until(&mut connection, "outcome").await;
    kill(agent).await;
}

/// Two copies of a node's state: the first goes on with the mirror. What it cosigned last.
async fn cloned(node: &Machine, clone: &Machine) -> (Mirror, String) {
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut mirror = Mirror::new(1);
    mirror.until(&mut connection, "session.open").await;
    let key = mirror.key.verifier().clone();
    until("a cosigned checkpoint", || cosigned(node, &key) >= Some(2)).await;
    kill(agent).await;
    drop(connection);
    for (from, to) in [("journal", "journal"), ("spool", "spool"), ("", "")] {
        let (from, to) = (node.path(from), clone.path(to));
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            if file.path().is_file() && file.file_name() != "agent.lock" {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    run(&mut connection, "only-here", 1).await;
    mirror.until(&mut connection, "outcome").await;
    let size = mirror.records.len();
    let mut newest = None;
    while newest.is_none() || mirror.records.len() < size + 2 {
        run(&mut connection, &format!("more-{}", mirror.records.len()), 9).await;
        newest = mirror.answer(&mut connection).await.or(newest);
    }
    kill(agent).await;
    (mirror, newest.unwrap())
}

#[tokio::test]
async fn a_clone_is_stopped_by_the_floor_before_it_starts_anything_and_stays_so() {
    let (node, clone) = (Machine::new(), Machine::new());
    let (_, newest) = cloned(&node, &clone).await;
    let mut gateway = Gateway::start().await;
    let agent = clone.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut asked = offer("t9", 1, sh("echo x"));
    asked.audit_floor = newest.clone();
    connection.send(Down::Offer(asked)).await;
    let Up::Busy(busy) = connection.next().await else { panic!() };
    assert_eq!(busy.reason(), BusyReason::Unable);
    assert_eq!(busy.error.unwrap().code, "CX-1409");
    // The evidence is kept, and the journal stays closed after a restart.
    until("evidence", || {
        let kept = std::fs::read_dir(clone.path("evidence")).into_iter().flatten();
        kept.map(Result::unwrap).any(|place| place.path().join("SHA256SUMS").exists())
    })
    .await;
    let key = Mirror::new(1).key.verifier().clone();
    until("the quarantine", || verify(&clone, &key).0 == 5).await;
    kill(agent).await;
    let agent = clone.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.send(Down::Offer(offer("t10", 1, echo("x")))).await;
    let Up::Busy(busy) = connection.next().await else { panic!() };
    let error = busy.error.unwrap();
    assert_eq!(error.code, "CX-1403", "{error:?}");
    let said = connection.hello.manifest.clone().unwrap().unable.unwrap();
    assert_eq!(said.code, "CX-1403");
    assert_eq!(connection.hello.incarnation.len(), 32);
    // Recovering begins a new journal that names this one; the agent goes on by itself.
    let old = connection.hello.incarnation.clone();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_cortex-agent"))
        .args(["journal", "recover", "--reason", "fork", "--data-dir"])
        .arg(clone.dir.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut connection = gateway.welcome().await;
    assert_ne!(connection.hello.incarnation, old);
    // The floor of the old journal is none for the new one.
    let mut asked = offer("t11", 1, echo("x"));
    asked.audit_floor = newest;
    connection.send(Down::Offer(asked)).await;
    assert!(matches!(connection.next().await, Up::Claim(_)));
    kill(agent).await;
}

#[tokio::test]
async fn a_clone_that_meets_the_mirror_keeps_the_evidence_and_sends_it() {
    let (node, clone) = (Machine::new(), Machine::new());
    let (mirror, newest) = cloned(&node, &clone).await;
    let mut gateway = Gateway::start().await;
    let agent = clone.start(&gateway);
    let mut connection = gateway.welcome().await;
    let Up::AuditHello(hello) = connection.audit().await else { panic!() };
    let challenge = vec![7; 32];
    let state = AuditState {
        cosigned_note: newest.clone(),
        challenge: challenge.clone(),
        ..mirror.state()
    };
    connection.send(Down::AuditState(state)).await;
    let evidence = loop {
        match connection.audit().await {
            Up::AuditEvidence(evidence) => break evidence,
            Up::AuditBatch(_) | Up::AuditOpenings(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(evidence.notes.contains(&newest), "{evidence:?}");
    // It says with its own key that this is where it stands now.
    let key = VerifierKey::parse(&hello.vkey).unwrap();
    let presence: &[u8; 64] = evidence.presence.as_slice().try_into().unwrap();
    assert_eq!(evidence.challenge, challenge);
    let own = evidence.notes.iter().map(|text| SignedNote::parse(text.as_bytes()).unwrap());
    let signed = |note: &SignedNote| {
        key.key().verifies(&cortex_audit::key::presence_text(&challenge, note.text()), presence)
    };
    let stands = own.filter(signed).map(|note| note.checkpoint().size).collect::<Vec<_>>();
    assert_eq!(stands, [hello.size; 1]);
    connection.send(Down::Offer(offer("t9", 1, echo("x")))).await;
    let Up::Busy(busy) = connection.next().await else { panic!() };
    // It asked before it wrote: it was set back, and there is no second history.
    assert_eq!(busy.error.unwrap().code, "CX-1403");
    kill(agent).await;
}
