//! Bounds of the node's side of identity: rival connections, clocks, what is kept on its disk.

/// Time in which sessions of one node that throw each other out make a suspected clone, milliseconds. Said once in it.
pub const RIVALRY_WINDOW_MS: u64 = 10 * 60 * 1_000;
/// How often a session that was thrown out must come back in that time.
pub const RIVALRY_RETURNS: usize = 2;
/// Sessions of a node that are remembered as thrown out.
pub const RIVALS_KEPT: usize = 8;
