//! What the owner is shown of a question: all that an answer is bound to, one thing a line, made safe.

use super::escape;
use crate::plan::{BrowserWork, Confine, FsView, Level, NetMode, Work};
use crate::policy::{ClassSet, Proposal};
use cortex_model::FileOp;
use sha2::{Digest, Sha256};

/// The lines, and their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Safe to print.
    pub lines: Vec<String>,
    /// SHA-256 over the lines, each with a line end.
    pub sha256: [u8; 32],
}

/// Writes a question down. `who` says who asked for the task; `level` is what the machine would enforce.
#[must_use]
pub fn show(
    proposal: &Proposal,
    classes: &ClassSet,
    task: &str,
    who: &str,
    own_env: &[(String, Vec<u8>)],
) -> Shown {
    let mut page = Page::default();
    let process = &proposal.process;
    let argv: Vec<String> =
        process.argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let words: Vec<&str> = classes.iter().map(|class| class.word()).collect();
    page.line("runs      ", &argv.join(" ").chars().take(160).collect::<String>());
    page.line("task      ", &format!("{task}, asked for by {who}"));
    page.line(
        "class     ",
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }.as_str(),
    );
    for why in &proposal.why {
        page.line("because   ", why);
    }
    page.line("program   ", &process.program.to_string_lossy());
    for (number, word) in argv.iter().enumerate() {
        page.text(&format!("argument {number} "), word);
    }
    if let Some(script) = &proposal.script {
        page.text("as it came ", script);
    }
    page.line("directory ", &process.cwd.to_string_lossy());
    for (name, value) in own_env {
        page.text(&format!("sets {name}="), &String::from_utf8_lossy(value));
    }
    if let Some(terminal) = &process.terminal {
        let text = format!("YES ({}): what is typed later is not shown here", terminal.kind());
        page.line("terminal  ", &text);
    }
    if !process.stdin.is_empty() {
        page.line("input     ", &format!("{} bytes", process.stdin.len()));
        page.text("input     ", &String::from_utf8_lossy(&process.stdin));
    }
    match process.work.as_deref() {
        Some(Work::File(work)) => brought(&mut page, &work.action.op),
        Some(Work::Browser(work)) => browser(&mut page, work),
        None => {}
    }
    page.line("files     ", &files(&process.view));
    page.line("network   ", &network(&process.net));
    page.line(
        "sandbox   ",
        match process.confine {
            Confine::AtLeast(Level::Full) => "full",
            Confine::AtLeast(Level::Landlock) => {
                "landlock: metadata of hidden files is not protected"
            }
            Confine::AtLeast(Level::None) | Confine::Never => {
                "NONE: the process has all rights of the agent"
            }
        },
    );
    if page.odd {
        page.line("WARNING   ", "there are characters in it that cannot be seen or that look like others; they stand as \\u{..}");
    }
    let mut hash = Sha256::new();
    for line in &page.lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    Shown { lines: page.lines, sha256: hash.finalize().into() }
}

/// What an operation on files brings along, and how far it goes.
fn brought(page: &mut Page, op: &FileOp) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match op {
        FileOp::Write(write) => page.text("content   ", &text(&write.content)),
        FileOp::Edit(edit) => {
            for one in &edit.replace {
                page.text("replaces  ", &text(&one.old));
                page.text("by        ", &text(&one.new));
            }
            if !edit.diff.is_empty() {
                page.text("diff      ", &text(&edit.diff));
            }
        }
        FileOp::Delete(delete) if delete.recursive => {
            page.line("removes   ", "a directory with everything below it");
        }
        FileOp::Finish(finish) => {
            page.line("content   ", &format!("{} bytes that were received", finish.size));
        }
        FileOp::Chunk(chunk) => {
            page.line("content   ", &format!("{} bytes at {}", chunk.data.len(), chunk.offset));
        }
        FileOp::Delete(_)
        | FileOp::Read(_)
        | FileOp::List(_)
        | FileOp::Stat(_)
        | FileOp::Glob(_)
        | FileOp::Search(_)
        | FileOp::Move(_)
        | FileOp::Receive(_) => {}
    }
}

/// Where a browser may go, and what it takes along.
fn browser(page: &mut Page, work: &BrowserWork) {
    let origins: Vec<String> = work.origins.iter().map(ToString::to_string).collect();
    page.line("goes to   ", &origins.join(", "));
    for name in work.action.secrets() {
        page.line("fills in  ", &format!("the secret {name}"));
    }
}

fn files(view: &FsView) -> String {
    let roots: Vec<_> = view.roots.iter().map(|root| root.to_string_lossy()).collect();
    let roots = if roots.is_empty() { "no roots".into() } else { roots.join(", ") };
    if view.read_only { format!("reads {roots}") } else { format!("reads and writes {roots}") }
}

fn network(net: &NetMode) -> String {
    match net {
        NetMode::None => "none".to_owned(),
        NetMode::Loopback { ports } => format!("ports {ports:?} of this machine"),
        NetMode::Domains { allow } => {
            let names: Vec<String> =
                allow.iter().map(|name| format!("{}:{}", name.host, name.port)).collect();
            names.join(", ")
        }
        NetMode::Full => "ALL: as this machine".to_owned(),
    }
}

#[derive(Default)]
struct Page {
    lines: Vec<String>,
    odd: bool,
}

impl Page {
    fn line(&mut self, label: &str, text: &str) {
        let (text, odd) = escape(text);
        self.odd |= odd;
        self.lines.push(format!("{label}{text}"));
    }

    /// Text of several lines; each gets the label, so that none can pass for another one.
    fn text(&mut self, label: &str, text: &str) {
        for line in text.split('\n') {
            self.line(label, line);
        }
    }
}
