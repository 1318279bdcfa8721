//! The audit: a journal that grows on the node, and a mirror behind the gateways that stores it, answers late, loses part of
//! what it stored, and never forgets what it cosigned.

use crate::world::World;
use cortex_model::limits::mirror::AUDIT_BATCHES_OPEN_MAX;
use cortex_model::proto::{
    AuditAck, AuditBatch, AuditEncoding, AuditHello, AuditOpenings, AuditOpeningsAck, AuditResend,
    AuditStanding, AuditState,
};
use cortex_tunnel::{AuditDown, AuditError, AuditUp};
use std::collections::BTreeMap;

const RECORDS_MAX: u64 = 400;

/// What the node knows of its journal's way upstream. `acked` survives restarts.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    size: u64,
    pub(crate) acked: u64,
    next: u64,
    next_openings: u64,
    openings_acked: u64,
    /// Uploads of this connection that have no answer.
    open: BTreeMap<u64, u64>,
}

impl Journal {
    pub(crate) fn owes_nothing(&self) -> bool {
        self.acked == self.size && self.openings_acked == self.size
    }
}

/// What the mirror holds.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    stored: Vec<u64>,
    cosigned: u64,
    openings: u64,
}

fn record(seq: u64) -> u64 {
    seq * 31 + 7
}

fn lines(first: u64, count: u64) -> String {
    (first..first + count).map(|seq| format!("{}\n", record(seq))).collect()
}

impl World {
    pub(crate) fn audit_begins(&mut self) {
        let journal = &mut self.node.audit;
        journal.open.clear();
        let hello = AuditHello {
            vkey: "v".into(),
            log: "0".repeat(64),
            size: journal.size,
            head_note: journal.size.to_string(),
            session_nonce: vec![0; 16],
            format: "cortex-audit/1".into(),
            ..AuditHello::default()
        };
        assert_eq!(self.node.end.audit_batch(batch(0, 1)), Err(AuditError::NotNow));
        self.node.end.audit_hello(hello.clone()).expect("once per connection");
        assert_eq!(self.node.end.audit_hello(hello), Err(AuditError::NotNow));
    }

    /// The journal grows, and what there is room for is sent.
    pub(crate) fn audit_works(&mut self) {
        let journal = &mut self.node.audit;
        if !self.calm && journal.size < RECORDS_MAX && self.rng.u8(0..4) == 0 {
            journal.size += self.rng.u64(1..6);
        }
        while self.node.end.audit_room().batches > 0 && journal.next < journal.size {
            let count = self.rng.u64(1..=(journal.size - journal.next).min(9));
            let id = self.node.end.audit_batch(batch(journal.next, count)).expect("there is room");
            journal.next += count;
            journal.open.insert(id, journal.next);
            assert!(journal.open.len() <= AUDIT_BATCHES_OPEN_MAX + 2);
        }
        while self.node.end.audit_room().openings > 0 && journal.next_openings < journal.acked {
            let count = self.rng.u64(1..=(journal.acked - journal.next_openings).min(40));
            let openings = AuditOpenings {
                first_seq: journal.next_openings,
                count: count as u32,
                ..AuditOpenings::default()
            };
            let id = self.node.end.audit_openings(openings).expect("there is room");
            journal.next_openings += count;
            journal.open.insert(id, journal.next_openings);
        }
    }

    pub(crate) fn audit_news(&mut self, news: AuditDown) {
        let journal = &mut self.node.audit;
        let answered = |journal: &mut Journal, id| {
            assert!(journal.open.remove(&id).is_some(), "an answer to {id}, which is not open");
        };
        match news {
            AuditDown::State(state) => {
                journal.next = state.resume_from;
                journal.next_openings = state.openings_from;
                journal.openings_acked = journal.openings_acked.max(state.openings_from);
                journal.acked = journal.acked.max(state.cosigned_note.parse().unwrap_or(0));
            }
            AuditDown::Ack(ack) => {
                answered(journal, ack.id);
                let size = ack.cosigned_note.parse().unwrap();
                assert!(size <= self.store.mirror.cosigned, "acknowledged but not cosigned");
                journal.acked = journal.acked.max(size);
            }
            AuditDown::OpeningsAck(ack) => {
                answered(journal, ack.id);
                journal.openings_acked = journal.openings_acked.max(ack.openings_from);
            }
            AuditDown::Resend(resend) => {
                let end = journal.open.remove(&resend.id).expect("an answer to an open upload");
                self.totals.audit_gaps += 1;
                assert!(resend.from < end);
                journal.next = journal.next.min(resend.from);
            }
            AuditDown::Reject(_) | AuditDown::EvidenceAck(_) => panic!("nobody sent such"),
        }
        assert!(journal.acked <= journal.size, "more acknowledged than there is");
    }

    /// What a gateway relayed reaches the mirror; the answer may find nobody.
    pub(crate) fn mirror_hears(&mut self, link: usize, said: AuditUp) {
        let failing = self.unlucky(12);
        let mirror = &mut self.store.mirror;
        let answer = match said {
            AuditUp::Hello(_) => AuditDown::State(state(mirror)),
            AuditUp::Batch(batch) if failing => {
                let from = (mirror.stored.len() as u64).min(batch.first_seq);
                AuditDown::Resend(AuditResend { id: batch.id, from, after_ms: 0 })
            }
            AuditUp::Batch(batch) => mirror.batch(&batch),
            AuditUp::Openings(openings) => {
                assert!(openings.first_seq <= mirror.openings, "a gap between openings");
                let end = openings.first_seq + u64::from(openings.count);
                mirror.openings = mirror.openings.max(end);
                let openings_from = mirror.openings;
                AuditDown::OpeningsAck(AuditOpeningsAck { id: openings.id, openings_from })
            }
            AuditUp::Evidence(_) => panic!("nobody sent such"),
        };
        let end = &mut self.gateways[link].end;
        match end.audit(answer.clone()) {
            Ok(()) if !matches!(answer, AuditDown::State(_)) => {
                assert_eq!(end.audit(answer), Err(AuditError::NotAsked), "answered twice");
            }
            Ok(()) | Err(AuditError::NotUp) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The store forgets records that were acknowledged, and the mirror notices.
    pub(crate) fn mirror_loses(&mut self, link: usize) {
        let mirror = &mut self.store.mirror;
        let kept = self.rng.usize(0..=mirror.stored.len());
        if kept == mirror.stored.len() {
            return;
        }
        mirror.stored.truncate(kept);
        self.totals.audit_losses += 1;
        match self.gateways[link].end.audit(AuditDown::State(state(mirror))) {
            // The hello of the next connection is told.
            Ok(()) | Err(AuditError::NotUp | AuditError::NotNow) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

impl Mirror {
    fn batch(&mut self, batch: &AuditBatch) -> AuditDown {
        let (first, count) = (batch.first_seq, u64::from(batch.count));
        assert_eq!(batch.records, lines(first, count), "other records than were written");
        let stored = self.stored.len() as u64;
        if first > stored {
            return AuditDown::Resend(AuditResend { id: batch.id, from: stored, after_ms: 0 });
        }
        let fresh = stored.max(first)..first + count;
        self.stored.extend(fresh.map(record));
        let size = self.stored.len() as u64;
        self.cosigned = self.cosigned.max(size);
        let cosigned_note = self.cosigned.to_string();
        AuditDown::Ack(AuditAck { id: batch.id, cosigned_note, resume_from: size })
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.stored.len() as u64 == self.cosigned
            && self.stored.iter().zip(0..).all(|(kept, seq)| *kept == record(seq))
    }
}

fn batch(first_seq: u64, count: u64) -> AuditBatch {
    AuditBatch {
        id: 0,
        first_seq,
        count: count as u32,
        encoding: AuditEncoding::Ndjson.into(),
        records: lines(first_seq, count).into(),
        note: (first_seq + count).to_string(),
    }
}

fn state(mirror: &Mirror) -> AuditState {
    let cosigned_note =
        if mirror.cosigned == 0 { String::new() } else { mirror.cosigned.to_string() };
    AuditState {
        resume_from: mirror.stored.len() as u64,
        cosigned_note,
        standing: AuditStanding::Active.into(),
        max_batches: 4,
        openings_from: mirror.openings,
        ..AuditState::default()
    }
}
