//! Errors that reach a person or a program: one table of stable codes. It knows no transport; the
//! gateway maps [`Class`] to a gRPC status in one file.

use std::fmt;

/// What kind of failure a code is; decides the transport's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request itself is wrong and will stay wrong.
    Invalid,
    /// What was named does not exist in this workspace.
    NotFound,
    /// It exists already, with other content.
    Exists,
    /// The request is well-formed but not possible in the present state.
    Precondition,
    /// A bound was reached.
    Exhausted,
    /// Something needed is not reachable at present.
    Unavailable,
    /// Nobody showed who they are.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// A defect or damaged data.
    Internal,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $class:ident, $retry:literal, $hint:literal, $doc:literal;)*) => {
        /// A stable error code; `docs/errors/` has a page for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $doc] $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as shown, for example `CX-0101`.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Code::$name => $code,)* } }

            /// What kind of failure it is.
            #[must_use]
            pub const fn class(self) -> Class { match self { $(Code::$name => Class::$class,)* } }

            /// Whether the same request may succeed later, unchanged.
            #[must_use]
            pub const fn retryable(self) -> bool { match self { $(Code::$name => $retry,)* } }

            /// What to do about it, where nothing better is known.
            #[must_use]
            pub const fn hint(self) -> &'static str { match self { $(Code::$name => $hint,)* } }
        }
    };
}

codes! {
    Malformed = "CX-0101", Invalid, false, "compare the request with the contract in proto/cortex/v1", "A required part of a request is missing or has a value outside the contract.";
    BadIdentifier = "CX-0102", Invalid, false, "use 1 to 64 of a-z, 0-9, '-' and '_'", "An identifier has characters or a length that are not allowed.";
    TooLarge = "CX-0103", Exhausted, false, "move large input into a file on the node, or pass less", "A task or one of its parts is larger than its limit.";
    BadRequirement = "CX-0104", Invalid, false, "write NAME, NAME=VALUE or NAME>=VERSION, for example 'python>=3.10' or 'os=linux'", "A capability requirement cannot be read.";
    BadDuration = "CX-0105", Invalid, false, "use a duration between 1 ms and 400 days", "A duration is outside its limits.";
    BadEnvironment = "CX-0106", Invalid, false, "names are letters, digits and '_', and do not begin with a digit", "An environment variable has an unusable name or value.";
    BadRetry = "CX-0107", Invalid, false, "retrying lost attempts needs a task that is declared safe to repeat", "A retry policy contradicts itself or is outside its limits.";
    BadArgv = "CX-0108", Invalid, false, "give a program and its arguments, none of them with a NUL byte", "A command line is empty or holds what no system can run.";
    BadPage = "CX-0109", Invalid, false, "begin the listing again without a page token", "A page token or size is not valid.";
    BadKey = "CX-0110", Invalid, false, "use 1 to 256 printable characters", "An idempotency key is empty, too long or has control characters.";
    BadActor = "CX-0111", Invalid, false, "say who asks: a kind (human, ai, program) and an id; an ai also needs its model", "The actor of a request is missing or incomplete.";
    BadPriority = "CX-0112", Invalid, false, "use a priority from -100 to 100", "A priority is out of range.";
    TaskNotFound = "CX-0201", NotFound, false, "list tasks with 'cortex task list'", "No such task in this workspace.";
    KeyConflict = "CX-0202", Exists, false, "use another idempotency key for another request", "The idempotency key was used before for a different request.";
    TaskOver = "CX-0203", Precondition, false, "see how it ended with 'cortex task show'", "The task is over; nothing can be changed any more.";
    NotIndeterminate = "CX-0204", Precondition, false, "only a task whose outcome is not known can be resolved", "The task is not INDETERMINATE.";
    NodeNotFound = "CX-0205", NotFound, false, "list nodes with 'cortex node list'", "No such node in this workspace.";
    NoCommonVersion = "CX-0301", Precondition, false, "upgrade the older side", "Agent and gateway share no version of the tunnel protocol.";
    ProtocolViolation = "CX-0302", Invalid, false, "the peer does not follow proto/cortex/v1/agent.proto", "A frame came out of order or with content that is not allowed.";
    Superseded = "CX-0303", Precondition, false, "another connection of the same node took over", "The connection was replaced by a newer one.";
    Draining = "CX-0304", Unavailable, true, "connect to another gateway", "The gateway is going away.";
    NotAllowed = "CX-0401", Forbidden, false, "the node's owner decides what may run: see the policy file on the node", "The node's policy does not allow this.";
    ProgramNotFound = "CX-0402", NotFound, false, "check the name, or require a capability so that the task goes to a node that has it", "The program does not exist on the node.";
    SpawnFailed = "CX-0403", Precondition, false, "check permissions and the working directory on the node", "The program could not be started.";
    AgentUnable = "CX-0404", Unavailable, true, "look at the agent's own log on the node", "The agent takes no work at present.";
    BadCwd = "CX-0405", Precondition, false, "name a directory that exists on the node", "The working directory cannot be used.";
    EnvForbidden = "CX-0406", Forbidden, false, "variables that change how programs load code cannot be set by a task", "The task sets an environment variable that the node does not accept.";
    NodeDiskLow = "CX-0407", Exhausted, true, "free space on the node", "The node has too little disk space to record what it would do.";
    JournalUnwritable = "CX-1401", Unavailable, true, "look at the disk of the node (kernel log, mount options), then restart the agent", "The node's journal cannot be read or written.";
    JournalDamaged = "CX-1402", Internal, false, "on the node: 'cortex-agent journal doctor', then 'cortex-agent journal recover'", "The node's journal is damaged.";
    JournalRolledBack = "CX-1403", Precondition, false, "on the node: 'cortex-agent journal doctor', then 'cortex-agent journal recover'", "The node's journal is shorter or older than it once was.";
    JournalForked = "CX-1404", Precondition, false, "find out which copy of the node is the right one, stop the other, then 'cortex-agent journal recover'", "The node's journal contradicts what its own key signed before.";
    JournalOld = "CX-1405", Precondition, false, "run 'cortex-agent journal recover' on the node: it keeps the old journal and begins a new one that names it", "The journal was written by a version whose format is not kept on.";
    JournalUnlinked = "CX-1406", Precondition, false, "stop the agent, put the file back or run 'cortex-agent journal recover', and start it again", "A file of the node's journal was deleted or replaced while in use.";
    JournalLocked = "CX-1407", Precondition, true, "find the process that holds the journal (fuser, lsof) and end it", "Another process holds the node's journal.";
    JournalDuplicate = "CX-1408", Precondition, false, "an attempt starts once; ask for a new attempt", "The journal has a record of this attempt already.";
    JournalFloor = "CX-1409", Precondition, false, "on the node: 'cortex-agent journal doctor' compares the journal with the checkpoint", "The node's journal does not hold the checkpoint that came with the dispatch.";
    JournalUnacked = "CX-1410", Unavailable, true, "find out why the mirror does not acknowledge the node's records", "Too many records of the node wait for the mirror's countersignature.";
    JournalAck = "CX-1411", Forbidden, false, "look at the gateway: somebody between node and mirror changes what the mirror says", "An acknowledgement of the node's journal is not one.";
    Unauthenticated = "CX-0501", Unauthenticated, false, "pass the token: set CORTEX_DATA_DIR to the server's data directory", "The call carries no valid token.";
    Forbidden = "CX-0502", Forbidden, false, "ask an administrator for the permission", "The caller is known but may not do this.";
    TokenExpired = "CX-0503", Unauthenticated, false, "ask for a new token, or log in again", "The token's time is over.";
    TokenRevoked = "CX-0504", Unauthenticated, false, "ask an administrator why, and for a new token", "The token was revoked.";
    NotBound = "CX-0505", Unauthenticated, false, "show the token on a connection with the certificate it was minted for", "The credential does not belong to the key or certificate of this connection.";
    ClockSkew = "CX-0506", Unauthenticated, false, "set the clock of the machine (for example with NTP)", "Clocks differ too much.";
    ActorMismatch = "CX-0507", Forbidden, false, "leave the actor out, or use a token of that actor", "The token does not speak for the actor that was named.";
    NodeNotApproved = "CX-0508", Forbidden, true, "an administrator decides: cortex node approve NODE", "The node is not approved at present.";
    NodeRevoked = "CX-0509", Forbidden, false, "join again with a new join token: it becomes another node", "The node's key is worth nothing any more.";
    CertificateRequired = "CX-0510", Unauthenticated, false, "connect with the node's certificate: join first", "The call needs the certificate of a node.";
    BadJoinToken = "CX-0511", Unauthenticated, false, "copy the whole token from 'cortex token create node'", "No such join token.";
    JoinTokenUsed = "CX-0512", Forbidden, false, "make a new one: cortex token create node", "All uses of the join token are taken.";
    JoinTokenExpired = "CX-0513", Unauthenticated, false, "make a new one: cortex token create node --ttl 1h", "The join token's time is over.";
    BadCsr = "CX-0514", Invalid, false, "send a PKCS #10 request for an ECDSA P-256 key, signed by it, with no other names", "A certificate request cannot be used.";
    RenewalTooLate = "CX-0515", Forbidden, false, "an administrator opens a new period: cortex node approve NODE", "The certificate ran out too long ago to be renewed by its key alone.";
    TooManyTries = "CX-0516", Exhausted, true, "wait, then try again", "Too many failed tries.";
    RateLimited = "CX-0517", Exhausted, true, "slow down, then try again", "The workspace makes too many calls.";
    TokenNotFound = "CX-0518", NotFound, false, "list tokens with 'cortex token list --all'", "No such token in this workspace.";
    WrongStanding = "CX-0519", Precondition, false, "see where it stands with 'cortex node show'", "The node cannot be decided on like that where it stands.";
    IssuerUnavailable = "CX-0520", Unavailable, true, "check that the gateway reaches the issuer's JWKS", "The keys of the token's issuer cannot be read.";
    NoAuthority = "CX-0521", Precondition, false, "make one with 'cortex ca init', or name it with --authority DIR", "The deployment's keys are missing.";
    BadTokenText = "CX-0522", Invalid, false, "copy the whole line that 'cortex token create' printed", "A text is not a token.";
    ServerNotTrusted = "CX-0523", Unauthenticated, false, "make sure the address is right; if the CA changed on purpose, ask for a new token", "The server is not the one the token or context belongs to.";
    NoContext = "CX-0524", Precondition, false, "log in first: cortex login URL", "There is no such context.";
    BadIssuers = "CX-0525", Invalid, false, "correct the file; docs/identity.md has an example", "The configuration of outside issuers cannot be used.";
    BadProof = "CX-0526", Unauthenticated, false, "sign with the key of the shown certificate", "The proof of the node's key is not valid.";
    BadGrant = "CX-0527", Invalid, false, "see 'cortex token create --help'", "A token cannot be made like that.";
    BadServerCertificate = "CX-0528", Precondition, false, "name the chain and its key in PEM: --tls-cert FILE --tls-key FILE", "The certificate that a server was given cannot be used.";
    NotEnrolled = "CX-0540", Precondition, false, "run: cortex-agent join https://HOST:PORT TOKEN", "This machine has no identity, so it cannot connect.";
    AlreadyEnrolled = "CX-0541", Exists, false, "run 'cortex-agent leave' first, or use another data directory", "This machine is a node already.";
    IdentityDamaged = "CX-0542", Internal, false, "move the directory 'identity' aside and join again with a new token", "What a node keeps of its identity cannot be used.";
    NoServiceManager = "CX-0543", Precondition, false, "start the agent with what this machine has: see the command in the message", "There is no systemd that could run the agent.";
    NotTls = "CX-0544", Precondition, false, "check the port; a gateway speaks TLS 1.3 only", "What answers at an address speaks no TLS, or not the version that is needed.";
    TunnelTokenStale = "CX-0545", Unavailable, true, "the agent connects again by itself", "A tunnel was closed because its token was not refreshed in time.";
    LogUnavailable = "CX-0601", Unavailable, true, "try again; the same key makes it safe", "The event log does not answer.";
    LogNearlyFull = "CX-0602", Exhausted, true, "raise the log's quota or archive old tasks", "The event log is close to its quota; new tasks are refused so that running ones can finish.";
    AppendUnknown = "CX-0603", Unavailable, true, "try again with the same key: it will not be done twice", "It is not known whether the event was stored.";
    LogCorrupt = "CX-0604", Internal, false, "restore a backup; keep the damaged file for analysis", "The event log is damaged.";
    LogUnsafe = "CX-0605", Precondition, false, "change the server's settings as named in the message", "The log's server is too old or set up in a way that can lose acknowledged events.";
    DataDirLocked = "CX-0701", Precondition, true, "stop the other process or use another --data-dir", "Another process uses the data directory.";
    DataDirNewer = "CX-0702", Precondition, false, "run the version of cortex that wrote it, or a newer one", "The data directory was written by a newer version.";
    DataDirCorrupt = "CX-0703", Internal, false, "restore it from a backup made with 'cortex backup'", "The data directory is damaged or not one of ours.";
    DiskFull = "CX-0704", Exhausted, true, "free disk space", "The disk is full.";
    AddressInUse = "CX-0705", Precondition, true, "stop the other process or choose another --listen address", "The address is already in use.";
    InsecureFile = "CX-0706", Precondition, false, "run: chmod 600 FILE", "A secret file can be read by others.";
    CannotConnect = "CX-0801", Unavailable, true, "start it with 'cortex up', or set CORTEX_DATA_DIR to the data directory of a running one", "The server cannot be reached.";
    BadTaskFile = "CX-0802", Invalid, false, "each line is one JSON object; nothing of the file was submitted", "A line of a task file cannot be read.";
    Usage = "CX-0803", Invalid, false, "see --help", "The command line is not valid.";
    NoMirror = "CX-1501", Unavailable, true, "start one with 'cortex mirror', or 'cortex up' on one machine; nodes keep their journals until then", "No mirror answers, so nothing is countersigned at present.";
    NoAudit = "CX-1502", NotFound, false, "list journals with 'cortex audit show'", "No such journal, record or audit in this workspace.";
    AuditQuarantined = "CX-1503", Precondition, false, "look at the evidence with 'cortex audit show NODE', then 'cortex audit settle'", "The node's journal contradicts what was countersigned, so it gets no work.";
    Internal = "CX-0901", Internal, false, "this is a defect: please report it with the server's log", "Something happened that should not be possible.";
    Quarantined = "CX-0902", Internal, false, "its history breaks an invariant; see 'cortex task history' and report it", "The task's history is inconsistent, so nothing more is done with it.";
    PolicyUnusable = "CX-1001", Unavailable, true, "correct the policy file; 'cortex-agent policy check' says what is wrong, and the agent looks again by itself", "The node's policy file cannot be used, so the agent takes no work.";
    FlagNotAllowed = "CX-1002", Forbidden, false, "leave the option out, or ask the node's owner to list it in the rule", "The rule that is nearest does not list an option of the command.";
    PathDenied = "CX-1003", Forbidden, false, "name a path inside the roots of the node's policy that it does not hide or protect", "The command names a path that the node's policy does not open.";
    WrapperNotAllowed = "CX-1004", Forbidden, false, "submit the inner command itself", "The program runs whatever it is given, and no rule names it.";
    BuiltinNotAllowed = "CX-1005", Forbidden, false, "use variables of the task instead of 'export', and separate tasks instead of 'eval', 'source' or 'exec'", "The script uses a command of the shell that changes what the following ones mean.";
    OpaqueScript = "CX-1006", Forbidden, false, "write plain commands joined by '&&', '||', '|' or ';', without variables, loops and substitutions", "The script cannot be looked into.";
    RuleDenies = "CX-1007", Forbidden, false, "the owner wrote this rule on purpose; ask them", "A rule of the node's policy denies this.";
    RequestRefused = "CX-1008", Forbidden, false, "send a shorter command, in UTF-8, without NUL bytes", "The command has a form that is never decided about.";
    SandboxUnavailable = "CX-1009", Forbidden, false, "see what 'cortex-agent doctor' says on the node", "The node cannot enforce what its policy demands.";
    LimitUnenforceable = "CX-1010", Forbidden, false, "the owner can set limits.enforce to \"best-effort\", or give the agent a cgroup", "The node cannot hold a limit exactly, and its policy insists on it.";
    SecretUnavailable = "CX-1011", Forbidden, false, "the owner names secrets in env.secrets of the policy, as file:PATH or keyring:NAME", "A secret that the command needs is not available on the node.";
    ProgramNotTrusted = "CX-1012", Forbidden, false, "name the program by its name alone, or ask the owner for a rule with @root/FILE", "The program lies where the policy does not look for programs, or leads to a file that tasks can write.";
    RightsDiffer = "CX-1013", Forbidden, false, "submit the commands as separate tasks", "Commands of one script have rules that give different networks or secrets.";
    TerminalDenied = "CX-1014", Forbidden, false, "leave --tty out, or ask the node's owner for terminal = \"allow\" in the rule", "The node's policy gives the command no terminal.";
    ConsentNeeded = "CX-1201", Forbidden, false, "the owner answers on the node, with 'cortex-agent consent'", "The node's owner must agree first.";
    ConsentRefused = "CX-1202", Forbidden, false, "talk to the node's owner", "The node's owner said no.";
    ConsentTimedOut = "CX-1203", Forbidden, false, "ask again when the owner is there", "The node's owner did not answer in time.";
    ConsentUnavailable = "CX-1204", Forbidden, false, "the owner can name a channel in the policy: consent.channels = [\"socket\"]", "The owner would have to agree, and cannot be asked on this node.";
    ConsentQueueFull = "CX-1205", Forbidden, false, "ask again when the owner has answered what waits", "Too many questions wait for the node's owner.";
    ConsentNotYours = "CX-1206", Forbidden, false, "answer from a terminal of your own on the node", "Whoever answers could be a task of the agent, or somebody else.";
    ConsentNotFound = "CX-1207", NotFound, false, "see what waits with 'cortex-agent consent list'", "There is no such question or grant.";
    ConsentBadAnswer = "CX-1208", Invalid, false, "look at the whole question with 'cortex-agent consent show ID', and type the code it shows", "An answer is not complete, so it counts for nothing.";
    BadFileAction = "CX-1301", Invalid, false, "see 'cortex fs --help' and docs/files.md", "An operation on files is incomplete or contradicts itself.";
    FileNotFound = "CX-1302", NotFound, false, "see what is there: cortex fs list", "There is no such file or directory on the node.";
    FileKind = "CX-1303", Precondition, false, "see what it is: cortex fs stat", "What is at the path is of another kind than the operation works on.";
    FileExists = "CX-1304", Exists, false, "choose another path, or allow that it is replaced", "There is something at the path already.";
    FileChanged = "CX-1305", Precondition, false, "read it again and decide anew", "The file is not the one that was expected: it was changed meanwhile.";
    EditMismatch = "CX-1306", Precondition, false, "read the file again; nothing was changed", "An edit does not fit the file, so none of it was done.";
    FileRefused = "CX-1307", Forbidden, false, "see owner and permissions of the file, and what the node's policy protects", "The node's system does not let the path be used.";
    FileNoSpace = "CX-1308", Exhausted, true, "free space on the node", "There is no room on the node's disk, or the file would be larger than a task may write.";
    FileFailed = "CX-1309", Precondition, true, "look at the node's disk and its kernel log", "Reading or writing failed on the node.";
    PartGone = "CX-1310", Precondition, false, "begin the copy again", "The part of a file that was being received is not there any more.";
    DigestMismatch = "CX-1311", Precondition, true, "copy again; if it happens again, look at the disks", "Bytes do not have the SHA-256 that they should have.";
    FileTooLarge = "CX-1312", Exhausted, false, "read a range, or copy it with 'cortex cp'", "The file is larger than the operation can take.";
    NoTerminal = "CX-1313", Precondition, false, "run it in a terminal, or leave --tty out: give input with --stdin, and see the output as it comes", "There is no terminal where one is needed.";
    LockTimeout = "CX-1314", Unavailable, true, "see what runs on the node with 'cortex task list --node NODE', or wait longer with --lock-timeout", "Another task of the node held a path for longer than this one would wait.";
    LockUnusable = "CX-1315", Precondition, true, "look at the disk of the node, and at the agent's directory 'locks'", "The number of a lock cannot be kept on the node, so it is not given.";
    BadBrowserAction = "CX-1601", Invalid, false, "see 'cortex browser --help' and docs/browser.md", "What a browser is asked to do is incomplete or contradicts itself.";
    UrlRefused = "CX-1602", Forbidden, false, "use http:// or https://, without user and password; which origins are open the node's owner says in 'browser.origins' of the policy", "An address is not one that the browser may open.";
    PageFailed = "CX-1603", Unavailable, true, "see whether the page loads elsewhere, and whether the node's policy lists its host in the network of browsers", "A page could not be loaded, or not in time.";
    StepFailed = "CX-1604", Precondition, false, "look at the page with 'cortex browser screenshot', and correct the step", "A step could not be done on the page, or not in time.";
    BrowserDied = "CX-1605", Unavailable, true, "try again; 'cortex-agent doctor' on the node tries the browser out", "The browser did not start, crashed, or gave no answer.";
    SensitiveField = "CX-1606", Forbidden, false, "write 'sensitive' or 'secret' in place of 'fill': then the node's owner is asked where the policy wants that", "A step would fill a field for a password or a payment without saying so.";
    DownloadFailed = "CX-1607", Precondition, false, "ask for it with 'cortex browser download', where the node's policy has browser.download", "A file was not downloaded.";
    ResultTooLarge = "CX-1608", Exhausted, false, "ask for less: a selector, or a smaller part of the page", "What a page gives is larger than a result may be.";
    SandboxFailed = "CX-1102", Precondition, false, "see what this machine can enforce with 'cortex-agent doctor', and the agent's own log", "The sandbox could not be set up; nothing was started.";
    SandboxRequired = "CX-1104", Precondition, false, "'cortex-agent doctor' says what is missing and how to get it", "The node lacks what its owner's policy requires of the sandbox; it takes no work.";
}

/// An error with its code, what went wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable code.
    pub code: Code,
    /// What went wrong, one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Fault {
    /// A fault with the code's own hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), hint: code.hint().to_owned() }
    }

    /// The same fault with a better hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Fault {}

impl From<&Fault> for cortex_proto::v1::Error {
    fn from(f: &Fault) -> Self {
        cortex_proto::v1::Error {
            code: f.code.as_str().to_owned(),
            message: f.message.clone(),
            hint: f.hint.clone(),
            retryable: f.code.retryable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let all: BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(all.len(), Code::ALL.len());
        for c in Code::ALL {
            let digits = c.as_str().strip_prefix("CX-").unwrap();
            assert!(digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()));
            assert!(!c.hint().is_empty());
        }
    }
}
