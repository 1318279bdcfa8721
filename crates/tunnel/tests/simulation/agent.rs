//! The node: a driver of the agent's end, with a worker, a journal and a spool in memory.

use crate::audit::Journal;
use crate::gateway::key_of;
use crate::world::{Link, World, content, key};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::{
    AttemptPhase, BusyReason, JournalHead, KnownAttempt, Manifest, Offer, Outcome, OutcomeReport,
    OutputChunk, OutputStream, OutputSummary,
};
use cortex_model::{AttemptKey, Tick};
use cortex_tunnel::{
    AgentAction, AgentConfig, AgentEnd, ClaimResult, DisconnectReason, HelloState, Restored,
};
use std::collections::{BTreeMap, BTreeSet};

const SLOTS: u32 = 3;

/// What the node's disk holds of an attempt. Survives restarts.
#[derive(Debug, Default)]
struct Entry {
    /// Bytes of output so far.
    spool: u64,
    /// Ends of the pieces that were read from one stream.
    pieces: Vec<u64>,
    /// Bytes the program will write in all.
    will_write: u64,
    outcome: Option<OutcomeReport>,
    output_acked: u64,
    outcome_acked: bool,
    discarded: bool,
    released: bool,
}

pub(crate) struct Node {
    pub(crate) end: AgentEnd,
    pub(crate) audit: Journal,
    sessions: u32,
    journal: BTreeMap<AttemptKey, Entry>,
    claims: BTreeSet<AttemptKey>,
    running: BTreeSet<AttemptKey>,
    /// The transport of this moment.
    link: Option<usize>,
    /// A dial that will end then, well or not.
    dialling: Option<Tick>,
    offers: Vec<(Tick, Offer)>,
    reads: Vec<(Tick, AttemptKey, u64, usize)>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Node {
            end: machine(1),
            audit: Journal::default(),
            sessions: 1,
            journal: BTreeMap::new(),
            claims: BTreeSet::new(),
            running: BTreeSet::new(),
            link: None,
            dialling: None,
            offers: Vec::new(),
            reads: Vec::new(),
        }
    }

    fn free(&self) -> u32 {
        SLOTS - (self.claims.len() + self.running.len()) as u32
    }

    pub(crate) fn owes_nothing(&self) -> bool {
        self.running.is_empty()
            && self.journal.values().all(|entry| entry.released)
            && self.audit.owes_nothing()
    }

    pub(crate) fn describe(&self) -> String {
        format!("{:#?}\nrunning {:?} claims {:?}", self.journal, self.running, self.claims)
    }
}

fn machine(session: u32) -> AgentEnd {
    AgentEnd::new(AgentConfig {
        node: "n1".into(),
        incarnation: "i1".into(),
        session: format!("s{session}"),
        agent_version: "1".into(),
    })
}

impl World {
    pub(crate) fn step_node(&mut self) {
        self.node_receives();
        self.node_works();
        self.audit_works();
        self.node_answers_late();
        self.node.end.handle_timeout(self.now);
        let head = JournalHead { size: self.node.journal.len() as u64, leaf: String::new() };
        let free = self.node.free();
        self.node.end.update(SLOTS, free, head);
        self.node_acts();
        self.node_sends();
        self.node_acts();
        if self.node.dialling.is_some_and(|at| self.now >= at) {
            self.finish_dialling();
        }
    }

    fn node_receives(&mut self) {
        let Some(link) = self.node.link else { return };
        while let Some(frame) = self.links[link].down.receive(self.now) {
            self.node.end.handle_frame(frame, self.now).expect("the gateway keeps the protocol");
            self.node_acts();
            if self.node.link != Some(link) {
                return;
            }
        }
        let gateway_gone = self.links[link].gateway_gone && self.links[link].silent_since.is_none();
        if gateway_gone && self.links[link].down.is_empty() && self.rng.u32(0..20) == 0 {
            self.agent_loses(link);
        }
    }

    fn node_sends(&mut self) {
        let Some(link) = self.node.link else { return };
        while self.links[link].up.has_room() && self.node.end.has_frame() {
            let frame = self.node.end.poll_frame().expect("has_frame said so");
            let at = self.delay();
            self.node.check_order(&mut self.links[link], frame.body.as_ref().unwrap());
            let this = &mut self.links[link];
            if this.silent_since.is_none() && !this.gateway_gone {
                this.up.send(frame, at);
            }
            self.node_acts();
        }
    }

    pub(crate) fn node_acts(&mut self) {
        while let Some(action) = self.node.end.poll_action(self.now) {
            self.node_does(action);
        }
    }

    fn node_does(&mut self, action: AgentAction) {
        match action {
            AgentAction::Connect => {
                assert!(self.node.link.is_none() && self.node.dialling.is_none());
                self.node.dialling = Some(self.delay());
            }
            AgentAction::Disconnect(why) => self.node_gives_up(&why),
            AgentAction::Welcomed { .. } => self.audit_begins(),
            AgentAction::Audit(news) => self.audit_news(*news),
            AgentAction::Refused { .. }
            | AgentAction::TokenAccepted { .. }
            | AgentAction::RenewNow { .. }
            | AgentAction::Narrow(_)
            | AgentAction::Terminal(_)
            | AgentAction::Drain { .. } => {}
            AgentAction::Offer(offer) => {
                let at = if self.unlucky(8) { self.delay() } else { self.now };
                self.node.offers.push((at, *offer));
            }
            AgentAction::Go { key, .. } => self.node_starts(key),
            AgentAction::NoGo { key, answer, .. } => {
                self.totals.dropped_claims += u64::from(answer.is_none());
                assert!(self.node.claims.remove(&key), "no claim of {key} to drop");
            }
            AgentAction::Query(query) => {
                let key = key_of(&query.task_id, query.attempt);
                let phase = self.node.phase(&key);
                assert!(self.node.end.answer_query(&query, phase));
                assert!(!self.node.end.answer_query(&query, phase), "answered twice");
            }
            AgentAction::Cancel(cancel) => {
                assert!(self.node.end.answer_cancel(&cancel, AttemptPhase::Known));
            }
            AgentAction::OutcomeAcked(key) => {
                assert!(self.store.has_outcome(&key), "{key} acknowledged but not durable");
                let entry = self.node.journal.get_mut(&key).unwrap();
                assert!(!entry.outcome_acked, "{key} acknowledged twice");
                entry.outcome_acked = true;
            }
            AgentAction::OutputAcked { key, offset } => {
                assert!(offset <= self.store.durable(&key));
                let entry = self.node.journal.get_mut(&key).unwrap();
                assert!(offset > entry.output_acked, "acknowledgements only grow");
                entry.output_acked = offset;
            }
            AgentAction::DiscardOutput(key) => {
                self.totals.discarded += 1;
                self.node.journal.get_mut(&key).unwrap().discarded = true;
            }
            AgentAction::Released(key) => {
                let inline = self.node.is_inline(&key);
                let entry = self.node.journal.get_mut(&key).unwrap();
                assert!(entry.outcome_acked && !entry.released);
                let all = entry.output_acked == entry.spool;
                assert!(all || entry.discarded || inline, "{key} is not delivered");
                entry.released = true;
            }
            AgentAction::ReadSpool { key, offset, max } => {
                let entry = &self.node.journal[&key];
                assert!(!entry.released && offset < entry.spool && max > 0);
                assert!(offset + max as u64 <= entry.spool);
                let at = if self.unlucky(3) { self.delay() } else { self.now };
                self.node.reads.push((at, key, offset, max));
                self.node_answers_late();
            }
        }
    }

    fn node_gives_up(&mut self, why: &DisconnectReason) {
        if let DisconnectReason::Silent = why {
            self.totals.silent += 1;
            let link = &self.links[self.node.link.unwrap()];
            let broken = link.silent_since.is_some() || link.gateway_gone;
            assert!(broken, "a living gateway was taken for dead");
        }
        if let Some(link) = self.node.link {
            self.agent_loses(link);
        }
    }

    /// The agent's side of a link closes, and the agent knows.
    pub(crate) fn agent_loses(&mut self, link: usize) {
        self.links[link].agent_gone = true;
        self.links[link].down.clear();
        if self.node.link == Some(link) {
            self.node.link = None;
            let jitter = self.rng.u64(..);
            self.node.end.disconnected(self.now, jitter);
            self.node_acts();
        }
    }

    fn finish_dialling(&mut self) {
        self.node.dialling = None;
        if self.unlucky(4) {
            let jitter = self.rng.u64(..);
            self.node.end.disconnected(self.now, jitter);
            return;
        }
        self.totals.connections += 1;
        self.links.push(Link::default());
        self.add_gateway();
        self.node.link = Some(self.links.len() - 1);
        assert!(self.node.claims.is_empty(), "claims end with their connection");
        let hello = HelloState {
            manifest: Manifest::default(),
            attempts: self.node.known(),
            slots: SLOTS,
            slots_free: self.node.free(),
            ..HelloState::default()
        };
        self.node.end.connected(hello, self.now);
    }

    /// The agent's process dies and another comes up on the same disk.
    pub(crate) fn restart_node(&mut self) {
        if let Some(link) = self.node.link.take() {
            self.links[link].agent_gone = true;
            self.links[link].down.clear();
        }
        let node = &mut self.node;
        node.dialling = None;
        node.offers.clear();
        node.reads.clear();
        node.claims.clear();
        node.sessions += 1;
        self.totals.ignored += node.end.ignored();
        node.end = machine(node.sessions);
        for key in std::mem::take(&mut node.running) {
            self.totals.interrupted += 1;
            let entry = node.journal.get_mut(&key).unwrap();
            entry.outcome = Some(report(&key, entry.spool, false));
        }
        for (key, entry) in node.journal.iter_mut().filter(|(_, entry)| !entry.released) {
            // Acknowledgements are noted lazily: part of them may be forgotten.
            entry.output_acked -= self.rng.u64(0..=entry.output_acked);
            let end = if entry.discarded { entry.output_acked } else { entry.spool };
            node.end.restore(Restored {
                key: key.clone(),
                acked: entry.output_acked,
                end,
                outcome: entry.outcome.clone().filter(|_| !entry.outcome_acked),
                outcome_acked: entry.outcome_acked,
            });
        }
    }

    fn node_starts(&mut self, key: AttemptKey) {
        assert!(self.node.claims.remove(&key), "GO without a claim");
        assert!(self.store.is_started(&key), "GO, but it is not in the log");
        assert!(!self.store.was_released(&key), "GO after the node said it never started");
        let will_write = match self.rng.u32(0..10) {
            0..2 => 0,
            2..4 => self.rng.u64(1..8_000),
            4..9 => self.rng.u64(1..120_000),
            _ => self.rng.u64(1..600_000),
        };
        let entry = Entry { will_write, ..Entry::default() };
        assert!(self.node.journal.insert(key.clone(), entry).is_none(), "{key} runs twice");
        self.node.running.insert(key);
    }

    fn node_works(&mut self) {
        for key in self.node.running.clone() {
            if self.rng.bool() {
                continue;
            }
            let entry = self.node.journal.get_mut(&key).unwrap();
            let left = entry.will_write - entry.spool;
            let inline = entry.spool == 0 && left <= 8_000 && self.rng.bool();
            if left > 0 {
                let piece = self.rng.u64(1..=left.min(50_000));
                let piece = if inline { left } else { piece };
                entry.spool += piece;
                entry.pieces.push(entry.spool);
                if !inline {
                    let end = entry.spool;
                    self.node.end.output_available(&key, end);
                }
            }
            let entry = self.node.journal.get_mut(&key).unwrap();
            if entry.spool == entry.will_write {
                let report = report(&key, entry.spool, inline && left > 0);
                entry.outcome = Some(report.clone());
                self.node.running.remove(&key);
                self.node.end.outcome(report).unwrap();
            }
        }
    }

    fn node_answers_late(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.node.reads.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, key, offset, max) in due {
            let chunk = self.node.read(&key, offset, max);
            self.node.end.output_data(&key, chunk).unwrap();
        }
        let due: Vec<_> = self.node.offers.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, offer) in due {
            self.node_decides(&offer);
        }
    }

    fn node_decides(&mut self, offer: &Offer) {
        let key = key_of(&offer.task_id, offer.attempt);
        let free = self.node.free();
        let known = self.node.journal.contains_key(&key) || self.node.claims.contains(&key);
        if known || free == 0 || self.unlucky(10) {
            self.node.end.busy(offer, BusyReason::NoSlot, free, None);
            return;
        }
        match self.node.end.claim(offer, free - 1) {
            ClaimResult::Claimed => assert!(self.node.claims.insert(key)),
            ClaimResult::Gone => self.totals.gone_claims += 1,
            ClaimResult::Full => panic!("so few attempts cannot be too many"),
        }
    }
}

impl Node {
    fn phase(&self, key: &AttemptKey) -> AttemptPhase {
        match self.journal.get(key) {
            None => AttemptPhase::Unknown,
            Some(entry) if entry.outcome_acked => AttemptPhase::Done,
            Some(_) => AttemptPhase::Known,
        }
    }

    fn known(&self) -> Vec<KnownAttempt> {
        let open = self.journal.iter().filter(|(_, entry)| !entry.outcome_acked);
        open.map(|(key, _)| KnownAttempt {
            workspace: key.task.workspace.to_string(),
            task_id: key.task.task.to_string(),
            attempt: key.attempt,
            phase: AttemptPhase::Known.into(),
        })
        .collect()
    }

    fn is_inline(&self, key: &AttemptKey) -> bool {
        self.journal[key].outcome.as_ref().is_some_and(has_inline)
    }

    fn read(&self, key: &AttemptKey, offset: u64, max: usize) -> OutputChunk {
        let pieces = &self.journal[key].pieces;
        let index = pieces.partition_point(|end| *end <= offset);
        let length = max.min((pieces[index] - offset) as usize);
        let stream = if index % 2 == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
        let data = content(key, offset, length).into();
        OutputChunk { stream: stream.into(), offset, data }
    }

    /// An outcome comes after the last byte of its output on the same connection.
    fn check_order(&self, link: &mut Link, body: &Up) {
        if let Up::Output(report) = body {
            let key = key_of(&report.task_id, report.attempt);
            let chunk = report.chunk.as_ref().unwrap();
            let end = chunk.offset + chunk.data.len() as u64;
            let sent = link.sent.entry(key).or_default();
            *sent = end.max(*sent);
        } else if let Up::Outcome(report) = body {
            let key = key_of(&report.task_id, report.attempt);
            let entry = &self.journal[&key];
            let sent = link.sent.get(&key).copied().unwrap_or(0).max(entry.output_acked);
            let excused = entry.discarded || has_inline(report);
            assert!(excused || sent == entry.spool, "outcome of {key} before its output");
        }
    }
}

fn has_inline(report: &OutcomeReport) -> bool {
    report.outcome.as_ref().is_some_and(|outcome| !outcome.inline_output.is_empty())
}

fn report(attempt: &AttemptKey, bytes: u64, inline: bool) -> OutcomeReport {
    let data = content(attempt, 0, if inline { bytes as usize } else { 0 });
    let chunk = OutputChunk { stream: OutputStream::Stdout.into(), offset: 0, data: data.into() };
    OutcomeReport {
        workspace: attempt.task.workspace.to_string(),
        task_id: attempt.task.task.to_string(),
        attempt: attempt.attempt,
        fence: 1,
        outcome: Some(Outcome {
            output: Some(OutputSummary { stdout_bytes: bytes, ..OutputSummary::default() }),
            inline_output: if inline { vec![chunk] } else { Vec::new() },
            ..Outcome::default()
        }),
    }
}

#[test]
fn the_content_of_two_attempts_differs() {
    assert_ne!(content(&key(1, 1), 0, 100), content(&key(1, 2), 0, 100));
    assert_eq!(content(&key(1, 1), 50, 50), &content(&key(1, 1), 0, 100)[50..]);
}
