//! What the agent and its launcher say to each other. Both are the same program, so nothing here is ever read by
//! another version; nothing here is stored.

use prost::Message;

/// Longest report of an init, bytes: a path or two, a sentence, a handful of numbers.
pub(super) const REPORT_MAX: usize = 8192;

/// Most file descriptors that travel with one report: the listeners of a namespace.
pub(super) const REPORT_FDS_MAX: usize = 32;

/// File descriptors that come with every order, in this order: spec, status socket, stdin, stdout, stderr. After them
/// come the doors of control groups, which the first process enters.
pub(super) const ORDER_FDS: usize = 5;

/// Most doors: one for each controller.
pub(super) const DOORS_MAX: usize = 3;

/// Everything the launcher must know about a process to start. Paths are absolute and hold no symbolic links.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Spec {
    /// The file that is executed.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) program: Vec<u8>,
    /// Arguments, the program's name first.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) argv: Vec<Vec<u8>>,
    /// `NAME=VALUE`, the whole environment.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) env: Vec<Vec<u8>>,
    /// Working directory.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) cwd: Vec<u8>,
    /// Files that must still be the ones that were looked at.
    #[prost(message, repeated, tag = "5")]
    pub(super) files: Vec<SameFile>,
    /// How strongly it is confined: [`Armour`].
    #[prost(uint32, tag = "6")]
    pub(super) armour: u32,
    /// The machine's own network.
    #[prost(bool, tag = "7")]
    pub(super) host_network: bool,
    /// Ports of the namespace's loopback on which the agent will listen.
    #[prost(uint32, repeated, tag = "8")]
    pub(super) listen: Vec<u32>,
    /// Readable.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(super) read: Vec<Vec<u8>>,
    /// Readable and writable.
    #[prost(bytes = "vec", repeated, tag = "10")]
    pub(super) write: Vec<Vec<u8>>,
    /// Read-only although below something writable.
    #[prost(bytes = "vec", repeated, tag = "11")]
    pub(super) protect: Vec<Vec<u8>>,
    /// Hidden.
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub(super) deny: Vec<Vec<u8>>,
    /// Percent of one processor; 0 is no limit, or one that a control group holds.
    #[prost(uint32, tag = "13")]
    pub(super) cpu_percent: u32,
    /// Bytes of memory; 0 likewise.
    #[prost(uint64, tag = "14")]
    pub(super) memory: u64,
    /// Processes and threads; 0 likewise.
    #[prost(uint32, tag = "15")]
    pub(super) pids: u32,
    /// Largest file, bytes; 0 is no limit.
    #[prost(uint64, tag = "16")]
    pub(super) file_size: u64,
    /// A directory that is made for the task alone; empty: none.
    #[prost(bytes = "vec", tag = "17")]
    pub(super) tmp: Vec<u8>,
    /// What is done with files in place of executing a program.
    #[prost(message, optional, tag = "18")]
    pub(super) work: Option<crate::files::Order>,
    /// The browser that is driven in place of executing a program, which is the program.
    #[prost(message, optional, tag = "25")]
    pub(super) browser: Option<crate::browser::Order>,
    /// A terminal of this size in place of the three streams.
    #[prost(message, optional, tag = "19")]
    pub(super) terminal: Option<Size>,
    /// Directories below which new repositories are looked for when all is over; none lies in another.
    #[prost(bytes = "vec", repeated, tag = "20")]
    pub(super) look: Vec<Vec<u8>>,
}

/// Size of a terminal.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Size {
    #[prost(uint32, tag = "1")]
    pub(super) rows: u32,
    #[prost(uint32, tag = "2")]
    pub(super) columns: u32,
}

/// A file and what it was when it was looked at.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SameFile {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) path: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) dev: u64,
    #[prost(uint64, tag = "3")]
    pub(super) ino: u64,
}

/// What is put on before the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armour {
    /// Nothing; only supervised.
    None = 0,
    /// Landlock, system call filters, no capabilities.
    Landlock = 1,
    /// The same inside namespaces of its own.
    Full = 2,
}

impl Armour {
    /// Reads the number of a spec. What is not known is the strongest: it fails rather than runs bare.
    pub(super) fn of(number: u32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Landlock,
            _ => Self::Full,
        }
    }
}

/// What the launcher or an init says to the agent. Exactly one field is set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Report {
    /// The init exists; its process file descriptor comes along.
    #[prost(bool, tag = "1")]
    pub(super) forked: bool,
    /// Nothing ran, and why.
    #[prost(message, optional, tag = "2")]
    pub(super) failed: Option<Failed>,
    /// Listening sockets inside the namespace come along, one per port of the spec, in its order.
    #[prost(bool, tag = "3")]
    pub(super) listening: bool,
    /// The program has ended.
    #[prost(message, optional, tag = "4")]
    pub(super) exited: Option<Exited>,
    /// Every process is gone.
    #[prost(message, optional, tag = "5")]
    pub(super) gone: Option<Gone>,
    /// A read-only placeholder was made for a protected name that did not exist: its path. Empty: none was.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) made: Vec<u8>,
    /// The agent's end of the terminal comes along.
    #[prost(bool, tag = "7")]
    pub(super) terminal: bool,
    /// The directory of a repository that appeared. Empty: none did.
    #[prost(bytes = "vec", tag = "8")]
    pub(super) found: Vec<u8>,
    /// The look for them is over.
    #[prost(message, optional, tag = "9")]
    pub(super) looked: Option<Looked>,
}

/// How the look for new repositories ended.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Looked {
    /// Why there may be more than were told.
    #[prost(string, repeated, tag = "1")]
    pub(super) gaps: Vec<String>,
}

/// The stage of the set-up that failed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Failed {
    #[prost(string, tag = "1")]
    pub(super) stage: String,
    #[prost(string, tag = "2")]
    pub(super) error: String,
    /// The system's number of the error; 0 if there is none.
    #[prost(int32, tag = "3")]
    pub(super) errno: i32,
}

/// How the program ended.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Exited {
    /// As `wait` tells it.
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
    /// Processes that it left behind are still running.
    #[prost(bool, tag = "2")]
    pub(super) others: bool,
    #[prost(message, required, tag = "3")]
    pub(super) used: Used,
}

/// The end of the last process.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Gone {
    /// Processes that could not be ended.
    #[prost(uint32, tag = "1")]
    pub(super) survivors: u32,
    #[prost(message, required, tag = "2")]
    pub(super) used: Used,
}

/// What the whole tree has used, as far as it was seen.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Used {
    /// Processor time, microseconds.
    #[prost(uint64, tag = "1")]
    pub(super) cpu_us: u64,
    /// Most memory of the tree that was seen, or of its largest process, bytes.
    #[prost(uint64, tag = "2")]
    pub(super) memory: u64,
    /// Most processes and threads that were seen.
    #[prost(uint32, tag = "3")]
    pub(super) pids: u32,
    /// Why it was ended by the launcher: [`Broke`].
    #[prost(uint32, tag = "4")]
    pub(super) broke: u32,
}

/// The limit over which the launcher ended a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broke {
    Nothing = 0,
    Memory = 1,
    Pids = 2,
}

/// What the agent asks of an init: one byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Every process is asked to end.
    Terminate = b't' as isize,
    /// Every process is ended.
    Kill = b'k' as isize,
    /// Every process stands still.
    Pause = b'p' as isize,
    /// Every process goes on.
    Resume = b'r' as isize,
}

impl Ask {
    /// What a byte means.
    pub(super) fn of(byte: u8) -> Option<Self> {
        [Self::Terminate, Self::Kill, Self::Pause, Self::Resume]
            .into_iter()
            .find(|ask| ask.byte() == byte)
    }

    /// The byte that says it.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Terminate => b't',
            Self::Kill => b'k',
            Self::Pause => b'p',
            Self::Resume => b'r',
        }
    }
}
