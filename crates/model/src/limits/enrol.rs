//! Bounds of the node's side of identity: rival connections, clocks, what is kept on its disk.

/// How long a node may wait before it renews its certificate because another CA signs, milliseconds: so much for each node that
/// is connected to the same gateway, so that they do not come at once.
pub const RENEW_NOW_PER_NODE_MS: u64 = 20;
/// Least and most of that, milliseconds.
pub const RENEW_NOW_RANGE_MS: (u64, u64) = (1_000, 600_000);
/// Time in which sessions of one node that throw each other out make a suspected clone, milliseconds. Said once in it.
pub const RIVALRY_WINDOW_MS: u64 = 10 * 60 * 1_000;
/// How often a session that was thrown out must come back in that time.
pub const RIVALRY_RETURNS: usize = 2;
/// Sessions of a node that are remembered as thrown out.
pub const RIVALS_KEPT: usize = 8;
/// Largest file of a node's identity, bytes.
pub const IDENTITY_FILE_MAX: u64 = 256 * 1024;
/// Shortest pause before a failed renewal is tried again, milliseconds.
pub const RENEW_RETRY_MS: u64 = 30_000;
/// Longest such pause, milliseconds.
pub const RENEW_RETRY_MAX_MS: u64 = 3_600_000;
/// How much longer than its token an agent holds a tunnel that the gateway did not end, milliseconds.
pub const TOKEN_GRACE_MS: u64 = 2_000;
/// Pause before a failed refresh of a tunnel's token is tried again, milliseconds.
pub const TOKEN_RETRY_MS: u64 = 5_000;
/// How long `leave` waits for the agent to end its tasks, and then for the server's answer, milliseconds each.
pub const LEAVE_PATIENCE_MS: u64 = 30_000;
/// Shortest pause before an agent that was refused for a reason that does not pass by itself connects again, milliseconds.
pub const REFUSED_RETRY_MS: u64 = 10_000;
/// How often a running agent looks whether its owner made it leave, milliseconds.
pub const LEFT_LOOK_MS: u64 = 1_000;
/// How often a gateway speaks to itself, milliseconds.
pub const SEAT_PULSE_MS: u64 = 500;
/// How long after a word to itself came back a gateway acts for its nodes, milliseconds: counted from when that was sent.
pub const SEAT_LEASE_MS: u64 = 2_500;
/// How long a gateway that takes a node's seat waits for the one that had it, milliseconds. Longer than the lease, so that one
/// that does not answer does nothing for the node any more.
pub const SEAT_PATIENCE_MS: u64 = 3_500;
/// How often a seat is tried to be taken because somebody else was faster.
pub const SEAT_TRIES: u32 = 16;
/// Certificates one key may get at once before it has to wait.
pub const CERTIFICATES_AT_ONCE: u32 = 10;
/// After this long one more, milliseconds.
pub const CERTIFICATE_EVERY_MS: u64 = 10 * 60 * 1_000;
/// Connections without a node's certificate from one address (for IPv6 from one /64); one more is refused.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 512;

const _: () = assert!(3 * SEAT_PULSE_MS < SEAT_LEASE_MS && SEAT_LEASE_MS < SEAT_PATIENCE_MS);
// A gateway that waits for another one must still welcome its agent in time.
const _: () = assert!(SEAT_PATIENCE_MS < super::HANDSHAKE_TIMEOUT_MS / 2);
