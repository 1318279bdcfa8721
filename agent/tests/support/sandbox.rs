//! Rooms in which attacks are run: a directory with a root that a task may use, a secret beside it, and a sandbox, as
//! root and as an ordinary user.

use cortex_agent::sandbox::{Armed, End, Remains, SUBCOMMAND, Sandbox, Task};
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{Confine, Enforce, FsView, Level, Limits, NetMode, TmpDir};
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

#[path = "attacks.rs"]
mod programs;

pub(crate) use programs::{attacks, programs};

/// A user that nothing on the machine belongs to.
const NOBODY_ELSE: u32 = 61_234;

/// Far beyond what anything takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Whose rights the sandbox begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    User,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everybody that can be tried from here: CI runs as root and becomes an ordinary user as well.
pub(crate) fn everybody() -> Vec<Who> {
    if is_root() { vec![Who::Root, Who::User] } else { vec![Who::User] }
}

/// Waits, or fails the test with what was waited for.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// See the module.
pub(crate) struct Room {
    pub(crate) who: Who,
    pub(crate) sandbox: Sandbox,
    /// What a task may use.
    pub(crate) root: PathBuf,
    /// A file beside the root.
    pub(crate) secret: PathBuf,
    /// Behind something that takes abilities away.
    contained: bool,
    _dir: tempfile::TempDir,
}

/// What came of a process.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) end: End,
    pub(crate) out: String,
    /// The same, as it came.
    pub(crate) raw: Vec<u8>,
    pub(crate) err: String,
    pub(crate) remains: Remains,
}

impl Ran {
    /// It ended with this code.
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        match &self.end {
            End::Status(status) => status.code().unwrap_or_else(|| panic!("{self:?}")),
            End::Never(_) | End::Lost => panic!("{self:?}"),
        }
    }

    /// Nothing ran, and why.
    #[track_caller]
    pub(crate) fn never(&self) -> &cortex_model::Fault {
        match &self.end {
            End::Never(fault) => fault,
            End::Status(_) | End::Lost => panic!("{self:?}"),
        }
    }
}

impl Room {
    pub(crate) async fn new(who: Who) -> Self {
        Self::behind(who, &[]).await
    }

    /// A room on a machine that lacks what `wrapper`, run before the launcher, takes away.
    pub(crate) async fn behind(who: Who, wrapper: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().canonicalize().unwrap();
        let (root, outside) = (path.join("root"), path.join("outside"));
        let secret = outside.join("secret");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(&secret, "the secret\n").unwrap();
        let mut program: Vec<OsString> = Vec::new();
        if who == Who::User && is_root() {
            for path in [&root, &outside, &secret] {
                std::os::unix::fs::chown(path, Some(NOBODY_ELSE), Some(NOBODY_ELSE)).unwrap();
            }
            let id = NOBODY_ELSE.to_string();
            program.extend(
                ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"].map(Into::into),
            );
        }
        program.extend(wrapper.iter().map(Into::into));
        program.push(programs().join("cortex-agent").into());
        program.push(SUBCOMMAND.into());
        let sandbox = Sandbox::start(&program).await.unwrap();
        Self { who, sandbox, root, secret, contained: !wrapper.is_empty(), _dir: dir }
    }

    pub(crate) fn armed(&self) -> &Armed {
        self.sandbox.armed()
    }

    /// A plan that sees the system, its root, and nothing else.
    pub(crate) fn plan(&self, argv: &[&str]) -> ProcessPlan {
        let program = which(argv[0]);
        let system = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"];
        let mut read: Vec<PathBuf> =
            system.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
        read.dedup();
        read.push(programs().to_owned());
        ProcessPlan {
            files: vec![(program.clone(), id(&program))],
            program,
            argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
            cwd: self.root.clone(),
            secrets: Vec::new(),
            terminal: None,
            work: None,
            env: vec![
                ("PATH".to_owned(), b"/usr/bin:/bin".to_vec()),
                ("LANG".to_owned(), b"C.UTF-8".to_vec()),
            ],
            stdin: Vec::new(),
            view: FsView { roots: vec![self.root.clone()], read, ..FsView::default() },
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
            confine: Confine::AtLeast(Level::Landlock),
            tmp: TmpDir::Shared("/tmp".into()),
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, plan: &ProcessPlan) -> Ran {
        let mut task = self.sandbox.launch(plan).unwrap();
        self.finish(&mut task).await
    }

    /// Follows a task to its end.
    pub(crate) async fn finish(&self, task: &mut Task) -> Ran {
        let (stdin, stdout, stderr) = task.streams();
        drop(stdin);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let end = {
            let read = async { tokio::join!(fill(stdout, &mut out), fill(stderr, &mut err)) };
            let mut read = std::pin::pin!(read);
            let mut drained = false;
            let mut ended = std::pin::pin!(within("the end of a task", task.ended()));
            let end = loop {
                tokio::select! {
                    end = &mut ended => break end,
                    _ = &mut read, if !drained => drained = true,
                }
            };
            if !drained {
                // What was left behind may hold the pipes.
                drop(tokio::time::timeout(Duration::from_millis(500), read).await);
            }
            end
        };
        let remains = within("the proof", task.clean_up()).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { end, out: text(&out), raw: out, err: text(&err), remains }
    }

    /// What an attack says from inside the sandbox.
    pub(crate) async fn inside(&self, words: &[&str]) -> String {
        self.said(self.attack(words)).await
    }

    /// What it says without: the control that shows that the attack works at all. It gets a mount namespace of its own
    /// where it could do harm.
    pub(crate) async fn outside(&self, words: &[&str]) -> String {
        let mut plan = self.attack(words);
        if self.who == Who::Root && !self.contained {
            let attack = attacks();
            let mut argv = vec!["unshare", "-m", "--propagation", "private"];
            argv.push(attack.to_str().unwrap());
            argv.extend(words);
            plan = self.plan(&argv);
        }
        plan.confine = Confine::Never;
        plan.view = FsView::default();
        plan.net = NetMode::Full;
        self.said(plan).await
    }

    pub(crate) fn attack(&self, words: &[&str]) -> ProcessPlan {
        let attack = attacks();
        let mut argv = vec![attack.to_str().unwrap()];
        argv.extend(words);
        self.plan(&argv)
    }

    async fn said(&self, plan: ProcessPlan) -> String {
        let ran = self.run(&plan).await;
        match &ran.end {
            End::Status(status) if status.code().is_none() => format!("KILLED {status}"),
            End::Status(_) => format!("{}{}", ran.out, ran.err).trim().to_owned(),
            End::Never(fault) => panic!("{fault}"),
            End::Lost => panic!("lost"),
        }
    }
}

async fn fill(pipe: Option<pipe::Receiver>, bytes: &mut Vec<u8>) {
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(bytes).await.unwrap();
    }
}

/// Where a program lies; its directory resolved.
fn which(name: &str) -> PathBuf {
    let path = if name.starts_with('/') {
        PathBuf::from(name)
    } else {
        ["/usr/bin", "/bin", "/usr/sbin"]
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("no {name} on this machine"))
    };
    path.parent().unwrap().canonicalize().unwrap().join(path.file_name().unwrap())
}

pub(crate) fn id(path: &Path) -> cortex_agent_core::plan::FileId {
    let meta = std::fs::metadata(path).unwrap();
    cortex_agent_core::plan::FileId { dev: meta.dev(), ino: meta.ino() }
}

/// Waits for a line in a file that a task writes.
pub(crate) async fn appears(path: &Path) {
    let ready = || std::fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'));
    within(&path.display().to_string(), async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until what is made in a directory is later, by the clock of its file system, than all that was made before.
pub(crate) async fn ticked(dir: &Path) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let (probe, late) = (dir.join("probe"), now + Duration::from_millis(30));
    within("the clock of the file system", async {
        loop {
            std::fs::write(&probe, "x").unwrap();
            let made = std::fs::metadata(&probe).unwrap().modified().unwrap();
            if made.duration_since(std::time::UNIX_EPOCH).unwrap() > late {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    std::fs::remove_file(&probe).unwrap();
}

/// Waits until no process has this word in its command line.
pub(crate) async fn gone(word: &str) {
    within("the end of its processes", async {
        while !processes_of(word).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until a value has not changed for a while.
pub(crate) async fn steady(value: &impl Fn() -> u64) {
    within("a value that stays", async {
        loop {
            let before = value();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if value() == before {
                return;
            }
        }
    })
    .await;
}

/// Live processes with this word in their command line.
pub(crate) fn processes_of(word: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"));
        !zombie && line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    })
    .collect()
}

/// The launchers that this test process has started.
pub(crate) fn launchers() -> Vec<i32> {
    let own = std::process::id().to_string();
    let mut pids = processes_of(SUBCOMMAND);
    pids.retain(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)) == Some(&own)
    });
    pids
}

impl Room {
    /// Makes a file the task's own.
    pub(crate) fn give(&self, path: &Path) {
        if self.who == Who::User && is_root() {
            std::os::unix::fs::chown(path, Some(NOBODY_ELSE), Some(NOBODY_ELSE)).unwrap();
        }
    }
}
