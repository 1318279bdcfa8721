//! Records about work: what was asked, allowed, consented, started, and how it ended.

use super::datum::{Decimal, data, words};
use crate::commitment::Commitment;
use crate::leaf::Leaf;

data! {
    /// Who asked, and for whom.
    Actor {
        /// `human`, `ai` or `program`; empty if nobody said.
        kind: String = "type",
        /// Identifier within the workspace.
        id: String = "id",
        /// The model, for `ai`.
        model: Option<String> = "model",
        /// On whose behalf; null means on its own.
        on_behalf_of: Option<String> = "for",
    }

    /// The consent that allowed an intent.
    Approval {
        /// Number of the `consent.answered` record.
        seq: u64 = "seq",
        /// Its leaf.
        leaf: Leaf = "leaf",
    }

    /// Why something may start, or may not.
    Auth {
        /// What the policy decided: `allow`, `deny`, or `ask` (then `approval` tells whose answer counted).
        decision: String = "decision",
        /// SHA-256 of the policy, as hex digits.
        policy: String = "policy",
        /// The rule that decided; null when none matched.
        rule: Option<String> = "rule",
        /// The consent.
        approval: Option<Approval> = "approval",
        /// SHA-256 of the signed dispatch, as hex digits; null while dispatches are not signed.
        dispatch: Option<String> = "dispatch",
        /// Size of the cosigned checkpoint that came with the dispatch: the journal is at least that long. Null
        /// before there is one.
        floor: Option<u64> = "floor",
    }

    /// `intent`: this is about to be started. Durable before it is.
    Intent {
        /// `<task>/<attempt>`.
        cmd: String = "cmd",
        /// The workspace.
        workspace: String = "ws",
        /// Revision of `Started` in the task's log.
        fence: Decimal = "fence",
        /// First 32 hex digits of the journal's id.
        incarnation: String = "incarnation",
        /// Run that the task belongs to, as its submitter says.
        run: Option<String> = "run",
        /// Step of that run.
        step: Option<String> = "step",
        /// Trace id, 32 hex digits.
        trace: Option<String> = "trace",
        /// Span id, 16 hex digits.
        span: Option<String> = "span",
        /// Who asked.
        actor: Actor = "actor",
        /// Why it may start.
        auth: Auth = "auth",
        /// What kind of thing: `echo`, `process.exec`, `process.terminal` (the same with a terminal), `file.read`, `file.write`, ...
        op: String = "op",
        /// The process; null where none is started.
        exec: Option<Exec> = "exec",
        /// What a file or net operation is applied to; null for others.
        target: Option<Target> = "target",
    }

    /// The process of an intent.
    Exec {
        /// Absolute path of the program.
        exe: String = "exe",
        /// SHA-256 of the program's file, as hex digits; null when it was not taken.
        exe_sha256: Option<String> = "exe_sha256",
        /// Number of arguments, the program's name included.
        argc: u64 = "argc",
        /// The arguments.
        argv: Commitment = "argv",
        /// The working directory.
        cwd: Commitment = "cwd",
        /// The whole environment.
        env: Commitment = "env",
        /// Length and digest of what is fed to standard input, if anything is.
        stdin: Option<Commitment> = "stdin",
        /// User id that the program runs under.
        uid: u32 = "uid",
        /// What confines it.
        sandbox: Sandbox = "sandbox",
        /// Quotas that were set.
        limits: Limits = "limits",
        /// What of the network it reaches: `none`, `local`, `all` and the like.
        net: String = "net",
        /// Run timeout, milliseconds.
        timeout_ms: u64 = "timeout_ms",
    }

    /// How a process is confined.
    Sandbox {
        /// The level that is in force; `none` without a sandbox.
        level: String = "level",
        /// What the level promises and this machine cannot enforce.
        unenforced: Vec<String> = "unenforced",
    }

    /// Quotas of a process; null is no quota.
    Limits {
        /// Processor time, milliseconds.
        cpu_ms: Option<u64> = "cpu_ms",
        /// Memory, bytes.
        memory_bytes: Option<u64> = "memory_bytes",
        /// Processes and threads.
        processes: Option<u64> = "processes",
        /// Written to disk, bytes.
        disk_bytes: Option<u64> = "disk_bytes",
        /// Output that is kept, bytes.
        output_bytes: Option<u64> = "output_bytes",
    }

    /// What a file or net operation is applied to.
    Target {
        /// The path or address.
        path: Commitment = "path",
        /// The second path of a move or copy.
        to: Option<Commitment> = "to",
        /// Length and digest of what is written.
        content: Option<Commitment> = "content",
        /// Bytes that are written or read at most.
        bytes: Option<u64> = "bytes",
        /// Permission bits that are set.
        mode: Option<u32> = "mode",
    }

    /// One quota when the process was over.
    LimitUse {
        /// Which, as in [`Limits`].
        name: String = "name",
        /// The quota.
        limit: u64 = "limit",
        /// What was used; null where it was not measured.
        used: Option<u64> = "used",
        /// How firmly it held: `kernel`, `watched` or `none`.
        strength: String = "strength",
    }

    /// `refusal`: this was not started.
    Refusal {
        /// `<task>/<attempt>`.
        cmd: String = "cmd",
        /// The workspace.
        workspace: String = "ws",
        /// Revision of `Started` in the task's log.
        fence: Decimal = "fence",
        /// Who asked.
        actor: Actor = "actor",
        /// Why, as a stable error code.
        code: String = "code",
        /// What the policy decided, if it was asked.
        auth: Auth = "auth",
        /// What kind of thing was asked for.
        op: String = "op",
        /// The arguments that were asked for.
        argv: Option<Commitment> = "argv",
    }

    /// `recovery`: something was found at start.
    Recovery {
        /// An intent without outcome; null when something else was found.
        intent: Option<u64> = "intent",
        /// Leaf of the intent.
        intent_hash: Option<Leaf> = "intent_hash",
        /// `crash`, `reboot`, `power`, `kill`; `refilled` (records brought back from the anchor), `anchor_lost`.
        found: String = "found",
        /// Processes of the attempt that were still alive and were ended.
        orphans: u32 = "orphans",
    }

    /// `consent.asked`: the owner is asked.
    ConsentAsked {
        /// Id of the question.
        ask: String = "ask",
        /// `<task>/<attempt>`.
        cmd: String = "cmd",
        /// The workspace.
        workspace: String = "ws",
        /// Who asked for the work.
        actor: Actor = "actor",
        /// The rule that says ask.
        rule: Option<String> = "rule",
        /// SHA-256 of the policy, as hex digits.
        policy: String = "policy",
        /// SHA-256 of the exact text that is shown, as hex digits.
        shown: String = "shown",
        /// The text.
        text: Commitment = "text",
        /// SHA-256 of what would run, as hex digits: the answer holds for nothing else.
        fingerprint: String = "fingerprint",
        /// Scopes that are offered: `once`, `session`, `rule` and the like.
        scopes: Vec<String> = "scopes",
        /// When the question lapses, RFC 3339.
        expires: Option<String> = "expires",
    }

    /// `consent.answered`: what the owner said, or that nobody did.
    ConsentAnswered {
        /// Id of the question.
        ask: String = "ask",
        /// Number of the `consent.asked` record.
        asked: u64 = "asked",
        /// Its leaf.
        asked_hash: Leaf = "asked_hash",
        /// `<task>/<attempt>`.
        cmd: String = "cmd",
        /// `allow`, `deny`, `expired` or `withdrawn`.
        answer: String = "answer",
        /// Who answered; null when nobody did.
        who: Option<Actor> = "who",
        /// How: `tty`, `desktop`, `phone`, `cli` and the like.
        channel: Option<String> = "channel",
        /// From the question to the answer, milliseconds.
        latency_ms: u64 = "latency_ms",
        /// SHA-256 of the text that was shown, as hex digits.
        shown: String = "shown",
        /// SHA-256 of what may run, as hex digits.
        fingerprint: String = "fingerprint",
        /// What the answer covers.
        scope: Option<String> = "scope",
        /// Until when it holds, RFC 3339.
        expires: Option<String> = "expires",
    }

    /// `terminal.attached`: somebody takes the keyboard of a terminal. Durable before anything that they type gets there.
    TerminalAttached {
        /// `<task>/<attempt>`.
        cmd: String = "cmd",
        /// The workspace.
        workspace: String = "ws",
        /// Number of the intent of what runs in the terminal.
        intent: u64 = "intent",
        /// Its leaf.
        intent_hash: Leaf = "intent_hash",
        /// The how manyeth attachment of this terminal, from 1.
        number: u64 = "number",
        /// Who.
        actor: Actor = "actor",
    }

    /// `terminal.typed`: an attachment is over, because another one came or the terminal ended.
    TerminalTyped {
        /// `<task>/<attempt>`.
        cmd: String = "cmd",
        /// Number of the `terminal.attached` record.
        attached: u64 = "attached",
        /// Its leaf.
        attached_hash: Leaf = "attached_hash",
        /// Bytes that were typed in it and taken.
        bytes: u64 = "bytes",
        /// Their digest; null when there are none.
        typed: Option<Commitment> = "typed",
    }

    /// `outcome`: how an intent ended.
    Outcome {
        /// `<task>/<attempt>`.
        cmd: String = "cmd",
        /// Number of the intent.
        intent: u64 = "intent",
        /// Leaf of the intent.
        intent_hash: Leaf = "intent_hash",
        /// How it ended.
        status: Status = "status",
        /// Exit code, for `exited`.
        exit_code: Option<i32> = "exit_code",
        /// Number of the signal that we did not send, for `signaled`.
        signal: Option<i32> = "signal",
        /// Stable error code, for `spawn_failed` and `denied`.
        code: Option<String> = "code",
        /// Id of the process.
        pid: Option<u32> = "pid",
        /// From start to end, microseconds.
        dur_us: u64 = "dur_us",
        /// Length and digest of standard output.
        stdout: Option<Commitment> = "stdout",
        /// Length and digest of standard error.
        stderr: Option<Commitment> = "stderr",
        /// Some output was dropped because of the limit.
        truncated: bool = "truncated",
        /// What was changed on disk, where that is known.
        changes: Option<Commitment> = "changes",
        /// Quotas and their use.
        limits: Vec<LimitUse> = "limits",
        /// Who ended it: name of the quota, `timeout`, `cancel`, `oom`; null when it ended by itself.
        killed_by: Option<String> = "killed_by",
        /// Processes of the tree that could not be ended; null when nobody counted.
        survivors: Option<u32> = "survivors",
    }
}

words! {
    /// How something ended, in the words shared with the task log.
    Status {
        /// The program ended by itself.
        Exited = "exited",
        /// A signal ended it that we did not send.
        Signaled = "signaled",
        /// It could not be started.
        SpawnFailed = "spawn_failed",
        /// The run timeout struck.
        Timeout = "timeout",
        /// Cancelled on request.
        Cancelled = "cancelled",
        /// The owner does not allow it.
        Denied = "denied",
        /// The agent died meanwhile.
        Interrupted = "interrupted",
        /// Nothing was found out.
        Unknown = "unknown",
    }
}

impl Actor {
    /// Nobody said who asked.
    #[must_use]
    pub fn unknown() -> Self {
        Self { kind: String::new(), id: String::new(), model: None, on_behalf_of: None }
    }
}

impl Outcome {
    /// An outcome that says no more than how an intent ended.
    #[must_use]
    pub fn new(cmd: String, intent: u64, intent_hash: Leaf, status: Status) -> Self {
        Self {
            cmd,
            intent,
            intent_hash,
            status,
            exit_code: None,
            signal: None,
            code: None,
            pid: None,
            dur_us: 0,
            stdout: None,
            stderr: None,
            truncated: false,
            changes: None,
            limits: Vec::new(),
            killed_by: None,
            survivors: None,
        }
    }
}
