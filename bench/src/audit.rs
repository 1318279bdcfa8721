//! Verification of a journal by the three verifiers, beside the bare hashing of its records. The journal is a bundle on disk:
//! intents and outcomes as an agent writes them, signed once at the end.

use crate::Bench;
use crate::procs::cpu_with_children;
use crate::report::{Goal, Row};
use anyhow::Context as _;
use cortex_audit::record::{
    ALG, Actor, Auth, Base64, Decimal, Exec, Genesis, Intent, Limits, Outcome, Record, Sandbox,
    Status,
};
use cortex_audit::verify::{Lines as _, Source, Text, Trust, Verdict, verify};
use cortex_audit::{
    Checkpoint, Commitment, Envelope, Frontier, Leaf, LogKey, Origin, Policy, Position, Stamp,
    Value, key,
};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SEED: [u8; 32] = [1; 32];

/// Verifies one million records, or a thousand where it only shows that it runs.
///
/// # Errors
/// When a verifier does not start or does not say VERIFIED.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let size: u64 = if bench.tiny { 1_000 } else { 1_000_000 };
    let bundle = bench.directory.path().join("audit-bundle");
    let bytes = make(&bundle, size)?;
    let records = bundle.join("records/0.ndjson");
    let setting = format!("{size} records of {} bytes on average; processor time", bytes / size);
    let (mut rust, mut hashing) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        hashing.push(timed(|| hash(&records, size))?);
        rust.push(timed(|| rust_verifies(&bundle, size))?);
    }
    let verifiers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/verifiers");
    let python = timed(|| other("python3", &verifiers.join("python/cortex_verify.py"), &bundle))?;
    let js = timed(|| other("node", &verifiers.join("js/cli.mjs"), &bundle))?;
    let yardstick = [crate::report::median(&hashing)];
    let once = |seconds: f64| {
        Row::new("audit", "", &[seconds], "s", &setting).beside(&[seconds], &yardstick)
    };
    // Goals: 250,000 records a second in Rust; the others within what a person waits for.
    let rows = [
        ("verify, Rust", Row::new("audit", "", &rust, "s", &setting).beside(&rust, &hashing), 4.0),
        ("verify, Python", once(python), 40.0),
        ("verify, JavaScript", once(js), 60.0),
    ];
    let named = rows.into_iter().map(|(name, row, most)| {
        let row = Row { figure: name.to_owned(), ..row };
        if bench.tiny { row } else { row.goal(Goal::AtMost(most)) }
    });
    Ok(named.collect())
}

/// Seconds of processor time: what else runs on the machine does not count.
fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let spent = || cpu_with_children(std::process::id());
    let before = spent()?;
    work()?;
    Ok(spent()?.saturating_sub(before).as_secs_f64())
}

fn open(records: &Path) -> anyhow::Result<Text<BufReader<File>>> {
    Ok(Text::new(BufReader::with_capacity(1 << 20, File::open(records)?)))
}

/// The yardstick: every line hashed, and nothing else.
fn hash(records: &Path, size: u64) -> anyhow::Result<()> {
    let (mut lines, mut count, mut last) = (open(records)?, 0, Leaf::ZERO);
    while let Some(line) = lines.next_line().map_err(|err| anyhow::anyhow!(err.0))? {
        last = Leaf::of(line.bytes);
        count += 1;
    }
    anyhow::ensure!(count == size && last != Leaf::ZERO, "{count} lines");
    Ok(())
}

fn rust_verifies(bundle: &Path, size: u64) -> anyhow::Result<()> {
    let source = Source {
        records: Box::new(open(&bundle.join("records/0.ndjson"))?),
        openings: None,
        checkpoints: vec![std::fs::read(bundle.join("checkpoints/0.note"))?],
        head: None,
        frontier: None,
    };
    let policy = Some(Policy::parse(&std::fs::read(bundle.join("trusted-policy"))?)?);
    let report = verify(vec![source], &Trust { policy, ..Trust::default() });
    anyhow::ensure!(report.verdict == Verdict::Verified, "{report:?}");
    anyhow::ensure!(report.sources.iter().all(|source| source.range == (0, size)), "{report:?}");
    Ok(())
}

/// A verifier of another language; its exit code is its verdict.
fn other(program: &str, script: &Path, bundle: &Path) -> anyhow::Result<()> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/python");
    let path = std::env::var_os("CORTEX_PYTHONPATH").map_or(tools, PathBuf::from);
    let mut command = Command::new(program);
    command.arg(script).arg("--policy").arg(bundle.join("trusted-policy")).arg(bundle);
    let done = command.env("PYTHONPATH", path).stdout(Stdio::null()).status();
    let done = done.with_context(|| format!("starting {program}; see cargo xtask setup"))?;
    anyhow::ensure!(done.success(), "{program} {}: {done}", script.display());
    Ok(())
}

/// Writes the bundle and returns how many bytes its records have.
fn make(bundle: &Path, size: u64) -> anyhow::Result<u64> {
    for folder in ["records", "checkpoints"] {
        std::fs::create_dir_all(bundle.join(folder))?;
    }
    let mut file =
        BufWriter::with_capacity(1 << 20, File::create(bundle.join("records/0.ndjson"))?);
    let (mut next, mut frontier, mut bytes) = (Position::GENESIS, Frontier::new(), 0);
    let mut stamp = Stamp {
        unix_us: 1_795_438_800_000_000,
        mono_us: 0,
        boot: "0d9dcf7e-2f0b-4c5e-8a40-5a3c1e8f7b21".to_owned(),
    };
    while next.seq < size {
        let record = record(next)?;
        let body = Envelope::encode(next, record.kind(), &stamp, record.to_value())?;
        file.write_all(&body)?;
        file.write_all(b"\n")?;
        bytes += body.len() as u64;
        let leaf = Leaf::of(&body);
        frontier.push(leaf);
        let log = if next.seq == 0 { leaf } else { next.log };
        next = Position { log, seq: next.seq + 1, prev: leaf };
        stamp.unix_us += 1000;
        stamp.mono_us += 1000;
    }
    file.flush()?;
    let origin = Origin::new("cortex.example", "n1", next.log).context("an origin")?.to_string();
    let key = LogKey::from_seed(&SEED, &origin)?;
    let checkpoint = Checkpoint { origin, size, root: frontier.root() };
    std::fs::write(bundle.join("checkpoints/0.note"), checkpoint.sign(&key)?.to_string())?;
    let policy = format!("log {}\nquorum none\n", key.verifier());
    std::fs::write(bundle.join("trusted-policy"), policy)?;
    Ok(bytes)
}

/// Genesis, then intents and outcomes in turn.
fn record(at: Position) -> anyhow::Result<Record> {
    let text = str::to_owned;
    let cmd = format!("0190b2f0-{:012}/1", at.seq / 2);
    if at.seq == 0 {
        return Ok(Record::from(Genesis {
            domain: text("cortex.example"),
            node: text("n1"),
            tenant: text("default"),
            enroll: None,
            key: Base64(key::public_key(&SEED).as_bytes().to_vec()),
            nonce: "ab".repeat(32),
            alg: text(ALG),
            agent: text("0.1.0"),
            pred: None,
        }));
    }
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&at.seq.to_be_bytes());
    let commit = |name: &str| -> anyhow::Result<Commitment> {
        Ok(Commitment::new(salt, name, Value::from("value"))?.0)
    };
    if at.seq.is_multiple_of(2) {
        let outcome = Outcome::new(cmd, at.seq - 1, at.prev, Status::Exited);
        let stdout = Some(commit("stdout")?);
        return Ok(Outcome { exit_code: Some(0), dur_us: 1_500_000, stdout, ..outcome }.into());
    }
    let [argv, cwd, env] = [commit("argv")?, commit("cwd")?, commit("env")?];
    Ok(Record::from(Intent {
        cmd,
        workspace: text("default"),
        fence: Decimal(at.seq),
        incarnation: at.log.to_string()[..32].to_owned(),
        run: None,
        step: None,
        trace: None,
        span: None,
        actor: Actor {
            kind: text("ai"),
            id: text("agent-7"),
            model: Some(text("example-1")),
            on_behalf_of: Some(text("ada")),
        },
        auth: Auth {
            decision: text("allow"),
            policy: "ef".repeat(32),
            rule: Some(text("listing")),
            approval: None,
            dispatch: None,
            floor: Some(0),
        },
        op: text("process.exec"),
        exec: Some(exec(argv, cwd, env)),
        target: None,
    }))
}

fn exec(argv: Commitment, cwd: Commitment, env: Commitment) -> Exec {
    Exec {
        exe: "/usr/bin/ls".to_owned(),
        exe_sha256: Some("cd".repeat(32)),
        argc: 2,
        argv,
        cwd,
        env,
        stdin: None,
        uid: 1000,
        sandbox: Sandbox { level: "strict".to_owned(), unenforced: Vec::new() },
        limits: Limits {
            cpu_ms: Some(60_000),
            memory_bytes: Some(1 << 29),
            processes: Some(64),
            disk_bytes: None,
            output_bytes: Some(1 << 23),
        },
        net: "none".to_owned(),
        timeout_ms: 3_600_000,
    }
}
