//! Output without end, and many things at once: the agent stays small and its session alive.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

mod support;

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use std::collections::BTreeMap;
use support::*;

/// Memory of a process, KiB: at most so far, or at present.
fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_gibibyte_without_a_line_end_passes_while_nobody_listens_and_the_agent_stays_small() {
    const ALL: u64 = 1 << 30;
    const KEPT: u64 = 64 << 20;
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let pid = agent.id().unwrap();
    // Not a byte of output may be sent.
    let mut connection = gateway.welcome_with(0).await;
    connection.dispatch("before", 1, sh("exit 0")).await;
    connection.outcome().await;
    let idle = memory(pid, "VmRSS:");
    let written = node.path("written");
    let script = format!("head -c {ALL} /dev/zero; : > {}", written.display());
    let mut offer = offer("big", 2, sh(&script));
    offer.output_limit_bytes = KEPT;
    connection.send(Down::Offer(offer)).await;
    let Up::Claim(_) = connection.next().await else { panic!("no claim") };
    connection.go(&connection.hello.session.clone(), "big", 2).await;
    until("all of it to be written", || written.exists()).await;
    // Now somebody listens: an outcome comes after the output that was kept.
    connection.send(Down::Credit(Credit { output_bytes: KEPT })).await;
    let (report, kept) = connection.outcome_and_output().await;
    let outcome = report.outcome.unwrap();
    let output = outcome.output.unwrap();
    assert_eq!(output.stdout_bytes + output.dropped_bytes, ALL);
    assert!(output.stdout_bytes <= KEPT && output.stdout_bytes > KEPT / 2, "{output:?}");
    assert_eq!(kept.len() as u64, output.stdout_bytes);
    assert_eq!(outcome.ending.unwrap().kind, Some(ending::Kind::Exited(Exited { code: 0 })));
    let most = memory(pid, "VmHWM:");
    assert!(most < idle + 64 * 1024, "{most} KiB at most, {idle} KiB idle");
    kill(agent).await;
}

#[tokio::test]
async fn a_program_that_writes_for_ever_is_ended_when_it_is_far_beyond_its_limit() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut offer =
        offer("yes", 1, sh("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done"));
    offer.output_limit_bytes = 16 * 1024;
    connection.send(Down::Offer(offer)).await;
    let Up::Claim(_) = connection.next().await else { panic!("no claim") };
    connection.go(&connection.hello.session.clone(), "yes", 1).await;
    let (report, _) = connection.outcome_and_output().await;
    let outcome = report.outcome.unwrap();
    assert_eq!(outcome.confinement.unwrap().killed_by, "output");
    assert!(outcome.output.unwrap().dropped_bytes > 16 * 1024);
    kill(agent).await;
}

#[tokio::test]
async fn five_things_at_once_all_complete_and_the_session_stays_alive() {
    const BIG: usize = 100_000_000;
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.command(&gateway).args(["--slots", "5"]).spawn().unwrap();
    let mut connection = gateway.welcome().await;
    let (go_on, file) = (node.path("go-on"), node.path("written"));
    let waits = format!("while [ ! -e {} ]; do sleep 0.02; done; echo long", go_on.display());
    let search = "grep -rl root /etc/passwd /etc/group | sort";
    let write = format!(
        "i=0; while [ $i -lt 2000 ]; do echo line$i; i=$((i+1)); done > {}",
        file.display()
    );
    let big = format!("head -c {BIG} /dev/zero");
    let specs = [
        ("long", sh(&waits)),
        ("big", sh(&big)),
        ("write", sh(&write)),
        ("search", sh(search)),
        ("echo", echo("hello")),
    ];
    for (id, (name, spec)) in (1..).zip(specs.clone()) {
        connection.send(Down::Offer(offer(name, id, spec))).await;
    }
    let mut outputs: BTreeMap<String, usize> = BTreeMap::new();
    let mut ended = BTreeMap::new();
    let session = connection.hello.session.clone();
    while ended.len() < 5 {
        match connection.next().await {
            Up::Claim(claim) => connection.go(&session, &claim.task_id, claim.offer_id).await,
            Up::Output(output) => {
                let chunk = output.chunk.unwrap();
                *outputs.entry(output.task_id.clone()).or_default() += chunk.data.len();
                let length = chunk.data.len() as u64;
                connection.ack_output(&output.task_id, chunk.offset + length).await;
                connection.send(Down::Credit(Credit { output_bytes: length })).await;
            }
            Up::Outcome(report) => {
                let outcome = report.outcome.clone().unwrap();
                let inline: usize = outcome.inline_output.iter().map(|c| c.data.len()).sum();
                *outputs.entry(report.task_id.clone()).or_default() += inline;
                assert_eq!(ending(&report), ending::Kind::Exited(Exited { code: 0 }), "{report:?}");
                connection.ack_outcome(&report.task_id).await;
                ended.insert(report.task_id.clone(), outcome);
                if ended.len() == 4 {
                    assert!(!ended.contains_key("long"), "it cannot have ended yet");
                    std::fs::write(&go_on, "").unwrap();
                }
            }
            other => panic!("{other:?}"),
        }
    }
    while outputs["big"] < BIG {
        let Up::Output(output) = connection.next().await else { panic!("no output") };
        let chunk = output.chunk.unwrap();
        *outputs.get_mut("big").unwrap() += chunk.data.len();
        let length = chunk.data.len() as u64;
        connection.ack_output("big", chunk.offset + length).await;
        connection.send(Down::Credit(Credit { output_bytes: length })).await;
    }
    assert_eq!(outputs["big"], BIG);
    assert_eq!((outputs["long"], outputs["echo"]), (5, 5));
    let lines: String = (0..2000).map(|n| format!("line{n}\n")).collect();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), lines);
    kill(agent).await;
}
