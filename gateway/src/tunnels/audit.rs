//! The node's journal on its way to a mirror, and what follows from what the mirror says. A gateway relays, one upload at a time and
//! in order; it understands of a cosigned note no more than its size, and never says yes by itself.

use super::connection::{Connection, Done};
use crate::audit::{Standing, is_barred};
use cortex_audit::SignedNote;
use cortex_model::limits::mirror::AUDIT_NO_MIRROR_RETRY_MS;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use cortex_tunnel::{AuditDown, AuditUp};
use futures::FutureExt;
use pb::mirror_reply::Body as Reply;
use pb::mirror_request::Body as Ask;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The audit of one connection.
#[derive(Default)]
pub(super) struct Relay {
    /// What waits for the mirror; bounded by the tunnel.
    queue: VecDeque<AuditUp>,
    /// Something is on its way.
    busy: bool,
    hello: Option<pb::AuditHello>,
    pub(super) standing: Option<Standing>,
    floor: u64,
}

impl Relay {
    /// Why the node must get no work, if it must not.
    pub(super) fn barred(&self) -> Option<Fault> {
        let audit = self.standing.as_ref()?.borrow().clone();
        is_barred(&audit).then(|| {
            Fault::new(
                Code::AuditQuarantined,
                format!("the node's audit bars it: {}", audit.reason),
            )
        })
    }
}

/// Waits for a change of the node's standing.
pub(super) async fn changed(standing: &mut Option<Standing>) {
    match standing {
        Some(standing) => {
            if standing.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

impl Connection {
    pub(super) fn audit(&mut self, said: AuditUp) {
        if let AuditUp::Hello(hello) = &said {
            self.relay.hello = Some(hello.clone());
        }
        self.relay.queue.push_back(said);
        self.relay_next();
    }

    fn relay_next(&mut self) {
        let Some(peer) = &self.peer else { return };
        if self.relay.busy {
            return;
        }
        let Some(said) = self.relay.queue.pop_front() else { return };
        self.relay.busy = true;
        let (shared, workspace) = (self.shared.clone(), self.workspace.to_string());
        let (node, log) = (peer.node.to_string(), peer.incarnation.to_string());
        self.work.push(
            async move {
                let body = match said.clone() {
                    AuditUp::Hello(hello) => Ask::Hello(hello),
                    AuditUp::Batch(batch) => Ask::Batch(batch),
                    AuditUp::Openings(openings) => Ask::Openings(openings),
                    AuditUp::Evidence(evidence) => Ask::Evidence(evidence),
                };
                shared.seats.may_act().await;
                let answer = shared.audits.ask(&workspace, &node, &log, body).await;
                if answer.is_err() && matches!(said, AuditUp::Hello(_)) {
                    tokio::time::sleep(Duration::from_millis(AUDIT_NO_MIRROR_RETRY_MS.into()))
                        .await;
                }
                Done::Relayed { said: Box::new(said), answer: Box::new(answer) }
            }
            .boxed(),
        );
    }

    /// The mirror answered, or nobody did.
    pub(super) fn relayed(&mut self, said: AuditUp, answer: Result<Reply, Fault>) {
        self.relay.busy = false;
        let hello = matches!(said, AuditUp::Hello(_));
        let down = match answer {
            Ok(Reply::State(state)) => Some(AuditDown::State(state)),
            Ok(Reply::Ack(ack)) => Some(AuditDown::Ack(ack)),
            // The mirror could not answer the hello: its log is not there.
            Ok(Reply::Resend(_)) if hello => None,
            Ok(Reply::Resend(resend)) => Some(AuditDown::Resend(resend)),
            Ok(Reply::Reject(reject)) => Some(AuditDown::Reject(reject)),
            Ok(Reply::OpeningsAck(ack)) => Some(AuditDown::OpeningsAck(ack)),
            Ok(Reply::EvidenceAck(ack)) => Some(AuditDown::EvidenceAck(ack)),
            Ok(Reply::Found(_) | Reply::Settled(_) | Reply::Located(_) | Reply::Error(_))
            | Err(_) => again(&said),
        };
        match down {
            None => {
                self.work.push(
                    async {
                        tokio::time::sleep(Duration::from_millis(AUDIT_NO_MIRROR_RETRY_MS.into()))
                            .await;
                        Done::GreetMirror
                    }
                    .boxed(),
                );
            }
            Some(down) => self.tell(down),
        }
        self.relay_next();
    }

    fn tell(&mut self, down: AuditDown) {
        if let AuditDown::Ack(pb::AuditAck { cosigned_note, .. })
        | AuditDown::State(pb::AuditState { cosigned_note, .. }) = &down
        {
            self.floor(cosigned_note);
        }
        if let Err(error) = self.end.audit(down) {
            tracing::debug!(node = self.node_name(), %error, "the agent was not told what the mirror said");
        }
    }

    /// A newer checkpoint is the floor of every dispatch from now on.
    pub(super) fn floor(&mut self, note: &str) {
        let Ok(parsed) = SignedNote::parse(note.as_bytes()) else { return };
        let size = parsed.checkpoint().size;
        if size > self.relay.floor {
            self.relay.floor = size;
            self.end.set_audit_floor(note);
        }
    }

    /// Says hello to the mirror again, in the agent's words.
    pub(super) fn greet_mirror(&mut self) {
        if let Some(hello) = self.relay.hello.clone() {
            self.relay.queue.push_front(AuditUp::Hello(hello));
            self.relay_next();
        }
    }

    /// The node is known from now on, and how its audit stands.
    pub(super) fn stands(&mut self, standing: Standing) {
        let audit = Arc::clone(&standing.borrow());
        let ours =
            self.peer.as_ref().is_some_and(|p| audit.log.starts_with(p.incarnation.as_str()));
        self.relay.standing = Some(standing);
        if ours {
            self.floor(&audit.cosigned_note);
        }
    }

    /// The mirror, or an operator, sees the node otherwise than before.
    pub(super) fn standing_changed(&mut self) {
        let Some(standing) = &mut self.relay.standing else { return };
        let audit = Arc::clone(&standing.borrow_and_update());
        if self.peer.as_ref().is_some_and(|p| audit.log.starts_with(p.incarnation.as_str())) {
            self.floor(&audit.cosigned_note);
        }
        let told = self.relay_told(&audit);
        if !told {
            return;
        }
        let was_barred = self.peer.as_ref().is_some_and(|peer| peer.barred);
        self.announce();
        if is_barred(&audit) {
            tracing::error!(
                node = self.node_name(),
                reason = audit.reason,
                "the node gets no work: its audit bars it"
            );
            self.tell(AuditDown::Reject(pb::AuditReject {
                id: 0,
                code: pb::AuditRejectCode::Quarantined.into(),
                seq: 0,
                detail: audit.reason.clone(),
                evidence_notes: audit.evidence_notes.clone(),
            }));
        } else if was_barred {
            // The agent learns where it stands now. Never otherwise: an old hello tells of a shorter journal.
            self.greet_mirror();
        }
    }

    /// Whether the standing itself changed, and not only how far the journal is cosigned.
    fn relay_told(&mut self, audit: &pb::NodeAudit) -> bool {
        let Some(peer) = &mut self.peer else { return false };
        std::mem::replace(&mut peer.audit_standing, audit.standing) != audit.standing
    }
}

/// What an agent is told when no mirror answered; the hello is said again by the gateway.
fn again(said: &AuditUp) -> Option<AuditDown> {
    let (id, from) = match said {
        AuditUp::Hello(_) => return None,
        AuditUp::Batch(batch) => (batch.id, batch.first_seq),
        AuditUp::Openings(openings) => (openings.id, openings.first_seq),
        AuditUp::Evidence(evidence) => (evidence.id, 0),
    };
    Some(AuditDown::Resend(pb::AuditResend { id, from, after_ms: AUDIT_NO_MIRROR_RETRY_MS }))
}
