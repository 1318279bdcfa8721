//! What the agent owes: output under credit and in turn, outcomes after it, both across connections.

use crate::{actions, agent_up, down, frames, key, outcome, reconnect};
use cortex_model::Tick;
use cortex_model::limits::{OUTCOMES_IN_FLIGHT_MAX, OUTPUT_CHUNK_MAX, OUTPUT_READ_AHEAD};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    Credit, GatewayFrame, Outcome, OutcomeAck, OutcomeReport, OutputAck, OutputChunk, OutputStream,
    OutputSummary,
};
use cortex_tunnel::{AgentAction, AgentEnd, BadChunk, Restored};

const NOW: Tick = Tick(0);
const CHUNK: u64 = OUTPUT_CHUNK_MAX as u64;

fn chunk(offset: u64, length: usize) -> OutputChunk {
    OutputChunk { stream: OutputStream::Stdout.into(), offset, data: vec![1; length].into() }
}

fn ack(task: u32, offset: u64) -> OutputAck {
    let task_id = format!("t{task}");
    OutputAck { workspace: "default".into(), task_id, attempt: 1, offset, ..OutputAck::default() }
}

fn acked(ack: OutputAck) -> GatewayFrame {
    down(Down::OutputAck(ack))
}

fn outcome_ack(task: u32) -> GatewayFrame {
    let task_id = format!("t{task}");
    down(Down::OutcomeAck(OutcomeAck { workspace: "default".into(), task_id, attempt: 1 }))
}

/// Answers every read until there is none and returns what was sent: task and offset of output, task
/// of outcomes.
fn pump(agent: &mut AgentEnd) -> Vec<(String, Option<u64>)> {
    let mut sent = Vec::new();
    loop {
        let reads = actions(agent, NOW);
        for read in &reads {
            let AgentAction::ReadSpool { key, offset, max } = read else { panic!("{read:?}") };
            agent.output_data(key, chunk(*offset, *max)).unwrap();
        }
        let bodies = frames(agent);
        if reads.is_empty() && bodies.is_empty() {
            return sent;
        }
        for body in bodies {
            match body {
                Up::Output(report) => sent.push((report.task_id, report.chunk.map(|c| c.offset))),
                Up::Outcome(report) => sent.push((report.task_id, None)),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn sent(list: &[(u32, Option<u64>)]) -> Vec<(String, Option<u64>)> {
    list.iter().map(|(task, offset)| (format!("t{task}"), *offset)).collect()
}

#[test]
fn attempts_take_turns_chunk_by_chunk_and_outcomes_follow_their_output() {
    let mut agent = agent_up(1 << 20);
    agent.output_available(&key(1), 3 * CHUNK);
    agent.output_available(&key(2), CHUNK + 5);
    agent.outcome(outcome(1)).unwrap();
    agent.outcome(outcome(2)).unwrap();
    agent.outcome(outcome(3)).unwrap();
    let order = pump(&mut agent);
    let output: Vec<_> = order.iter().filter(|(_, offset)| offset.is_some()).cloned().collect();
    let (c, d) = (Some(CHUNK), Some(2 * CHUNK));
    assert_eq!(output, sent(&[(1, Some(0)), (2, Some(0)), (1, c), (2, c), (1, d)]));
    assert_eq!(order[0], ("t3".into(), None), "control overtakes output");
    for task in ["t1", "t2"] {
        let last = order.iter().rposition(|(id, _)| id == task).unwrap();
        assert_eq!(order[last].1, None, "the outcome of {task} is its last frame");
    }
}

#[test]
fn no_byte_is_sent_without_credit_and_no_control_frame_waits_for_it() {
    let mut agent = agent_up(0);
    agent.output_available(&key(1), 100);
    agent.outcome(outcome(2)).unwrap();
    assert_eq!(pump(&mut agent), sent(&[(2, None)]));
    agent.handle_frame(down(Down::Credit(Credit { output_bytes: 30 })), NOW).unwrap();
    assert_eq!(pump(&mut agent), sent(&[(1, Some(0))]));
    agent.handle_frame(down(Down::Credit(Credit { output_bytes: 1_000 })), NOW).unwrap();
    assert_eq!(pump(&mut agent), sent(&[(1, Some(30))]));
}

#[test]
fn only_a_few_chunks_are_read_ahead_of_the_transport() {
    let mut agent = agent_up(u64::MAX);
    for task in 1..=10 {
        agent.output_available(&key(task), 10 * CHUNK);
    }
    let reads = actions(&mut agent, NOW);
    assert_eq!(reads.len(), OUTPUT_READ_AHEAD);
    for read in reads {
        let AgentAction::ReadSpool { key, offset, max } = read else { panic!("{read:?}") };
        agent.output_data(&key, chunk(offset, max)).unwrap();
    }
    assert_eq!(agent.poll_action(NOW), None);
    assert!(agent.poll_frame().is_some());
    assert_eq!(actions(&mut agent, NOW).len(), 1);
}

#[test]
fn after_a_reconnect_output_goes_on_from_the_acknowledged_offset() {
    let mut agent = agent_up(1 << 20);
    agent.output_available(&key(1), 2 * CHUNK);
    agent.outcome(outcome(1)).unwrap();
    assert_eq!(pump(&mut agent).len(), 3);
    agent.handle_frame(acked(ack(1, CHUNK)), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::OutputAcked { key: key(1), offset: CHUNK }]);
    agent.disconnected(NOW, 0);
    reconnect(&mut agent, 1 << 20, NOW);
    assert_eq!(pump(&mut agent), sent(&[(1, Some(CHUNK)), (1, None)]));
    agent.handle_frame(outcome_ack(1), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::OutcomeAcked(key(1))]);
    agent.handle_frame(acked(ack(1, 2 * CHUNK)), NOW).unwrap();
    let last = AgentAction::OutputAcked { key: key(1), offset: 2 * CHUNK };
    assert_eq!(actions(&mut agent, NOW), [last, AgentAction::Released(key(1))]);
    agent.disconnected(NOW, 0);
    reconnect(&mut agent, 1 << 20, NOW);
    assert_eq!(pump(&mut agent), [], "nothing is owed any more");
}

#[test]
fn a_restarted_agent_delivers_what_the_former_one_owed() {
    let mut agent = crate::new_agent();
    for (task, acked, end, reported, outcome_acked) in [
        (1, 5, 9, true, false),
        (2, 0, 0, true, false),
        (3, 4, 8, false, true),
        (4, 0, 0, false, true),
    ] {
        let outcome = reported.then(|| outcome(task));
        agent.restore(Restored { key: key(task), acked, end, outcome, outcome_acked });
    }
    assert_eq!(agent.poll_action(NOW), Some(AgentAction::Released(key(4))));
    assert_eq!(agent.poll_action(NOW), Some(AgentAction::Connect));
    reconnect(&mut agent, 1 << 20, NOW);
    let all = pump(&mut agent);
    assert_eq!(all, sent(&[(2, None), (1, Some(5)), (1, None), (3, Some(4))]));
    agent.handle_frame(acked(ack(3, 8)), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW).last(), Some(&AgentAction::Released(key(3))));
}

#[test]
fn a_resend_rewinds_and_an_acknowledgement_ahead_skips() {
    let mut agent = agent_up(1 << 20);
    agent.output_available(&key(1), 3 * CHUNK);
    assert_eq!(pump(&mut agent).len(), 3);
    agent.handle_frame(acked(OutputAck { resend: true, ..ack(1, CHUNK) }), NOW).unwrap();
    assert!(matches!(agent.poll_action(NOW), Some(AgentAction::OutputAcked { .. })));
    assert_eq!(pump(&mut agent), sent(&[(1, Some(CHUNK)), (1, Some(2 * CHUNK))]));

    agent.disconnected(NOW, 0);
    reconnect(&mut agent, 1 << 20, NOW);
    // The gateway holds more than was acknowledged, and says so before anything is sent again.
    agent.handle_frame(acked(ack(1, 2 * CHUNK + 9)), NOW).unwrap();
    assert!(matches!(agent.poll_action(NOW), Some(AgentAction::OutputAcked { .. })));
    assert_eq!(pump(&mut agent), sent(&[(1, Some(2 * CHUNK + 9))]));
}

#[test]
fn acknowledgements_beyond_the_spool_and_of_the_past_do_no_harm() {
    let mut agent = agent_up(1 << 20);
    agent.output_available(&key(1), 10);
    assert_eq!(pump(&mut agent).len(), 1);
    agent.handle_frame(acked(ack(1, u64::MAX)), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::OutputAcked { key: key(1), offset: 10 }]);
    for frame in [acked(ack(1, 3)), acked(ack(2, 3)), outcome_ack(1), outcome_ack(2)] {
        agent.handle_frame(frame, NOW).unwrap();
    }
    assert_eq!((agent.poll_action(NOW), agent.ignored()), (None, 4));
}

#[test]
fn a_rewind_takes_back_what_was_read_and_its_credit() {
    let mut agent = agent_up(2 * CHUNK);
    agent.output_available(&key(1), 2 * CHUNK);
    let AgentAction::ReadSpool { key: one, offset, max } = agent.poll_action(NOW).unwrap() else {
        panic!("no read")
    };
    agent.output_data(&one, chunk(offset, max)).unwrap();
    assert!(matches!(agent.poll_action(NOW), Some(AgentAction::ReadSpool { .. })));
    agent.handle_frame(acked(OutputAck { resend: true, ..ack(1, 0) }), NOW).unwrap();
    // The answer to the second read comes after the rewind.
    agent.output_data(&one, chunk(CHUNK, OUTPUT_CHUNK_MAX)).unwrap();
    assert_eq!(pump(&mut agent), sent(&[(1, Some(0)), (1, Some(CHUNK))]));
}

#[test]
fn discarded_output_is_not_sent_and_does_not_hold_the_outcome() {
    let mut agent = agent_up(CHUNK);
    agent.output_available(&key(1), 9 * CHUNK);
    assert_eq!(pump(&mut agent).len(), 1);
    agent.outcome(outcome(1)).unwrap();
    assert_eq!(pump(&mut agent), []);
    let discard = OutputAck { discard: true, ..ack(1, 0) };
    agent.handle_frame(acked(discard.clone()), NOW).unwrap();
    agent.handle_frame(acked(discard), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::DiscardOutput(key(1))]);
    agent.output_available(&key(1), 10 * CHUNK);
    assert_eq!(pump(&mut agent), sent(&[(1, None)]));
    agent.handle_frame(outcome_ack(1), NOW).unwrap();
    let done = [AgentAction::OutcomeAcked(key(1)), AgentAction::Released(key(1))];
    assert_eq!(actions(&mut agent, NOW), done);
}

#[test]
fn lost_or_inline_output_does_not_hold_the_outcome_either() {
    let mut agent = agent_up(0);
    agent.output_available(&key(1), 100);
    agent.output_available(&key(2), 100);
    agent.outcome(outcome(1)).unwrap();
    let mut inline: OutcomeReport = outcome(2);
    inline.outcome.as_mut().unwrap().inline_output = vec![chunk(0, 100)];
    agent.outcome(inline).unwrap();
    agent.output_lost(&key(1));
    assert_eq!(pump(&mut agent), sent(&[(2, None), (1, None)]));
}

#[test]
fn a_chunk_that_was_not_asked_for_is_dropped_and_a_bad_one_refused() {
    let mut agent = agent_up(50);
    agent.output_data(&key(1), chunk(0, 9)).unwrap();
    agent.output_available(&key(1), 100);
    assert!(matches!(agent.poll_action(NOW), Some(AgentAction::ReadSpool { max: 50, .. })));
    agent.output_data(&key(1), chunk(7, 9)).unwrap();
    assert!(!agent.has_frame());
    let too_long = agent.output_data(&key(1), chunk(0, 51));
    assert_eq!(too_long, Err(BadChunk { got: 51, max: 50 }));
    assert_eq!(agent.poll_action(NOW), None, "it waits for more");
    agent.output_available(&key(1), 101);
    assert_eq!(pump(&mut agent), sent(&[(1, Some(0))]));
}

#[test]
fn so_many_outcomes_are_under_way_and_no_more() {
    let mut agent = agent_up(0);
    for task in 1..=OUTCOMES_IN_FLIGHT_MAX as u32 + 2 {
        agent.outcome(outcome(task)).unwrap();
    }
    assert_eq!(frames(&mut agent).len(), OUTCOMES_IN_FLIGHT_MAX);
    assert!(!agent.has_frame());
    agent.handle_frame(outcome_ack(1), NOW).unwrap();
    assert_eq!(frames(&mut agent).len(), 1);
}

/// An outcome whose output has so many bytes.
fn with_output(task: u32, bytes: u64) -> OutcomeReport {
    let output = OutputSummary { stdout_bytes: bytes, ..OutputSummary::default() };
    let told = Outcome { output: Some(output), ..Outcome::default() };
    OutcomeReport { outcome: Some(told), ..outcome(task) }
}

fn told_lost(agent: &mut AgentEnd) -> Vec<u64> {
    let lost = |up: Up| match up {
        Up::Outcome(report) => Some(report.outcome?.output?.lost_bytes),
        _ => None,
    };
    frames(agent).into_iter().filter_map(lost).collect()
}

#[test]
fn a_spool_that_lost_its_end_is_delivered_as_far_as_it_goes_and_the_rest_admitted() {
    let mut agent = agent_up(1000);
    let (key, outcome) = (key(1), Some(with_output(1, 9)));
    agent.restore(Restored { key: key.clone(), acked: 0, end: 5, outcome, outcome_acked: false });
    let reads = actions(&mut agent, NOW);
    assert_eq!(reads, [AgentAction::ReadSpool { key: key.clone(), offset: 0, max: 5 }]);
    agent.output_data(&key, chunk(0, 5)).unwrap();
    assert_eq!(told_lost(&mut agent), [4]);
}

#[test]
fn an_outcome_that_was_told_before_the_loss_showed_is_told_again_with_it() {
    let mut agent = agent_up(1000);
    let key = key(1);
    agent.output_available(&key, 9);
    agent.outcome(with_output(1, 9)).unwrap();
    assert_eq!(pump(&mut agent), sent(&[(1, Some(0)), (1, None)]));
    agent.handle_frame(acked(OutputAck { resend: true, ..ack(1, 3) }), NOW).unwrap();
    let wanted = actions(&mut agent, NOW);
    assert!(wanted.contains(&AgentAction::ReadSpool { key: key.clone(), offset: 3, max: 6 }));
    agent.output_lost(&key);
    assert_eq!(told_lost(&mut agent), [6]);
    agent.handle_frame(outcome_ack(1), NOW).unwrap();
    assert!(actions(&mut agent, NOW).contains(&AgentAction::Released(key)));
}

#[test]
fn the_first_outcome_of_an_attempt_is_the_only_one() {
    let mut agent = agent_up(0);
    agent.outcome(outcome(1)).unwrap();
    agent.outcome(OutcomeReport { fence: 99, ..outcome(1) }).unwrap();
    let [Up::Outcome(report)] = &frames(&mut agent)[..] else { panic!("one outcome") };
    assert_eq!(report.fence, 8);
    assert!(agent.outcome(OutcomeReport { outcome: None, ..outcome(2) }).is_err());
}

#[test]
fn a_heartbeat_is_the_next_frame_however_much_output_waits() {
    let mut agent = agent_up(u64::MAX);
    for task in 1..=20 {
        agent.output_available(&key(task), 100 * CHUNK);
    }
    let mut beats = 0;
    // A transport that takes one frame every 300 ms.
    for now in (300..30_000).step_by(300).map(Tick) {
        for read in actions(&mut agent, now) {
            let AgentAction::ReadSpool { key, offset, max } = read else { panic!("{read:?}") };
            agent.output_data(&key, chunk(offset, max)).unwrap();
        }
        let due = agent.poll_timeout().unwrap() <= now;
        agent.handle_timeout(now);
        agent.handle_frame(down(Down::Heartbeat(Default::default())), now).unwrap();
        let is_beat = matches!(agent.poll_frame().unwrap().body, Some(Up::Heartbeat(_)));
        assert_eq!(is_beat, due, "at {now:?}");
        beats += u32::from(is_beat);
    }
    assert!(beats >= 24, "{beats} beats in 30 s");
}
