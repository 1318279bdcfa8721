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
