//! From the owner's decision to what the launcher is told. Whatever cannot be enforced as it was decided is refused
//! here, before anything is started.

use super::armed::Armed;
use super::groups::Held;
use super::message::{Armour, SameFile, Size, Spec};
use crate::browser;
use crate::files::Order;
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{
    BrowserWork, Confine, Enforce, FileWork, FsView, Level, NetMode, TmpDir,
};
use cortex_model::{Code, Fault};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Port on which a task finds the agent's proxy.
pub(crate) const PROXY_PORT: u16 = 3128;

/// The level at which a plan can run on a machine.
///
/// # Errors
/// It needs more than the machine can enforce.
pub(super) fn level(plan: &ProcessPlan, armed: &Armed) -> Result<Level, Fault> {
    let Confine::AtLeast(least) = plan.confine else { return Ok(Level::None) };
    if armed.level < least {
        return Err(unavailable(format!(
            "the policy demands level {}, this machine offers {}: {}",
            least.word(),
            armed.level.word(),
            armed.why
        )));
    }
    if armed.level == Level::Landlock {
        without_namespaces(plan, armed)?;
    }
    Ok(armed.level)
}

/// What only namespaces can do.
fn without_namespaces(plan: &ProcessPlan, armed: &Armed) -> Result<(), Fault> {
    let refuse = |what: String| Err(unavailable(format!("{what} needs level full: {}", armed.why)));
    match &plan.net {
        NetMode::None | NetMode::Full => {}
        NetMode::Loopback { .. } => return refuse("network mode loopback".to_owned()),
        NetMode::Domains { .. } => return refuse("network mode domains".to_owned()),
    }
    let view = &plan.view;
    let open = [&view.roots, &view.read, &view.write];
    let within =
        |path: &Path| open.iter().any(|list| list.iter().any(|root| path.starts_with(root)));
    if let Some(path) = view.deny.iter().find(|path| within(path) && path.exists()) {
        return refuse(format!("hiding {}", path.display()));
    }
    let writable = writable(view);
    let can_write = |path: &Path| writable.iter().any(|root| path.starts_with(root));
    match view.protect.iter().find(|path| can_write(path)) {
        Some(path) => refuse(format!("protecting {}", path.display())),
        None => Ok(()),
    }
}

fn unavailable(message: String) -> Fault {
    Fault::new(Code::SandboxUnavailable, message)
}

/// How well a limit is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strengths {
    pub(super) cpu: &'static str,
    pub(super) memory: &'static str,
    pub(super) pids: &'static str,
}

/// How well the limits of a plan are held at a level.
pub(super) fn strengths(level: Level, held: Held, root: bool) -> Strengths {
    let word = |hard: bool| if hard { "hard" } else { "approx" };
    // The kernel counts the processes of a user namespace exactly, but never holds root to it.
    let counted = level == Level::Full && !root;
    Strengths { cpu: word(held.cpu), memory: word(held.memory), pids: word(held.pids || counted) }
}

/// Whether every limit is held as the policy demands.
///
/// # Errors
/// It says `hard`, and one of them is not.
pub(super) fn enforceable(plan: &ProcessPlan, strengths: Strengths) -> Result<(), Fault> {
    let limits = &plan.limits;
    if limits.enforce == Enforce::BestEffort {
        return Ok(());
    }
    let all = [
        ("cpu", limits.cpu_percent.is_some(), strengths.cpu),
        ("memory", limits.memory.is_some(), strengths.memory),
        ("pids", limits.pids.is_some(), strengths.pids),
    ];
    match all.iter().find(|(_, set, strength)| *set && *strength != "hard") {
        Some((name, ..)) => {
            let message = format!("the limit of {name} can only be held approximately here");
            Err(Fault::new(Code::LimitUnenforceable, message))
        }
        None => Ok(()),
    }
}

/// The variables by which programs find the agent's proxy.
pub(super) fn proxy_variables(token: &str) -> Vec<Vec<u8>> {
    let url = format!("http://cortex:{token}@127.0.0.1:{PROXY_PORT}");
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let mut all = Vec::new();
    for name in names {
        all.push(format!("{name}={url}").into_bytes());
        all.push(format!("{}={url}", name.to_lowercase()).into_bytes());
    }
    for name in ["NO_PROXY", "no_proxy"] {
        all.push(format!("{name}=localhost,127.0.0.1,::1").into_bytes());
    }
    all
}

/// What the launcher is told.
pub(super) fn spec(plan: &ProcessPlan, level: Level) -> Spec {
    let env = plan.env.iter().map(|(name, value)| {
        let mut entry = name.clone().into_bytes();
        entry.push(b'=');
        entry.extend_from_slice(value);
        entry
    });
    let files = plan.files.iter().map(|(path, id)| SameFile {
        path: bytes(path),
        dev: id.dev,
        ino: id.ino,
    });
    let armour = match level {
        Level::None => Armour::None,
        Level::Landlock => Armour::Landlock,
        Level::Full => Armour::Full,
    };
    let (host_network, listen) = match &plan.net {
        NetMode::None => (false, Vec::new()),
        NetMode::Loopback { ports } => (false, ports.iter().map(|port| u32::from(*port)).collect()),
        NetMode::Domains { .. } => (false, vec![u32::from(PROXY_PORT)]),
        NetMode::Full => (true, Vec::new()),
    };
    let view = &plan.view;
    let mut read: Vec<&PathBuf> = view.read.iter().collect();
    if view.read_only {
        read.extend(&view.roots);
    }
    let mut write = writable(view);
    let look = if plan.work.is_some() { Vec::new() } else { outermost(&write, &plan.tmp) };
    let tmp = match &plan.tmp {
        TmpDir::Own(path) => {
            write.push(path);
            bytes(path)
        }
        TmpDir::Shared(_) => Vec::new(),
    };
    let list = |paths: &[&PathBuf]| paths.iter().map(|path| bytes(path)).collect();
    Spec {
        program: bytes(&plan.program),
        argv: plan.argv.clone(),
        env: env.collect(),
        cwd: bytes(&plan.cwd),
        files: files.collect(),
        armour: armour as u32,
        host_network,
        listen,
        read: list(&read),
        write: list(&write),
        protect: list(&view.protect.iter().collect::<Vec<_>>()),
        deny: list(&view.deny.iter().collect::<Vec<_>>()),
        cpu_percent: plan.limits.cpu_percent.unwrap_or(0),
        memory: plan.limits.memory.unwrap_or(0),
        pids: plan.limits.pids.unwrap_or(0),
        file_size: plan.limits.file_size.unwrap_or(0),
        tmp,
        work: plan.work.as_deref().and_then(|work| work.file()).map(order),
        browser: plan.work.as_deref().and_then(|work| work.browser()).map(page),
        terminal: plan.terminal.as_ref().map(|terminal| {
            let (rows, columns) = terminal.size();
            Size { rows: rows.into(), columns: columns.into() }
        }),
        look: list(&look),
    }
}

/// Those of the paths that stay when the task is over and lie in no other.
fn outermost<'a>(paths: &[&'a PathBuf], tmp: &TmpDir) -> Vec<&'a PathBuf> {
    let goes = |path: &Path| matches!(tmp, TmpDir::Own(tmp) if path.starts_with(tmp));
    let mut all: Vec<&PathBuf> = paths.iter().copied().filter(|path| !goes(path)).collect();
    all.sort();
    let mut outer: Vec<&PathBuf> = Vec::new();
    for path in all {
        if !outer.iter().any(|outer| path.starts_with(outer)) {
            outer.push(path);
        }
    }
    outer
}

fn page(work: &BrowserWork) -> browser::Order {
    let value = |(step, secret): &(usize, cortex_agent_core::policy::Secret)| browser::Value {
        step: *step as u64,
        value: secret.0.clone(),
    };
    browser::Order {
        action: Some((&work.action).into()),
        origins: work.origins.iter().map(ToString::to_string).collect(),
        secrets: work.secrets.iter().map(value).collect(),
        token: String::new(),
        own_sandbox: browser::own_sandbox(),
    }
}

fn order(work: &FileWork) -> Order {
    Order {
        action: Some((&work.action).into()),
        place: bytes(&work.place),
        to_place: work.to_place.as_deref().map(bytes).unwrap_or_default(),
    }
}

fn writable(view: &FsView) -> Vec<&PathBuf> {
    let roots = view.roots.iter().filter(|_| !view.read_only);
    roots.chain(&view.write).collect()
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
