//! Does what a task must not be able to, from inside the sandbox, and looks from outside whether it worked.

use super::report::{Report, State};
use crate::sandbox::{End, Sandbox};
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{Confine, Enforce, FsView, Level, Limits, NetMode, TmpDir};
use cortex_model::task::Terminal;
use cortex_model::{Code, Fault};
use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// How long one trial may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The share of a processor that the trial of that limit is given, percent.
const SHARE: u32 = 30;

/// What the file holds that a trial must neither read nor change.
const UNTOUCHED: &str = "untouched";

/// Tries everything and notes it.
pub(super) async fn run(
    sandbox: &Sandbox,
    program: &[OsString],
    report: &mut Report,
) -> Result<(), Fault> {
    if sandbox.armed().level == Level::None {
        for name in ["files", "network", "processes", "namespaces"] {
            report.note(name, State::NotEnforced, "nothing is confined on this machine");
        }
        return Ok(());
    }
    let failed = |err: std::io::Error| Fault::new(Code::AgentUnable, err.to_string());
    let place = Place::make().map_err(failed)?;
    let said = place.ask(sandbox, program).await?;
    place.judge(&said, report);
    processor(sandbox, program, &place, report).await?;
    kill(sandbox, program, &place, report).await?;
    terminal(sandbox, program, &place, report).await?;
    let held = sandbox.exact_limits();
    for name in ["memory", "pids"] {
        let (state, how) = if held.contains(&name) {
            (State::Enforced, "the kernel holds it exactly")
        } else {
            (State::Approx, "it is watched; control groups of the agent's own would make it exact")
        };
        report.note(name, state, how);
    }
    let (state, how) = if sandbox.armed().level == Level::Full {
        (State::Enforced, "available: through the agent's proxy")
    } else {
        (State::Unknown, "not available: they need level full; tasks that ask for them are refused")
    };
    report.note("domains", state, how);
    Ok(())
}

/// What is aimed at.
struct Place {
    dir: PathBuf,
    outside: PathBuf,
    unix: UnixListener,
    udp: UdpSocket,
}

impl Place {
    fn make() -> std::io::Result<Self> {
        let name = format!("cortex-doctor-{}", uuid::Uuid::new_v4().simple());
        let dir = std::env::temp_dir().canonicalize()?.join(name);
        std::fs::create_dir(&dir)?;
        std::fs::create_dir(dir.join("root"))?;
        let outside = dir.join("outside");
        std::fs::write(&outside, UNTOUCHED)?;
        let unix = UnixListener::bind(dir.join("socket"))?;
        unix.set_nonblocking(true)?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        udp.set_nonblocking(true)?;
        Ok(Self { dir, outside, unix, udp })
    }

    fn plan(&self, program: &[OsString], words: &[&str]) -> ProcessPlan {
        let system = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"];
        let mut read: Vec<PathBuf> =
            system.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
        let path = PathBuf::from(program.first().cloned().unwrap_or_default());
        read.push(path.canonicalize().unwrap_or_else(|_| path.clone()));
        let path = path.canonicalize().unwrap_or(path);
        let words = words.iter().map(OsString::from);
        let argv = program.iter().cloned().chain(words);
        let root = self.dir.join("root");
        ProcessPlan {
            program: path,
            files: Vec::new(),
            argv: argv.map(OsString::into_encoded_bytes).collect(),
            cwd: root.clone(),
            env: Vec::new(),
            secrets: Vec::new(),
            terminal: None,
            work: None,
            stdin: Vec::new(),
            view: FsView { roots: vec![root], read, ..FsView::default() },
            net: NetMode::None,
            limits: Limits {
                cpu_percent: None,
                memory: None,
                pids: None,
                wall_ms: 30_000,
                output: 1 << 20,
                file_size: None,
                enforce: Enforce::BestEffort,
            },
            confine: Confine::AtLeast(Level::Landlock),
            tmp: TmpDir::Shared("/tmp".into()),
        }
    }

    /// What the trial says from inside.
    async fn ask(&self, sandbox: &Sandbox, program: &[OsString]) -> Result<String, Fault> {
        let socket = self.dir.join("socket");
        let port = self.udp.local_addr().map_or(0, |address| address.port()).to_string();
        let own = std::process::id().to_string();
        let words = [&self.outside.to_string_lossy(), &*socket.to_string_lossy(), &port, &own]
            .map(|w| w.to_owned());
        let words = words.each_ref().map(String::as_str);
        let mut task = sandbox.launch(&self.plan(program, &words))?;
        let (_, out, _) = task.streams();
        let mut text = String::new();
        let read = async {
            if let Some(mut out) = out {
                out.read_to_string(&mut text).await.ok();
            }
            task.ended().await
        };
        let end = timeout(PATIENCE, read).await.unwrap_or(End::Lost);
        task.clean_up().await;
        match end {
            End::Status(status) if status.success() => Ok(text),
            End::Never(fault) => Err(fault),
            End::Status(_) | End::Lost => {
                Err(Fault::new(Code::SandboxFailed, format!("the trial ended early: {end:?}")))
            }
        }
    }

    /// Compares what the trial says with what can be seen from here.
    fn judge(&self, said: &str, report: &mut Report) {
        let refused = |name: &str| said.lines().any(|line| line == format!("{name} refused"));
        let state = |holds: bool| if holds { State::Enforced } else { State::NotEnforced };
        let text = std::fs::read_to_string(&self.outside).unwrap_or_default();
        // A task has a /tmp of its own, in which it may write whatever it likes: what counts is what is here afterwards.
        let files = refused("read") && text == UNTOUCHED;
        report.note("files", state(files), "a file outside was to be read and written");
        let unix = refused("unix") && self.unix.accept().is_err();
        report.note("sockets", state(unix), "a socket file of the machine was to be reached");
        let udp = self.udp.recv(&mut [0; 8]).is_err();
        report.note("network", state(udp), "the machine's loopback was to be reached");
        report.note("processes", state(refused("signal")), "the agent was to be sent a signal");
        report.note(
            "namespaces",
            state(refused("namespace")),
            "a new user namespace was to be made",
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

/// Burns a processor for a second and measures the share it got.
async fn processor(
    sandbox: &Sandbox,
    program: &[OsString],
    place: &Place,
    report: &mut Report,
) -> Result<(), Fault> {
    let mut plan = place.plan(program, &["burn"]);
    plan.limits.cpu_percent = Some(SHARE);
    let began = Instant::now();
    let mut task = sandbox.launch(&plan)?;
    let end = timeout(PATIENCE, task.ended()).await;
    let used = Duration::from_micros(task.clean_up().await.used.cpu_us);
    let share = used.as_secs_f64() * 100.0 / began.elapsed().as_secs_f64().max(0.001);
    let exact = sandbox.exact_limits().contains(&"cpu");
    let state = match (end.is_ok(), share < f64::from(SHARE) * 1.6, exact) {
        (true, true, true) => State::Enforced,
        (true, true, false) => State::Approx,
        (true, false, _) => State::NotEnforced,
        (false, ..) => State::Unknown,
    };
    let how = if exact { "by a control group" } else { "by letting it stand still in turn" };
    report.note("cpu", state, format!("{how}: asked for {SHARE} %, got {share:.0} %"));
    Ok(())
}

/// Ends a task that does not want to end.
async fn kill(
    sandbox: &Sandbox,
    program: &[OsString],
    place: &Place,
    report: &mut Report,
) -> Result<(), Fault> {
    let mut task = sandbox.launch(&place.plan(program, &["stay"]))?;
    let began = Instant::now();
    let remains = task.clean_up().await;
    let state = if remains.survivors == 0 { State::Enforced } else { State::NotEnforced };
    let took = began.elapsed().as_millis();
    report.note(
        "end",
        state,
        format!("a task was ended: {} survivors after {took} ms", remains.survivors),
    );
    Ok(())
}

/// Has a program sit at a terminal of its own.
async fn terminal(
    sandbox: &Sandbox,
    program: &[OsString],
    place: &Place,
    report: &mut Report,
) -> Result<(), Fault> {
    const NAME: &str = "terminals";
    if !sandbox.armed().terminals {
        let how = "not available: /dev/ptmx cannot be opened; tasks that ask for one are refused";
        report.note(NAME, State::Unknown, how);
        return Ok(());
    }
    let mut plan = place.plan(program, &["sit"]);
    plan.terminal = Some(Terminal::default());
    let mut task = sandbox.launch(&plan)?;
    let reading = match timeout(PATIENCE, task.terminal()).await {
        Ok(Ok(terminal)) => Some(tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            // Where nobody has the other end any more it ends with an error.
            std::fs::File::from(terminal).read_to_end(&mut said).ok();
            said
        })),
        Ok(Err(_)) | Err(_) => None,
    };
    timeout(PATIENCE, task.ended()).await.ok();
    task.clean_up().await;
    let said = match reading {
        Some(reading) => reading.await.unwrap_or_default(),
        None => Vec::new(),
    };
    let sat = said.starts_with(b"terminal worked");
    let (state, how) = if sat {
        (State::Enforced, "a program was given one of its own")
    } else {
        (State::NotEnforced, "a program was to be given one of its own, and was not")
    };
    report.note(NAME, state, how);
    Ok(())
}

/// See [`super::try_inside`].
pub(super) fn inside(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["burn"] => {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1500) {
                std::hint::spin_loop();
            }
        }
        ["stay"] => std::thread::sleep(PATIENCE),
        ["sit"] => {
            let three = std::io::stdin().is_terminal()
                && std::io::stdout().is_terminal()
                && std::io::stderr().is_terminal();
            let led = std::fs::File::open("/dev/tty").is_ok();
            let word = if three && led { "worked" } else { "refused" };
            writeln!(std::io::stdout(), "terminal {word}").ok();
        }
        [file, socket, port, pid] => {
            let say = |name: &str, worked: bool| {
                let word = if worked { "worked" } else { "refused" };
                writeln!(std::io::stdout(), "{name} {word}").ok();
            };
            say("read", std::fs::read(file).is_ok());
            std::fs::write(file, "touched").ok();
            say("unix", UnixStream::connect(socket).is_ok());
            let sent = UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.send_to(b"x", format!("127.0.0.1:{port}")));
            say("udp", sent.is_ok());
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            say("signal", pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok()));
            say("namespace", crate::sandbox::can_make_a_namespace());
        }
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}
