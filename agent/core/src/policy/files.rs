//! Decides about an operation on files: where its paths lead, whether the policy opens these places, whether the owner has
//! to be asked. The kernel holds the worker to the same view as any command.

use super::assemble::{conclude, confine, fingerprint, limits, refuse, view};
use super::decision::{Class, Decision, Effect};
use super::facts::{Facts, PathKind};
use super::judge::{Court, show};
use super::needs::Needs;
use super::reach::Reach;
use super::request::Request;
use super::rules::Rules;
use super::whole::{Sum, strict_mode};
use crate::environment;
use crate::plan::{Confine, FileWork, Level, NetMode, ProcessPlan, TmpDir, Work};
use cortex_model::task::ShellAction;
use cortex_model::{Code, Fault, FileAction, FileOp};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Every task has these for itself, so what one did there would be gone with it.
const OWN: [&str; 3] = ["/tmp", "/dev", "/dev/shm"];
const NO_PLACE: &str = "every task has a place of its own there, which ends with it";

/// How a path is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meant {
    /// What it leads to, all links followed.
    Target,
    /// The name itself, also if it is a link.
    Name,
}

/// The paths of an operation, in their order.
fn paths(file: &FileAction) -> Vec<(&[u8], Meant)> {
    let first = file.path.as_slice();
    match &file.op {
        FileOp::Move(m) => vec![(first, Meant::Name), (m.to.as_slice(), Meant::Name)],
        FileOp::Delete(_) => vec![(first, Meant::Name)],
        FileOp::Stat(s) if s.link => vec![(first, Meant::Name)],
        FileOp::Read(_)
        | FileOp::Write(_)
        | FileOp::Edit(_)
        | FileOp::List(_)
        | FileOp::Stat(_)
        | FileOp::Glob(_)
        | FileOp::Search(_)
        | FileOp::Receive(_)
        | FileOp::Chunk(_)
        | FileOp::Finish(_) => vec![(first, Meant::Target)],
    }
}

/// The path to be looked at for a path of an operation.
fn question(facts: &Facts, path: &[u8], meant: Meant) -> Option<PathBuf> {
    let whole = absolute(facts, path)?;
    match meant {
        Meant::Target => Some(whole),
        Meant::Name => {
            whole.file_name()?;
            whole.parent().map(Path::to_owned)
        }
    }
}

fn absolute(facts: &Facts, path: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(path));
    match &facts.cwd {
        _ if path.is_absolute() => Some(path.to_owned()),
        Some(Ok(root)) => Some(root.join(path)),
        Some(Err(_)) | None => None,
    }
}

/// What is still to be found out.
pub(super) fn needs(file: &FileAction, facts: &Facts) -> Needs {
    let asked = paths(file).into_iter().filter_map(|(path, meant)| question(facts, path, meant));
    let open = asked.filter(|path| facts.path(path).is_none());
    Needs { paths: open.collect(), ..Needs::default() }
}

/// Decides by a policy of version 1.
pub(super) fn decide(
    rules: &Rules,
    digest: &str,
    facts: &Facts,
    request: &Request<'_>,
    file: &FileAction,
) -> Decision {
    let reach = Reach::new(&rules.places, &facts.tmpdir);
    let court = Court { rules, facts, reach: &reach };
    let mut sum = Sum::new();
    sum.read_only = !file.changes();
    if let Err(fault) = opened(rules, file, &mut sum) {
        return refuse(sum, "", fault);
    }
    let work = match work(&court, file, &mut sum) {
        Ok(work) => work,
        Err(fault) => return refuse(sum, "", fault),
    };
    strict_mode(rules, &mut sum);
    let decider = sum.decider.clone();
    let mut process = match process(&court, request, work, &mut sum) {
        Ok(process) => process,
        Err(fault) => return refuse(sum, &decider, fault),
    };
    rules.narrowing.hold(&mut process, &mut sum, facts.machine.cpus);
    let fingerprint = fingerprint(digest, &[&decider], &ShellAction::default(), &process);
    conclude(sum, decider, process, None, fingerprint, request.consent)
}

/// Whether the policy opens files for this kind of operation at all.
fn opened(rules: &Rules, file: &FileAction, sum: &mut Sum<'_>) -> Result<(), Fault> {
    let (key, effect) = if file.changes() {
        ("files.write", rules.files.write)
    } else {
        ("files.read", rules.files.read)
    };
    sum.trail.push(format!("{key} is {}", effect.word()));
    let fault = match effect {
        Effect::Deny => {
            let message = format!("the node's policy does not open files for 'fs.{}'", file.name());
            let hint = format!("the node's owner can write {key} = \"allow\" into policy.toml");
            return Err(Fault::new(Code::NotAllowed, message).with_hint(hint));
        }
        Effect::Ask => {
            let why = format!("{key} asks the owner");
            sum.why.push(why.clone());
            Some(Fault::new(Code::ConsentNeeded, why))
        }
        Effect::Allow => None,
    };
    sum.raise(effect, fault, key);
    Ok(())
}

/// The operation with its paths as they really are.
fn work(court: &Court<'_>, file: &FileAction, sum: &mut Sum<'_>) -> Result<FileWork, Fault> {
    let mut found = Vec::new();
    for (path, meant) in paths(file) {
        let (real, kind) = real(court.facts, path, meant)?;
        sum.trail.push(format!("{} is {}", text(path), real.display()));
        let denied = |why: String| Fault::new(Code::PathDenied, format!("{}: {why}", text(path)));
        if file.changes() {
            court.reach.writable(&real, false).map_err(denied)?;
        } else {
            court.reach.readable(&real).map_err(denied)?;
        }
        let place = court.reach.place(&real).ok_or_else(|| denied(NO_PLACE.to_owned()))?;
        if OWN.iter().any(|own| place == Path::new(own)) {
            return Err(denied(NO_PLACE.to_owned()));
        }
        found.push((real, place, kind));
    }
    let mut found = found.into_iter();
    let nothing = || Fault::new(Code::Internal, "an operation without a path");
    let (real, place, kind) = found.next().ok_or_else(nothing)?;
    let second = found.next();
    if destroys(&file.op, kind) {
        sum.classes.insert(Class::Destructive);
    }
    let mut action = FileAction { path: bytes(&real), op: file.op.clone() };
    if let (FileOp::Move(m), Some((to, ..))) = (&mut action.op, &second) {
        m.to = bytes(to);
    }
    Ok(FileWork { action, place, to_place: second.map(|(_, place, _)| place) })
}

/// Overwriting, removing and renaming count as destroying; a part of a file that arrives does not, what it replaces does.
fn destroys(op: &FileOp, kind: PathKind) -> bool {
    match op {
        FileOp::Write(_) | FileOp::Finish(_) => kind != PathKind::Missing,
        FileOp::Edit(_) | FileOp::Delete(_) | FileOp::Move(_) => true,
        FileOp::Read(_)
        | FileOp::List(_)
        | FileOp::Stat(_)
        | FileOp::Glob(_)
        | FileOp::Search(_)
        | FileOp::Receive(_)
        | FileOp::Chunk(_) => false,
    }
}

fn real(facts: &Facts, path: &[u8], meant: Meant) -> Result<(PathBuf, PathKind), Fault> {
    let shown = text(path);
    let denied = |why: &str| Fault::new(Code::PathDenied, format!("{shown}: {why}"));
    if absolute(facts, path).is_none() {
        return Err(denied("the path is relative, and the node's policy has no root"));
    }
    let question = question(facts, path, meant).ok_or_else(|| {
        Fault::new(Code::BadFileAction, format!("{shown} does not end in a name"))
    })?;
    let fact = facts.path(&question).ok_or_else(|| denied("where it leads was not looked at"))?;
    let name = absolute(facts, path).and_then(|path| path.file_name().map(OsStr::to_owned));
    match (meant, name) {
        (Meant::Name, Some(name)) => Ok((fact.canonical.join(name), fact.kind)),
        (Meant::Target | Meant::Name, _) => Ok((fact.canonical.clone(), fact.kind)),
    }
}

/// The worker as a process: nothing but the view, no network, no variables beside its marks.
fn process(
    court: &Court<'_>,
    request: &Request<'_>,
    work: FileWork,
    sum: &mut Sum<'_>,
) -> Result<ProcessPlan, Fault> {
    let (rules, facts) = (court.rules, court.facts);
    let limits = limits(rules, facts, request);
    let view = view(court, sum)?;
    let confine = confine(rules, facts, &view, &NetMode::None, &limits, sum)?;
    if confine == Confine::AtLeast(Level::None) {
        let why = "files are touched inside a sandbox only, and this machine has none";
        return Err(Fault::new(Code::SandboxUnavailable, why));
    }
    let mut argv =
        vec![format!("fs.{}", work.action.name()).into_bytes(), work.action.path.clone()];
    if let FileOp::Move(m) = &work.action.op {
        argv.push(m.to.clone());
    }
    Ok(ProcessPlan {
        program: facts.program.clone(),
        files: Vec::new(),
        argv,
        cwd: PathBuf::from("/"),
        env: environment::marks(request.key, request.fence, &facts.agent).to_vec(),
        stdin: Vec::new(),
        view,
        net: NetMode::None,
        limits,
        confine,
        tmp: TmpDir::Own(PathBuf::from(&facts.tmpdir)),
        secrets: Vec::new(),
        terminal: None,
        work: Some(Box::new(Work::File(work))),
    })
}

fn text(path: &[u8]) -> String {
    show(&String::from_utf8_lossy(path))
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
