//! Bounds of the audit on its way from the node to the mirror, and of what the mirror keeps.

/// Records in one batch. More: refused.
pub const AUDIT_BATCH_RECORDS_MAX: u32 = 4_096;
/// Records of one batch, bytes as sent. With note and envelope they must fit in one commit.
pub const AUDIT_BATCH_BYTES_MAX: usize = 192 * 1024;
/// Batches a node may have sent without an answer. Sent more, a gateway ends the connection.
pub const AUDIT_BATCHES_OPEN_MAX: usize = 4;
/// Openings in one upload, bytes. They must fit in one value of the log.
pub const AUDIT_OPENINGS_BYTES_MAX: usize = 704 * 1024;
/// Uploads of openings a node may have sent without an answer. Sent more, a gateway ends the connection.
pub const AUDIT_OPENINGS_OPEN_MAX: usize = 2;
/// Uploads of evidence a node may have sent without an answer. Sent more, a gateway ends the connection.
pub const AUDIT_EVIDENCE_OPEN_MAX: usize = 1;
/// Notes in one piece of evidence. More: refused.
pub const AUDIT_EVIDENCE_NOTES_MAX: usize = 8;
/// Longest challenge of a mirror, bytes. Longer: refused.
pub const AUDIT_CHALLENGE_MAX: usize = 64;
/// Longest signed note, bytes: text and at most 16 signatures. Longer: refused.
pub const AUDIT_NOTE_MAX: usize = 8 * 1024;
/// Longest verifier key, bytes. Longer: refused.
pub const AUDIT_VKEY_MAX: usize = 512;
/// Longest reason or detail that travels with the audit, bytes. Longer: refused.
pub const AUDIT_REASON_MAX: usize = 1_024;
/// Longest pause that a gateway may ask of an agent before it uploads again, milliseconds. A longer one is cut.
pub const AUDIT_RETRY_MAX_MS: u32 = 60_000;

const _: () = assert!(AUDIT_BATCH_BYTES_MAX + AUDIT_NOTE_MAX + 32 * 1024 <= super::COMMIT_MAX);
const _: () = assert!(AUDIT_OPENINGS_BYTES_MAX + 16 * 1024 <= super::FRAME_MAX);
const _: () = assert!(AUDIT_EVIDENCE_NOTES_MAX * AUDIT_NOTE_MAX < AUDIT_BATCH_BYTES_MAX);

/// Invalid uploads in a row after which a node is suspect.
pub const AUDIT_INVALID_MAX: u32 = 3;
/// Reasons for suspicion that a node's history keeps until a person settles them. More are not stored.
pub const AUDIT_SUSPICIONS_MAX: usize = 64;
/// Journals of one node that a mirror holds in memory; the others are read again when needed.
pub const AUDIT_JOURNALS_OPEN_MAX: usize = 4;
/// Signature lines of a node's note that a mirror accepts: its own, one of a key it rotates to, and cosigners to come.
pub const AUDIT_NOTE_SIGNATURES_MAX: usize = 8;
/// Requests waiting for one node's worker. One more is not taken, and the gateway asks again.
pub const AUDIT_JOBS_MAX: usize = 64;
/// How often at most gateways are told how far a node's journal is cosigned, milliseconds.
pub const NODE_AUDIT_EVERY_MS: u64 = 250;
/// Pause asked of a node whose upload the log does not take now, milliseconds.
pub const AUDIT_STORE_RETRY_MS: u32 = 1_000;
/// Pause asked of a node while no mirror answers, milliseconds.
pub const AUDIT_NO_MIRROR_RETRY_MS: u32 = 2_000;
/// How long a gateway waits for a mirror, milliseconds: longer than a doubtful append is settled in.
pub const MIRROR_TIMEOUT_MS: u64 = 30_000;
/// Heartbeat of a mirror, milliseconds.
pub const MIRROR_HEARTBEAT_MS: u64 = 1_000;
/// Silence after which a mirror is not asked any more, milliseconds.
pub const MIRROR_DEAD_AFTER_MS: u64 = 3_500;
/// How long after its node is back a dispatch may be without a recorded intent or refusal, milliseconds.
pub const RECONCILE_AFTER_MS: u64 = 10 * 60 * 1_000;
/// How often overdue dispatches are looked for, milliseconds.
pub const RECONCILE_EVERY_MS: u64 = 500;
/// Tasks whose records a mirror finds at once; of older ones that are in order it forgets where they lie.
pub const AUDIT_TASKS_INDEXED: usize = 200_000;
/// Records about one task in one answer.
pub const AUDIT_FOUND_MAX: usize = 64;

const _: () = assert!(
    AUDIT_BATCH_BYTES_MAX + 3 * AUDIT_NOTE_MAX + 8 * 1024 <= super::COMMIT_MAX,
    "the evidence of a fork fits in one commit"
);
const _: () = assert!(MIRROR_HEARTBEAT_MS * 3 < MIRROR_DEAD_AFTER_MS);
/// Trees over journals that a gateway keeps; of others it reads the journal again.
pub const AUDIT_TREES_KEPT: usize = 4;
/// Records of a journal that a gateway proves one by one. Of longer ones: refused, verify an export.
pub const AUDIT_TREE_RECORDS_MAX: u64 = 8_000_000;
/// Openings in one value of the log, bytes; more begin another part.
pub const AUDIT_OPENINGS_PART: usize = 384 * 1024;
