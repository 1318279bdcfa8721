//! The node's journal on its way to a mirror. A gateway relays it, holds no key, and never says yes by itself.

use super::connection::Connection;
use cortex_model::proto::AuditResend;
use cortex_tunnel::{AuditDown, AuditUp};

/// Pause asked of an agent while no mirror answers, milliseconds.
const NO_MIRROR_MS: u32 = 5_000;

impl Connection {
    /// No mirror is known here yet, so an upload is to be sent again later and the hello is left unanswered.
    pub(super) fn audit(&mut self, said: AuditUp) {
        let (id, from) = match said {
            AuditUp::Hello(_) => return,
            AuditUp::Batch(batch) => (batch.id, batch.first_seq),
            AuditUp::Openings(openings) => (openings.id, openings.first_seq),
            AuditUp::Evidence(evidence) => (evidence.id, 0),
        };
        let answer = AuditResend { id, from, after_ms: NO_MIRROR_MS };
        if let Err(error) = self.end.audit(AuditDown::Resend(answer)) {
            tracing::debug!(%error, "an upload was not answered");
        }
    }
}
