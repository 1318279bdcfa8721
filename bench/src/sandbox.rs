//! Start of a confined command, against a plain fork and exec of the same program and against bubblewrap with the same
//! namespaces: one at a time, in turn, so that another load on the machine hits all three.

use crate::Bench;
use crate::report::{Goal, Row, median};
use anyhow::{Context as _, ensure};
use cortex_agent::sandbox::{End, SUBCOMMAND, Sandbox};
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{Confine, Enforce, FsView, Level, Limits, NetMode, TmpDir};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;

/// Starts of each kind in a round.
const STARTS: usize = 200;
/// What is started: it does nothing.
const PROGRAM: &str = "/usr/bin/true";
/// How much more than a plain start a confined one may take, milliseconds.
const MORE_MS: f64 = 5.0;
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"];

/// Measures it.
///
/// # Errors
/// The sandbox does not reach level full here, or bubblewrap is not installed.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let launcher = [bench.programs.join("cortex-agent").into_os_string(), SUBCOMMAND.into()];
    let sandbox = Sandbox::start(&launcher).await.context("the launcher")?;
    ensure!(sandbox.armed().level == Level::Full, "level full: {}", sandbox.armed().why);
    let root = bench.directory.path().join("sandbox");
    std::fs::create_dir(&root)?;
    let root = root.canonicalize()?;
    let plan = plan(&root)?;
    let starts = if bench.tiny { 5 } else { STARTS };
    let (mut ours, mut plain, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..starts {
            b.push(timed(spawn(&mut std::process::Command::new(PROGRAM))).await?);
            a.push(timed(confined(&sandbox, &plan)).await?);
            c.push(timed(spawn(&mut bubblewrap(&root))).await?);
        }
        ours.push(median(&a));
        plain.push(median(&b));
        theirs.push(median(&c));
    }
    let more: Vec<f64> = ours.iter().zip(&plain).map(|(ours, plain)| ours - plain).collect();
    let setting =
        "level full, no network, a writable root, the system read-only; p50 of a start and its end";
    Ok(vec![
        Row::new("sandbox", "start, beside fork and exec", &ours, "ms", setting)
            .beside(&ours, &plain),
        Row::new("sandbox", "what the sandbox adds", &more, "ms", setting)
            .goal(Goal::AtMost(MORE_MS)),
        Row::new("sandbox", "start, beside bubblewrap", &ours, "ms", setting)
            .beside(&ours, &theirs)
            .goal(Goal::RatioAtMost(1.0)),
    ])
}

/// Milliseconds that something takes.
async fn timed(what: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    what.await?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

async fn spawn(command: &mut std::process::Command) -> anyhow::Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(std::mem::replace(
        command,
        std::process::Command::new(PROGRAM),
    ));
    let done = command.output().await?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

async fn confined(sandbox: &Sandbox, plan: &ProcessPlan) -> anyhow::Result<()> {
    let mut task = sandbox.launch(plan).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let (_, stdout, stderr) = task.streams();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (end, _, _) = tokio::join!(
        task.ended(),
        async { stdout.context("stdout")?.read_to_end(&mut out).await.context("stdout") },
        async { stderr.context("stderr")?.read_to_end(&mut err).await.context("stderr") },
    );
    let remains = task.clean_up().await;
    ensure!(remains.survivors == 0, "something survived");
    match end {
        End::Status(status) if status.success() => Ok(()),
        End::Status(_) | End::Never(_) | End::Lost => anyhow::bail!("{end:?}"),
    }
}

fn system() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        SYSTEM.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
    all.sort();
    all.dedup();
    // What lies below another needs no bind of its own.
    let below = |path: &PathBuf| all.iter().any(|other| other != path && path.starts_with(other));
    all.iter().filter(|path| !below(path)).cloned().collect()
}

fn plan(root: &Path) -> anyhow::Result<ProcessPlan> {
    Ok(ProcessPlan {
        program: PROGRAM.into(),
        files: Vec::new(),
        argv: vec![b"true".to_vec()],
        cwd: root.to_owned(),
        env: vec![("PATH".to_owned(), b"/usr/bin:/bin".to_vec())],
        secrets: Vec::new(),
        terminal: None,
        work: None,
        stdin: Vec::new(),
        view: FsView { roots: vec![root.to_owned()], read: system(), ..FsView::default() },
        net: NetMode::None,
        limits: Limits {
            cpu_percent: None,
            memory: None,
            pids: None,
            wall_ms: 60_000,
            output: 1 << 20,
            file_size: None,
            enforce: Enforce::BestEffort,
        },
        confine: Confine::AtLeast(Level::Full),
        tmp: TmpDir::Shared("/tmp".into()),
    })
}

/// The same view and the same namespaces.
fn bubblewrap(root: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--new-session"]);
    for path in system() {
        command.arg("--ro-bind").args([&path, &path]);
    }
    for entry in std::fs::read_dir("/").into_iter().flatten().flatten() {
        let link = entry.path();
        if let Ok(target) = std::fs::read_link(&link) {
            command.arg("--symlink").args([target, link]);
        }
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind"]);
    command.args([root, root]).arg("--chdir").arg(root).arg(PROGRAM);
    command
}
