//! Where a node stands: the fold of its events, and the rules by which people decide on it. It never decides by itself.

use super::{CertificateIssued, Decision, Digest, Narrowed, NodeEnrolled, RegistryEvent};
use crate::error::{Code, Fault};
use crate::task::Actor;
use crate::time::UnixMillis;
use std::collections::BTreeMap;

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Waits for an admin.
    Pending,
    /// May hold a tunnel and take work.
    Approved,
    /// May not until it is approved again.
    Quarantined,
    /// Was refused before it was ever approved.
    Rejected,
    /// Its key is worth nothing any more.
    Revoked,
    /// Its owner took it out.
    Left,
}

impl Standing {
    /// The word people see.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Pending => "pending",
            Standing::Approved => "approved",
            Standing::Quarantined => "quarantined",
            Standing::Rejected => "rejected",
            Standing::Revoked => "revoked",
            Standing::Left => "left",
        }
    }

    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Standing::Rejected | Standing::Revoked | Standing::Left)
    }
}

/// What somebody may decide on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Let it in.
    Approve,
    /// Refuse it before it was ever in.
    Reject,
    /// Cut it off for now.
    Quarantine,
    /// Cut it off for good.
    Revoke,
}

/// What the registry knows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Where it stands.
    pub standing: Standing,
    /// Its key, for life.
    pub key: Digest,
    /// The join token it came with.
    pub token_id: String,
    /// The machine's own name when it joined.
    pub hostname: String,
    /// Address it joined from.
    pub address: String,
    /// Labels from the join token.
    pub labels: BTreeMap<String, String>,
    /// When it joined.
    pub enrolled_at: UnixMillis,
    /// Its newest certificate.
    pub certificate: Option<CertificateIssued>,
    /// When it was last approved.
    pub approved_at: Option<UnixMillis>,
    /// Who decided on the present standing.
    pub decided_by: Option<Actor>,
    /// Why.
    pub reason: String,
    /// When the present standing began.
    pub decided_at: UnixMillis,
    /// When a clone was last suspected.
    pub clone_suspected_at: Option<UnixMillis>,
    /// What an administrator takes away from what its owner allows, and the commit that said so; none where nobody ever did.
    pub narrowed: Option<(u64, Narrowed)>,
    /// Commits that were folded.
    pub commits: u64,
}

impl NodeRecord {
    pub(super) fn begin(e: &NodeEnrolled) -> NodeRecord {
        NodeRecord {
            standing: Standing::Pending,
            key: e.key,
            token_id: e.token_id.clone(),
            hostname: e.hostname.clone(),
            address: e.address.clone(),
            labels: e.labels.clone(),
            enrolled_at: e.at,
            certificate: None,
            approved_at: None,
            decided_by: None,
            reason: String::new(),
            decided_at: e.at,
            clone_suspected_at: None,
            narrowed: None,
            commits: 0,
        }
    }

    pub(super) fn apply(mut self, event: &RegistryEvent) -> Result<NodeRecord, Fault> {
        match event {
            RegistryEvent::NodeApproved(d) if !self.standing.is_final() => {
                self.approved_at = Some(d.at);
                Ok(self.stands(Standing::Approved, d))
            }
            RegistryEvent::NodeRejected(d) if self.standing == Standing::Pending => {
                Ok(self.stands(Standing::Rejected, d))
            }
            RegistryEvent::NodeQuarantined(d) if !self.standing.is_final() => {
                Ok(self.stands(Standing::Quarantined, d))
            }
            RegistryEvent::NodeRevoked(d) if !self.standing.is_final() => {
                Ok(self.stands(Standing::Revoked, d))
            }
            RegistryEvent::CertificateIssued(c) if self.standing == Standing::Approved => {
                self.certificate = Some(c.clone());
                Ok(self)
            }
            RegistryEvent::NodeLeft { reason, at } if !self.standing.is_final() => {
                self.standing = Standing::Left;
                self.decided_by = None;
                self.reason.clone_from(reason);
                self.decided_at = *at;
                Ok(self)
            }
            RegistryEvent::CloneSuspected(c) => {
                self.clone_suspected_at = Some(c.at);
                Ok(self)
            }
            RegistryEvent::NodeNarrowed(n) if !self.standing.is_final() => {
                self.narrowed = Some((self.commits + 1, n.as_ref().clone()));
                Ok(self)
            }
            other @ (RegistryEvent::NodeEnrolled(_)
            | RegistryEvent::NodeApproved(_)
            | RegistryEvent::NodeRejected(_)
            | RegistryEvent::NodeQuarantined(_)
            | RegistryEvent::NodeRevoked(_)
            | RegistryEvent::CertificateIssued(_)
            | RegistryEvent::NodeLeft { .. }
            | RegistryEvent::NodeNarrowed(_)
            | RegistryEvent::TokenCreated(_)
            | RegistryEvent::TokenUsed(_)
            | RegistryEvent::TokenRevoked(_)) => {
                let text = format!(
                    "a registry history: {} of a node that is {}",
                    other.name(),
                    self.standing.word()
                );
                Err(Fault::new(Code::Quarantined, text))
            }
        }
    }

    fn stands(mut self, standing: Standing, d: &Decision) -> NodeRecord {
        self.standing = standing;
        self.decided_by = Some(d.actor.clone());
        self.reason.clone_from(&d.reason);
        self.decided_at = d.at;
        self
    }

    /// The event of a decision; `None` when nothing would change.
    ///
    /// # Errors
    /// `CX-0519` when a node that stands there cannot be decided on like that.
    pub fn decide(
        &self,
        verb: Verb,
        d: Decision,
        grace_ms: u64,
    ) -> Result<Option<RegistryEvent>, Fault> {
        use Standing::{Approved, Pending, Quarantined, Revoked};
        let now = d.at;
        match (verb, self.standing) {
            (Verb::Approve, Approved) if now <= self.renewable_until(grace_ms) => Ok(None),
            (Verb::Approve, Pending | Quarantined | Approved) => {
                Ok(Some(RegistryEvent::NodeApproved(d)))
            }
            (Verb::Reject, Pending) => Ok(Some(RegistryEvent::NodeRejected(d))),
            (Verb::Reject, Standing::Rejected)
            | (Verb::Quarantine, Quarantined)
            | (Verb::Revoke, Revoked) => Ok(None),
            (Verb::Quarantine, Approved) => Ok(Some(RegistryEvent::NodeQuarantined(d))),
            (Verb::Revoke, Pending | Approved | Quarantined) => {
                Ok(Some(RegistryEvent::NodeRevoked(d)))
            }
            (Verb::Approve | Verb::Revoke | Verb::Reject | Verb::Quarantine, standing) => {
                let what = match verb {
                    Verb::Approve => "approved",
                    Verb::Reject => "rejected",
                    Verb::Quarantine => "quarantined",
                    Verb::Revoke => "revoked",
                };
                let text = format!("a node that is {} cannot be {what}", standing.word());
                Err(Fault::new(Code::WrongStanding, text))
            }
        }
    }

    /// The event that takes something away, or gives it back; `None` when nothing would change.
    ///
    /// # Errors
    /// `CX-0519` for a node whose end is final.
    pub fn narrow(&self, narrowed: Narrowed) -> Result<Option<RegistryEvent>, Fault> {
        if self.standing.is_final() {
            let text = format!("a node that is {} cannot be narrowed", self.standing.word());
            return Err(Fault::new(Code::WrongStanding, text));
        }
        let before = self.narrowed.as_ref().map_or("", |(_, before)| before.text.as_str());
        if before == narrowed.text {
            return Ok(None);
        }
        Ok(Some(RegistryEvent::NodeNarrowed(Box::new(narrowed))))
    }

    /// Whether who holds `key` may act as this node now.
    ///
    /// # Errors
    /// `CX-0508` while it is pending or quarantined, `CX-0509` when its end is final, `CX-0505` for another key.
    pub fn admits(&self, key: &Digest) -> Result<(), Fault> {
        if *key != self.key {
            return Err(Fault::new(
                Code::NotBound,
                "this is not the key the node was enrolled with",
            ));
        }
        let text = format!("the node is {}", self.standing.word());
        match self.standing {
            Standing::Approved => Ok(()),
            Standing::Pending | Standing::Quarantined => {
                Err(Fault::new(Code::NodeNotApproved, text))
            }
            Standing::Rejected | Standing::Revoked | Standing::Left => {
                Err(Fault::new(Code::NodeRevoked, text))
            }
        }
    }

    /// Until when its certificate can be renewed with its key alone.
    #[must_use]
    pub fn renewable_until(&self, grace_ms: u64) -> UnixMillis {
        let ended = self.certificate.as_ref().map_or(self.enrolled_at, |c| c.not_after);
        ended.max(self.approved_at.unwrap_or_default()) + grace_ms
    }

    /// Whether who holds `key` gets a new certificate now.
    ///
    /// # Errors
    /// As [`NodeRecord::admits`], and `CX-0515` when the certificate ran out too long ago.
    pub fn renews(&self, key: &Digest, now: UnixMillis, grace_ms: u64) -> Result<(), Fault> {
        self.admits(key)?;
        if now > self.renewable_until(grace_ms) {
            return Err(Fault::new(
                Code::RenewalTooLate,
                "the node's certificate ran out longer ago than its key alone can renew it",
            ));
        }
        Ok(())
    }
}
