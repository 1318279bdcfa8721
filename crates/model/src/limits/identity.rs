//! Bounds of identity: lives of certificates and tokens, tries, handshakes.

/// Longest id of an enrolled node, bytes: with its prefix it is one token of a subject.
pub const NODE_ID_MAX: usize = super::TOKEN_MAX - 2;
/// Life of a node's certificate, milliseconds.
pub const CERTIFICATE_LIFE_MS: u64 = 24 * 3_600 * 1_000;
/// How long before its making a certificate is valid, so that a clock that is behind does no harm, milliseconds.
pub const BACKDATE_MS: u64 = 3_600 * 1_000;
/// How long after its end a certificate can still be renewed with its key, milliseconds; a gateway may be told otherwise.
pub const RENEWAL_GRACE_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Longest life of a tunnel token, milliseconds.
pub const TUNNEL_TOKEN_LIFE_MS: u64 = 5 * 60 * 1_000;
/// Difference of clocks that a signed time may have, milliseconds.
pub const CLOCK_SKEW_MS: u64 = 5 * 60 * 1_000;
/// Life of a join token that does not say, milliseconds.
pub const JOIN_TTL_DEFAULT_MS: u64 = 3_600 * 1_000;
/// Life of a user token that does not say, milliseconds.
pub const USER_TTL_DEFAULT_MS: u64 = 8 * 3_600 * 1_000;
/// Longest life of a join token, milliseconds.
pub const JOIN_TTL_MAX_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Longest life of a user token, milliseconds.
pub const USER_TTL_MAX_MS: u64 = 400 * 24 * 3_600 * 1_000;
/// Most machines that may join with one token.
pub const JOIN_USES_MAX: u32 = 1_000;
/// Longest note on a token, bytes.
pub const NOTE_MAX: usize = 256;
/// Longest reason of a decision on a node or token, bytes.
pub const REASON_MAX: usize = 4_096;
/// Longest credential that is looked at, bytes; longer ones are refused unread.
pub const CREDENTIAL_MAX: usize = 16 * 1024;
/// Longest certificate signing request, bytes.
pub const CSR_MAX: usize = 8 * 1024;
/// Longest name of a machine, version or address kept for people, bytes; the rest is cut off.
pub const SHOWN_MAX: usize = 256;
/// How long an unapproved machine waits before it asks again, milliseconds.
pub const PENDING_RETRY_MS: u32 = 2_000;

/// TLS handshakes under way at once; one more ends the oldest.
pub const HANDSHAKES_MAX: usize = 1_024;
/// Of these from one address (for IPv6 from one /64); one more ends the oldest of that address.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 128;
/// Longest TLS handshake, milliseconds.
pub const HANDSHAKE_MS: u64 = 10_000;
/// Connections of one gateway; one more is refused.
pub const CONNECTIONS_MAX: usize = 60_000;
/// Failed tries to join, renew or log in from one address before it must wait.
pub const TRIES_PER_ADDRESS: u32 = 20;
/// After this long one more try is allowed, milliseconds.
pub const TRY_EVERY_MS: u64 = 3_000;
/// Addresses and tokens whose tries are remembered.
pub const TRIES_KEPT: usize = 100_000;
/// Calls per second of one workspace, unless the gateway is told otherwise; twice as many may come at once.
pub const CALLS_PER_SECOND: u32 = 1_000;
/// A gateway can be told at most this.
pub const CALLS_PER_SECOND_MAX: u32 = 1_000_000;
/// Tokens that may be shown in one workspace's listing before the oldest ended ones are forgotten.
pub const ENDED_TOKENS_KEPT: usize = 10_000;

const _: () = assert!(CERTIFICATE_LIFE_MS > 2 * TUNNEL_TOKEN_LIFE_MS);
const _: () = assert!(BACKDATE_MS > CLOCK_SKEW_MS);
const _: () = assert!(HANDSHAKES_PER_ADDRESS_MAX < HANDSHAKES_MAX);
