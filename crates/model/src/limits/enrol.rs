//! Bounds of the node's side of identity: rival connections, clocks, what is kept on its disk.

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
/// Pause before a failed refresh of a tunnel's token is tried again, milliseconds.
pub const TOKEN_RETRY_MS: u64 = 5_000;
/// How long `leave` waits for the agent to end its tasks, and then for the server's answer, milliseconds each.
pub const LEAVE_PATIENCE_MS: u64 = 30_000;
/// Shortest pause before an agent that was refused for a reason that does not pass by itself connects again, milliseconds.
pub const REFUSED_RETRY_MS: u64 = 10_000;
/// How often a running agent looks whether its owner made it leave, milliseconds.
pub const LEFT_LOOK_MS: u64 = 1_000;
/// Nodes whose sessions a gateway remembers; when there are more, those without a connection are forgotten.
pub const SEATS_KEPT: usize = 100_000;
/// Certificates one key may get at once before it has to wait.
pub const CERTIFICATES_AT_ONCE: u32 = 10;
/// After this long one more, milliseconds.
pub const CERTIFICATE_EVERY_MS: u64 = 10 * 60 * 1_000;
/// Connections without a node's certificate from one address (for IPv6 from one /64); one more is refused.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 512;
