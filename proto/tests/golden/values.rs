//! Parts that several examples share. Every field has a value that is not its default, so that a
//! field which is lost or moved shows.

use cortex_proto::v1::*;
use prost::bytes::Bytes;
use std::collections::BTreeMap;

pub(crate) const TASK: &str = "mfrggzdfmztwq2lknnwg23tpoa";
pub(crate) const SESSION: &str = "0190a5c1-7b3e-7c55-9d1f-3a2b4c5d6e7f";
pub(crate) const INCARNATION: &str = "00112233445566778899aabbccddeeff";

pub(crate) fn actor() -> Actor {
    Actor {
        kind: ActorKind::Ai.into(),
        id: "builder-7".into(),
        model: "vendor/model-3".into(),
        on_behalf_of: "ada".into(),
    }
}

pub(crate) fn shell_spec() -> TaskSpec {
    let env = EnvVar { name: "GREETING".into(), value: b"gr\xfc\xdf".to_vec() };
    let shell = ShellAction {
        argv: vec![b"/usr/bin/printf".to_vec(), b"%s\xff".to_vec(), Vec::new()],
        cwd: "/srv/data".into(),
        env: vec![env],
        stdin: b"line\n".to_vec(),
        ..ShellAction::default()
    };
    TaskSpec {
        action: Some(Action { kind: Some(action::Kind::Shell(shell)) }),
        require: vec!["shell".into(), "python>=3.10".into(), "os=linux".into()],
        node: "desk-1".into(),
        priority: -7,
        safe_to_repeat: true,
        retry: Some(RetryPolicy {
            max_attempts: 3,
            on: vec![RetryOn::Exit.into(), RetryOn::Lost.into(), RetryOn::Timeout.into()],
            backoff_ms: 250,
            max_backoff_ms: 60_000,
        }),
        run_timeout_ms: 90_000,
        deadline_ms: 3_600_000,
        node_lost_grace_ms: 45_000,
        output_limit_bytes: 1 << 33,
        labels: BTreeMap::from([("job".into(), "nightly".into()), ("team".into(), "ops".into())]),
        // Came after these bytes were fixed.
        locks: Vec::new(),
        lock_timeout_ms: 0,
    }
}

pub(crate) fn terminal_spec() -> TaskSpec {
    let terminal = Terminal { term: "xterm".into(), rows: 50, columns: 132 };
    let argv = vec![b"bash".to_vec()];
    let shell = ShellAction { argv, terminal: Some(terminal), ..ShellAction::default() };
    let action = Action { kind: Some(action::Kind::Shell(shell)) };
    TaskSpec { action: Some(action), ..TaskSpec::default() }
}

pub(crate) fn file_spec(op: file_action::Op) -> TaskSpec {
    let file = FileAction { path: b"src/\xff\nname".to_vec(), op: Some(op) };
    let action = Action { kind: Some(action::Kind::File(file)) };
    TaskSpec { action: Some(action), ..TaskSpec::default() }
}

pub(crate) fn browser_spec() -> TaskSpec {
    use browser_step::Step;
    let step = |step| BrowserStep { step: Some(step) };
    let selector = || "#q".to_owned();
    let wait = BrowserWait { r#for: Some(browser_wait::For::Selector(selector())) };
    let fill = BrowserFill {
        selector: selector(),
        text: "a = b".into(),
        secret: String::new(),
        sensitive: true,
    };
    let page = BrowserAction {
        url: "https://example.com/?a=b#c".into(),
        steps: vec![
            step(Step::Goto(BrowserGoto { url: "https://example.org/".into() })),
            step(Step::Click(BrowserClick { selector: selector() })),
            step(Step::Fill(fill)),
            step(Step::Press(BrowserPress { key: "Enter".into() })),
            step(Step::Wait(wait)),
        ],
        width: 640,
        height: 480,
        step_timeout_ms: 5_000,
        result: Some(browser_action::Result::Screenshot(BrowserScreenshot { full_page: true })),
    };
    let action = Action { kind: Some(action::Kind::Browser(page)) };
    TaskSpec { action: Some(action), ..TaskSpec::default() }
}

pub(crate) fn echo_spec() -> TaskSpec {
    let echo = EchoAction { payload: b"hello\0world".to_vec() };
    let action = Action { kind: Some(action::Kind::Echo(echo)) };
    TaskSpec { action: Some(action), ..TaskSpec::default() }
}

pub(crate) fn error() -> Error {
    Error {
        code: "CX-0402".into(),
        message: "there is no program 'frobnicate'".into(),
        hint: "check the name".into(),
        retryable: true,
    }
}

pub(crate) fn outcome(kind: ending::Kind) -> Outcome {
    let chunk = OutputChunk {
        stream: OutputStream::Stderr.into(),
        offset: 5,
        data: Bytes::from_static(b"oops\n"),
    };
    Outcome {
        ending: Some(Ending { kind: Some(kind) }),
        output: Some(OutputSummary {
            stdout_bytes: 5,
            stderr_bytes: 6,
            stdout_sha256: vec![0x11; 32],
            stderr_sha256: vec![0x22; 32],
            dropped_bytes: 1,
            // Came after these bytes were fixed.
            lost_bytes: 0,
            gap_stdout: 0,
            gap_stderr: 0,
        }),
        inline_output: vec![chunk],
        started_at_ms: 1_760_000_000_100,
        ended_at_ms: 1_760_000_000_400,
        journal_seq: 42,
        duration_us: 300_123,
        confinement: None,
        locks: Vec::new(),
        repositories: None,
    }
}

pub(crate) fn journal_head() -> JournalHead {
    JournalHead { size: 43, leaf: "ab".repeat(32) }
}
