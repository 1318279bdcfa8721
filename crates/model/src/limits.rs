//! Every bound of the system, in one place, with the relations between them asserted at compile time.
//! What happens at a bound is specified where the bound is used and tested there.

pub mod browser;
pub mod enrol;
pub mod identity;
pub mod mirror;

/// Longest identifier of a workspace, node or actor, bytes.
pub const ID_MAX: usize = 128;
/// Longest token that may be part of a log subject, bytes.
pub const TOKEN_MAX: usize = 64;
/// Longest idempotency key, bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 256;
/// Largest encoded task specification, bytes: with its envelope it must fit in one commit.
pub const SPEC_MAX: usize = 192 * 1024;
/// Largest commit in the log, bytes.
pub const COMMIT_MAX: usize = 256 * 1024;
/// Most capability requirements of a task.
pub const REQUIREMENTS_MAX: usize = 32;
/// Most labels of a task or a node.
pub const LABELS_MAX: usize = 64;
/// Longest key or value of a label, bytes.
pub const LABEL_MAX: usize = 256;
/// Most environment variables of a task.
pub const ENV_MAX: usize = 256;
/// Most elements of an argv.
pub const ARGV_MAX: usize = 4096;
/// Largest payload of an echo task, bytes.
pub const ECHO_MAX: usize = 64 * 1024;
/// Highest priority; the lowest is its negative.
pub const PRIORITY_MAX: i32 = 100;
/// Most attempts a retry policy may ask for.
pub const ATTEMPTS_MAX: u32 = 100;
/// Attempts in all of a task that is safe to repeat and does not say.
pub const ATTEMPTS_DEFAULT: u32 = 5;
/// First pause before a retry, milliseconds.
pub const RETRY_BACKOFF_MS: u64 = 1_000;
/// Longest pause before a retry, milliseconds.
pub const RETRY_BACKOFF_MAX_MS: u64 = 5 * 60 * 1_000;
/// Run timeout of a task that does not say, milliseconds.
pub const RUN_TIMEOUT_DEFAULT_MS: u64 = 24 * 3_600 * 1_000;
/// Longest duration anybody may ask for, milliseconds (400 days).
pub const DURATION_MAX_MS: u64 = 400 * 24 * 3_600 * 1_000;
/// Silence after which a safe-to-repeat attempt is given up, milliseconds.
pub const NODE_LOST_GRACE_DEFAULT_MS: u64 = 30_000;
/// Time after a run deadline in which the node may still report, milliseconds.
pub const RUN_DEADLINE_GRACE_MS: u64 = 30_000;
/// Output kept per attempt when the task does not say, bytes.
pub const OUTPUT_LIMIT_DEFAULT: u64 = 10 * 1024 * 1024 * 1024;
/// Largest piece of output in one frame or record, bytes.
pub const OUTPUT_CHUNK_MAX: usize = 64 * 1024;
/// Most of output beyond its limit whose end is kept, bytes, in the agent's memory for each attempt that writes so much.
pub const OUTPUT_TAIL_MAX: u64 = 1024 * 1024;
/// Largest output that travels inside the outcome, bytes.
pub const INLINE_OUTPUT_MAX: usize = 8 * 1024;
/// How long an agent waits for more output before it sends what it has, milliseconds.
pub const OUTPUT_LINGER_MS: u64 = 25;
/// Output that may be on its way without being durable, per tunnel, bytes.
pub const OUTPUT_WINDOW: u64 = 1024 * 1024;
/// Largest frame in the tunnel, bytes.
pub const FRAME_MAX: usize = 1024 * 1024;
/// Largest request of a client, bytes. Above SPEC_MAX, so that an oversized task gets a clear answer.
pub const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// Heartbeat period, milliseconds.
pub const HEARTBEAT_MS: u32 = 1_000;
/// Silence after which a connection is dead, milliseconds.
pub const DEAD_AFTER_MS: u32 = 3_000;
/// Heartbeats an agent accepts from a gateway, shortest and longest period, milliseconds. Outside: protocol error.
pub const HEARTBEAT_RANGE_MS: (u32, u32) = (10, 60_000);
/// Longest silence a gateway may ask an agent to bear, milliseconds. Longer: protocol error.
pub const DEAD_AFTER_MAX_MS: u32 = 300_000;
/// When free slots change, the next heartbeat comes this long after the last one, milliseconds.
pub const EARLY_HEARTBEAT_MS: u64 = 100;
/// Time to establish a connection, milliseconds; then it is given up.
pub const CONNECT_TIMEOUT_MS: u64 = 15_000;
/// Time from the established connection to the welcome, milliseconds; then either side gives it up.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// Longest grace of a draining gateway, milliseconds; a longer one is shortened.
pub const DRAIN_MAX_MS: u64 = 60_000;
/// First window of the pause before an agent reconnects, milliseconds; doubles with every failure.
pub const RECONNECT_BASE_MS: u64 = 250;
/// Largest such window, milliseconds.
pub const RECONNECT_CAP_MS: u64 = 30_000;
/// Longest floor a server can set for that pause, milliseconds; a longer one is shortened.
pub const RECONNECT_FLOOR_MAX_MS: u64 = 600_000;
/// Floor after a refusal that repetition cannot cure and that names none, milliseconds.
pub const RECONNECT_FATAL_MS: u64 = 60_000;
/// A connection that lived this long resets the back-off, milliseconds.
pub const RECONNECT_STABLE_MS: u64 = 10_000;
/// Smallest output window of a tunnel, bytes: one chunk. A smaller one is raised.
pub const OUTPUT_WINDOW_MIN: u64 = OUTPUT_CHUNK_MAX as u64;
/// Largest output window of a tunnel, bytes. Neither side believes in more.
pub const OUTPUT_WINDOW_MAX: u64 = 64 * 1024 * 1024;
/// New credit is granted once this part (one over) of the window is settled.
pub const OUTPUT_GRANT_FRACTION: u64 = 4;
/// Chunks an agent reads ahead of the transport; it asks for no more until one was sent.
pub const OUTPUT_READ_AHEAD: usize = 4;
/// Outcomes sent and not acknowledged per connection. The agent waits; sent more, a gateway ends the connection.
pub const OUTCOMES_IN_FLIGHT_MAX: usize = 256;
/// Offers and claims open per connection. The gateway offers no more; sent more, an agent answers busy.
pub const OPEN_OFFERS_MAX: usize = 1024;
/// Queries, and cancels, open per connection. The gateway asks no more; sent more, an agent ends the connection.
pub const OPEN_QUERIES_MAX: usize = 1024;
/// Frames waiting for a transport. When full the connection ends: the peer does not read.
pub const FRAME_QUEUE_MAX: usize = 8 * 1024;
/// Actions waiting for a tunnel's driver. When full the connection ends: the driver does not keep up.
pub const ACTION_QUEUE_MAX: usize = 4 * 1024;
/// Attempts with output or outcome unacknowledged. An agent that has as many claims no more; none is dropped.
pub const UNDELIVERED_ATTEMPTS_MAX: usize = 5_000;
/// How long a scheduler waits for the answer to an offer, milliseconds.
pub const OFFER_TIMEOUT_MS: u64 = 1_600;
/// Pause before a node that did not take an offer of a task is offered it again, milliseconds.
pub const REOFFER_AFTER_MS: u64 = 200;
/// Pause between two questions about the same attempt, milliseconds.
pub const QUERY_EVERY_MS: u64 = 1_500;
/// Longest pause before a node that keeps refusing is offered anything again, milliseconds.
pub const REOFFER_MAX_MS: u64 = 10_000;
/// How long a scheduler waits for `Started` after a node's claim before it offers the task again, milliseconds.
pub const CLAIM_TIMEOUT_MS: u64 = 5_000;
/// An attempt that runs this long without an end is asked for once, in case its go was lost, milliseconds.
pub const CONFIRM_AFTER_MS: u64 = 10_000;
/// How long a scheduler waits to see its own append before it decides again, milliseconds.
pub const APPEND_TIMEOUT_MS: u64 = 20_000;
/// Pause after an append that failed or was overtaken, milliseconds.
pub const APPEND_RETRY_MS: u64 = 500;
/// Most proposals a scheduler makes at once; the rest comes with the next call.
pub const PROPOSALS_MAX: usize = 256;
/// Requirement sets per workspace that are kept indexed while no task has them.
pub const IDLE_CLASSES_KEPT: usize = 64;
/// Nodes per workspace remembered, for explanations, while they are away.
pub const AWAY_NODES_KEPT: usize = 1_000;
/// Tasks with an impossible history that are remembered for explanations.
pub const BROKEN_TASKS_KEPT: usize = 1_000;
/// Refused offers remembered per task and recorded with its start.
pub const REFUSALS_KEPT: usize = 8;
/// How long what runs may go on when an agent is asked to stop and its owner did not say, seconds.
pub const STOP_GRACE_DEFAULT_SECS: u64 = 20;
/// Longest such grace, seconds.
pub const STOP_GRACE_MAX_SECS: u64 = 24 * 3_600;
/// Late reports recorded per attempt; further ones are acknowledged and dropped.
pub const LATE_REPORTS_MAX: usize = 4;
/// Slots of a node that does not say.
pub const SLOTS_DEFAULT: u32 = 4;
/// Most slots of a node.
pub const SLOTS_MAX: u32 = 4096;
/// Most tasks on one page of a listing.
pub const PAGE_MAX: u32 = 1000;
/// Tasks on a page when the client does not say.
pub const PAGE_DEFAULT: u32 = 100;
/// Share of the log's quota from which submits are refused, percent; outcomes still need room.
pub const LOG_SUBMIT_STOP_PERCENT: u64 = 90;
/// Nodes named one by one in an explanation.
pub const EXPLAIN_NODES_MAX: usize = 20;
/// Attempts a hello may list.
pub const KNOWN_ATTEMPTS_MAX: usize = 10_000;
/// Most limits that an outcome tells of.
pub const LIMITS_MAX: usize = 16;
/// Most gaps of a sandbox that an outcome tells of.
pub const GAPS_MAX: usize = 16;
/// Longest request of the owner on the agent's local socket, bytes.
pub const LOCAL_REQUEST_MAX: usize = 64 * 1024;
/// Most entries of the journal that one such request gets.
pub const LOCAL_HISTORY_MAX: usize = 10_000;
/// Connections of a task through the agent's proxy at a time; more wait.
pub const PROXY_CONNECTIONS_MAX: usize = 256;

// The owner's policy.

/// Largest policy file, bytes.
pub const POLICY_FILE_MAX: u64 = 1024 * 1024;
/// Longest text by which a server takes something away from a policy, bytes.
pub const NARROWING_MAX: usize = 16 * 1024;
/// Most rules of a policy.
pub const POLICY_RULES_MAX: usize = 1_000;
/// Most subcommands or flags that one rule lists.
pub const POLICY_RULE_WORDS_MAX: usize = 1_000;
/// Longest script, or argv with all its words, that is decided about, bytes. Longer: denied, nobody is asked.
pub const SCRIPT_MAX: usize = 128 * 1024;
/// Most commands of a script. More: denied, nobody is asked.
pub const SCRIPT_COMMANDS_MAX: usize = 64;
/// Most names that the patterns of a script may stand for. More: denied.
pub const GLOB_HITS_MAX: usize = 1_000;
/// Most working directories that a command of a script may have, by the ways that lead to it. More: opaque.
pub const SCRIPT_DIRS_MAX: usize = 8;
/// Most files looked at below the roots for names that are hidden or protected. More: denied, with advice.
pub const VIEW_WALK_MAX: usize = 200_000;
/// Questions that may wait for the owner. More: denied.
pub const CONSENT_QUEUE_MAX: usize = 20;
/// Answers remembered at a time. More: the answer counts once.
pub const CONSENT_GRANTS_MAX: usize = 1_000;
/// Longest that an answer may be remembered, milliseconds.
pub const CONSENT_GRANT_MAX_MS: u64 = 30 * 86_400_000;
/// Times that a remembered answer counts at most.
pub const CONSENT_GRANT_USES: u32 = 1_000;
/// Lines of a question that are shown before the owner must ask for the rest.
pub const CONSENT_LINES_SHOWN: usize = 40;
/// Longest line on the owner's socket, bytes.
pub const CONSENT_LINE_MAX: usize = 64 * 1024;
/// Connections on the owner's socket at a time; further ones are closed.
pub const CONSENT_PEERS_MAX: usize = 16;
/// Bytes of a rule's or class's name in a report about consent.
pub const CONSENT_WORD_MAX: usize = 256;
/// Classes in such a report.
pub const CONSENT_CLASSES_MAX: usize = 8;
/// Questions of one attempt that are recorded; what a node tells beyond is dropped.
pub const CONSENT_QUESTIONS_MAX: u32 = 16;
/// Most places that are hidden or protected because of their name. More: denied, with advice.
pub const VIEW_NAMES_MAX: usize = 4_000;

// Terminals.

/// Longest name of a kind of terminal, bytes.
pub const TERM_MAX: usize = 64;
/// Most lines of a terminal, and most characters in a line.
pub const TERMINAL_SIZE_MAX: u16 = 10_000;
/// Most that is typed in one message, bytes.
pub const TERMINAL_PIECE_MAX: usize = 16 * 1024;
/// What was typed and the program has not taken yet, bytes per terminal; also what a client holds that is not accepted yet.
/// More is not accepted, or not read from whoever types.
pub const TERMINAL_TYPED_MAX: usize = 64 * 1024;
/// Attachments in the life of one terminal. More: refused.
pub const TERMINAL_ATTACHMENTS_MAX: usize = 1_000;
/// Messages that wait for one terminal. More: not accepted, the client sends again.
pub const TERMINAL_WAITING_MAX: usize = 16;
/// How long a terminal's output is gathered before it is sent, milliseconds.
pub const TERMINAL_LINGER_MS: u64 = 5;

// Files.

/// Longest path of a file action, bytes.
pub const FILE_PATH_MAX: usize = 4096;
/// Most bytes of a file that travel in one task: the content of a write, a diff, a piece of a larger file.
pub const FILE_PIECE_MAX: usize = 128 * 1024;
/// Most search-and-replaces of one edit.
pub const FILE_REPLACEMENTS_MAX: usize = 256;
/// Largest file that is edited, or searched line by line, in memory, bytes. Larger: refused.
pub const FILE_EDIT_MAX: u64 = 64 * 1024 * 1024;
/// Most patterns of a glob or search.
pub const FILE_GLOBS_MAX: usize = 64;
/// Longest pattern, bytes.
pub const FILE_PATTERN_MAX: usize = 4096;
/// Most entries that a list, glob or search tells; also what 0 means for list and glob.
pub const FILE_ENTRIES_MAX: usize = 100_000;
/// Lines that a search tells when it does not say how many.
pub const FILE_MATCHES_DEFAULT: usize = 1_000;
/// Most lines around a match.
pub const FILE_CONTEXT_MAX: usize = 100;
/// Longest line that a search tells whole, bytes; of a longer one it tells the beginning.
pub const FILE_LINE_MAX: usize = 16 * 1024;
/// Directories below each other that are removed together. Deeper: refused.
pub const FILE_DEPTH_MAX: usize = 256;
/// Most locks that one task asks for.
pub const LOCKS_MAX: usize = 16;
/// Most repositories that an outcome names as new. More: that there are more is said.
pub const REPOSITORIES_MAX: usize = 32;
/// Bytes of their paths together. More: the same.
pub const REPOSITORIES_BYTES_MAX: usize = 8 * 1024;
/// Most reasons why there may be more of them.
pub const REPOSITORY_GAPS_MAX: usize = 8;
/// How long they are looked for when an attempt is over, milliseconds. Longer: the look is cut short, and that is said.
pub const REPOSITORY_LOOK_MS: u64 = 500;
/// Directories that wait to be looked into. More: the same.
pub const REPOSITORY_WAITING_MAX: usize = 100_000;
/// Pieces of an upload that are on their way at a time.
pub const FILE_PIECES_AHEAD: usize = 8;
/// Bytes of a download that one task gives.
pub const FILE_PORTION: u64 = 8 * 1024 * 1024;

const _: () = assert!(FILE_PIECE_MAX + FILE_PATH_MAX + 8 * 1024 <= SPEC_MAX);
const _: () =
    assert!(TERMINAL_PIECE_MAX < FRAME_MAX / 2 && TERMINAL_PIECE_MAX <= TERMINAL_TYPED_MAX);
const _: () = assert!(SPEC_MAX + 32 * 1024 <= COMMIT_MAX);
const _: () = assert!(ECHO_MAX + INLINE_OUTPUT_MAX < SPEC_MAX);
const _: () = assert!(INLINE_OUTPUT_MAX < COMMIT_MAX / 2);
const _: () = assert!(OUTPUT_CHUNK_MAX * 2 <= FRAME_MAX);
const _: () = assert!(COMMIT_MAX < FRAME_MAX && FRAME_MAX < REQUEST_MAX);
const _: () = assert!(OUTPUT_CHUNK_MAX as u64 * 4 <= OUTPUT_WINDOW);
const _: () = assert!(HEARTBEAT_MS * 3 <= DEAD_AFTER_MS);
const _: () = assert!(HEARTBEAT_RANGE_MS.1 * 2 <= DEAD_AFTER_MAX_MS);
const _: () = assert!(OUTPUT_WINDOW_MIN <= OUTPUT_WINDOW && OUTPUT_WINDOW <= OUTPUT_WINDOW_MAX);
const _: () = assert!(RECONNECT_BASE_MS <= RECONNECT_CAP_MS);
const _: () = assert!(RECONNECT_CAP_MS <= RECONNECT_FLOOR_MAX_MS);
const _: () = assert!(UNDELIVERED_ATTEMPTS_MAX + SLOTS_MAX as usize <= KNOWN_ATTEMPTS_MAX);
const _: () =
    assert!(2 * (OPEN_OFFERS_MAX + OPEN_QUERIES_MAX) + OUTCOMES_IN_FLIGHT_MAX <= FRAME_QUEUE_MAX);
const _: () = assert!(REOFFER_AFTER_MS < REOFFER_MAX_MS && OFFER_TIMEOUT_MS < CLAIM_TIMEOUT_MS);
