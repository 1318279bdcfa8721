//! Records about the journal and the agent themselves.

use super::datum::{Base64, data};
use super::work::Actor;
use crate::canonical::Value;
use crate::leaf::Leaf;

/// What `alg` of a genesis says in version 1.
pub const ALG: &str = "sha256-rfc6962/ed25519";

data! {
    /// `genesis`: a journal begins. Its leaf is the journal's id, which so commits to key, node and enrolment.
    Genesis {
        /// The deployment, first part of the origin.
        domain: String = "domain",
        /// The node's id.
        node: String = "node",
        /// The workspace that owns the node.
        tenant: String = "tenant",
        /// How the node was enrolled: the id of its enrolment.
        enroll: Option<String> = "enroll",
        /// Public half of the key that signs the checkpoints, 32 bytes.
        key: Base64 = "pub",
        /// 32 random bytes as hex digits, so that no two journals have the same id.
        nonce: String = "nonce",
        /// [`ALG`].
        alg: String = "alg",
        /// Version of the agent.
        agent: String = "agent",
        /// The journal that this one follows on the same node.
        pred: Option<Predecessor> = "pred",
    }

    /// The journal before, as far as it can be proven.
    Predecessor {
        /// Its id.
        log: Leaf = "log",
        /// Its size when it was left.
        size: u64 = "size",
        /// Its root at that size.
        root: Base64 = "root",
        /// `reinstall`, `rekey`, `recovery`, `fork` or `corrupt`.
        reason: String = "reason",
        /// SHA-256 over the list of the kept evidence, as hex digits.
        evidence: Option<String> = "evidence",
    }

    /// `session.open`: an agent process works with this journal from now on.
    SessionOpen {
        /// Version of the agent.
        agent: String = "agent",
        /// SHA-256 of the agent's program, as hex digits.
        exe_sha256: Option<String> = "exe_sha256",
        /// UUID of the process's session.
        session: String = "session",
        /// 16 random bytes as hex digits: tells apart two processes with the same state (clones).
        nonce: String = "nonce",
        /// Size of the newest cosigned checkpoint that the agent holds; 0 if none.
        cosigned: u64 = "cosigned",
        /// The hypervisor's generation id of the machine.
        vmgenid: Option<String> = "vmgenid",
        /// The session before was closed in order, or this is the first.
        clean: bool = "clean",
        /// SHA-256 of the owner's policy, as hex digits.
        policy: String = "policy",
        /// SHA-256 of the agent's configuration, as hex digits.
        config: Option<String> = "config",
    }

    /// `session.close`: the process ends in order.
    SessionClose {
        /// UUID of the process's session.
        session: String = "session",
        /// Nothing was running.
        clean: bool = "clean",
        /// Size of the newest cosigned checkpoint that the agent holds; 0 if none.
        cosigned: u64 = "cosigned",
    }

    /// `policy.loaded`: the owner's rules that hold from now on.
    PolicyLoaded {
        /// SHA-256 of the rules, as hex digits.
        policy: String = "policy",
        /// The rules before, as hex digits; null at the first load of a session.
        previous: Option<String> = "previous",
        /// Version of the policy's format.
        format: u64 = "format",
        /// Number of rules.
        rules: u64 = "rules",
        /// Where they were read.
        source: String = "source",
        /// `start`, `reload` or `consent` (an answer added a rule).
        trigger: String = "trigger",
    }

    /// `heartbeat`: at least every 15 minutes, also when nothing happens.
    Heartbeat {
        /// Intents without outcome.
        open_intents: u64 = "open_intents",
        /// Records above the newest cosigned checkpoint.
        unacked: u64 = "unacked",
        /// How far the node's clock is ahead of the server's, milliseconds; null while not known.
        skew_ms: Option<i64> = "skew_ms",
        /// Free space of the journal's disk, MiB.
        free_mb: u64 = "free_mb",
        /// Size of the newest cosigned checkpoint; 0 if none.
        cosigned: u64 = "cosigned",
    }

    /// `config`: something that the agent works by was changed.
    Config {
        /// What: `agent`, `capture`, `retention` and the like.
        what: String = "what",
        /// SHA-256 before, as hex digits.
        old: Option<String> = "old",
        /// SHA-256 after, as hex digits.
        new: Option<String> = "new",
    }

    /// `access`: somebody read or exported records or openings on the node.
    Access {
        /// Who.
        actor: Actor = "actor",
        /// `read` or `export`.
        what: String = "what",
        /// First record.
        from: u64 = "from",
        /// Behind the last record.
        to: u64 = "to",
        /// Openings were included.
        openings: bool = "openings",
    }

    /// `redact`: the openings of these commitments are erased. The records that carry them stay as they are.
    Redact {
        /// The commitments, as in `$c`.
        commitments: Vec<String> = "commitments",
        /// Legal basis or reason.
        basis: String = "basis",
        /// Who ordered it.
        by: Actor = "by",
    }

    /// `prune`: records below are dropped from this copy; written before it happens.
    Prune {
        /// First record that is kept.
        min_index: u64 = "min_index",
        /// The archived checkpoint at exactly that size, with its cosignatures.
        note: String = "note",
    }

    /// `key.rotate`: the next checkpoint is signed by both keys, later ones by the new key alone.
    KeyRotate {
        /// The key so far, 32 bytes.
        old: Base64 = "old",
        /// The new key, 32 bytes.
        new: Base64 = "new",
        /// The new key's signature over the rotation; see [`crate::key::rotation_text`].
        pop: Base64 = "pop",
    }

    /// `log.close`: the last record of a journal.
    LogClose {
        /// `leave`, `retire`, `recovery` and the like.
        reason: String = "reason",
        /// Who ordered it.
        by: Option<Actor> = "by",
    }
}

impl Redact {
    /// The commitments that a redaction names, whatever else it says.
    pub(crate) fn list(data: &Value) -> Option<Vec<String>> {
        super::datum::field(data, "commitments").ok()
    }
}
