//! Decides about a page: whether the owner opens a browser at all, where it may go, and what needs the owner's word. What a
//! page then does to itself is held by the kernel, the proxy and the driver, not by this.

use super::assemble::{conclude, confine, fingerprint, limits, refuse};
use super::decision::{Class, Decision, Effect};
use super::facts::{Facts, PathKind, Program};
use super::judge::{Court, show};
use super::needs::Needs;
use super::reach::Reach;
use super::request::Request;
use super::rules::{BrowserRules, Rules};
use super::whole::{Sum, strict_mode};
use crate::environment;
use crate::plan::{BrowserWork, Confine, FsView, Level, NetMode, ProcessPlan, TmpDir, Work};
use cortex_model::browser::step_words;
use cortex_model::task::ShellAction;
use cortex_model::{BrowserAction, BrowserResult, BrowserStep, Code, Fault, Origin};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where systems keep the program itself. What lies in `PATH` is often a script that reads settings and starts it.
pub const PROGRAMS: [&str; 6] = [
    "/usr/lib/chromium/chromium",
    "/usr/lib64/chromium-browser/chromium-browser",
    "/usr/lib/chromium-browser/chromium-browser",
    "/usr/lib64/chromium/chromium",
    "/opt/google/chrome/chrome",
    "/opt/chromium.org/chromium/chrome",
];

/// What it reads of the machine beside its own directory: libraries, fonts, certificates. Nothing of the owner, not even names of
/// users.
const READS: [&str; 13] = [
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/share",
    "/usr/bin",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
];

/// What is still to be found out.
pub(super) fn needs(rules: &Rules, action: &BrowserAction, facts: &Facts) -> Needs {
    let programs = PROGRAMS.iter().filter(|name| !facts.programs.contains_key(**name));
    let paths = READS.iter().map(PathBuf::from).filter(|path| facts.path(path).is_none());
    let secrets = action.secrets().filter_map(|name| rules.env.secrets.get(name));
    Needs {
        programs: programs.map(|name| (*name).to_owned()).collect(),
        paths: paths.collect(),
        secrets: secrets.filter(|place| !facts.secrets.contains_key(*place)).cloned().collect(),
        ..Needs::default()
    }
}

/// Decides by a policy of version 1.
pub(super) fn decide(
    rules: &Rules,
    digest: &str,
    facts: &Facts,
    request: &Request<'_>,
    action: &BrowserAction,
) -> Decision {
    let reach = Reach::new(&rules.places, &facts.tmpdir);
    let court = Court { rules, facts, reach: &reach };
    let mut sum = Sum::new();
    sum.read_only = true;
    let Some(own) = &rules.browser else { return refuse(sum, "", closed()) };
    let checked = opened(own, action, &mut sum)
        .and_then(|()| addresses(own, action, &mut sum))
        .and_then(|()| program(&court, &mut sum));
    let found = match checked {
        Ok(found) => found,
        Err(fault) => return refuse(sum, "browser", fault),
    };
    sum.classes.extend(classes(action));
    strict_mode(rules, &mut sum);
    let decider = sum.decider.clone();
    let mut process = match process(&court, own, request, action, found, &mut sum) {
        Ok(process) => process,
        Err(fault) => return refuse(sum, &decider, fault),
    };
    rules.narrowing.hold(&mut process, &mut sum, facts.machine.cpus);
    if process.net == NetMode::None {
        let why = "an administrator of the server takes the network away, and without one there is no page";
        return refuse(sum, &decider, Fault::new(Code::RuleDenies, why));
    }
    let fingerprint = fingerprint(digest, &[&decider], &ShellAction::default(), &process);
    conclude(sum, decider, process, None, fingerprint, request.consent)
}

pub(super) fn closed() -> Fault {
    let hint = "the node's owner can write a table [browser] into policy.toml: see docs/browser.md";
    Fault::new(Code::NotAllowed, "the node's policy opens no browser").with_hint(hint)
}

/// Whether the policy opens a browser, and files for it.
fn opened(own: &BrowserRules, action: &BrowserAction, sum: &mut Sum<'_>) -> Result<(), Fault> {
    let mut keys = vec![("browser.effect", own.effect)];
    if let BrowserResult::Download(_) = &action.result {
        keys.push(("browser.download", own.download));
    }
    for (key, effect) in keys {
        sum.trail.push(format!("{key} is {}", effect.word()));
        let fault = match effect {
            Effect::Deny => {
                let message = format!("the node's policy has {key} = \"deny\"");
                return Err(Fault::new(Code::NotAllowed, message));
            }
            Effect::Ask => {
                let why = format!("{key} asks the owner");
                sum.why.push(why.clone());
                Some(Fault::new(Code::ConsentNeeded, why))
            }
            Effect::Allow => None,
        };
        sum.raise(effect, fault, key);
    }
    Ok(())
}

/// Every address that the task names lies in an origin that the owner opens.
fn addresses(own: &BrowserRules, action: &BrowserAction, sum: &mut Sum<'_>) -> Result<(), Fault> {
    for url in action.urls() {
        let origin = Origin::of(url)?;
        let Some(open) = own.origins.iter().find(|pattern| pattern.matches(&origin)) else {
            let message = format!("{origin} is not one of browser.origins of the node's policy");
            return Err(Fault::new(Code::UrlRefused, message));
        };
        sum.trail.push(format!("{origin} is opened by {open}"));
    }
    Ok(())
}

/// The browser.
fn program<'a>(court: &Court<'a>, sum: &mut Sum<'a>) -> Result<&'a Program, Fault> {
    let programs = PROGRAMS.iter().filter_map(|name| court.facts.programs.get(*name));
    let found = programs.filter_map(|found| found.as_ref().ok()).find(|found| !found.setuid);
    let Some(found) = found else {
        let why = "there is no Chromium on this machine where one is looked for";
        let hint = format!("install it; it is looked for at {}", PROGRAMS.join(", "));
        return Err(Fault::new(Code::ProgramNotFound, why).with_hint(hint));
    };
    sum.trail.push(format!("the browser is {}", found.target.display()));
    let taken = &court.rules.narrowing.deny;
    if ["*", "browser", &found.name()].iter().any(|name| taken.contains(*name)) {
        let why = "an administrator of the server denies the browser on this node";
        return Err(Fault::new(Code::RuleDenies, why));
    }
    Ok(found)
}

/// To act on a page is seen outside; to fill in a password or to fetch a file can do harm.
fn classes(action: &BrowserAction) -> BTreeSet<Class> {
    let acts = |step: &BrowserStep| match step {
        BrowserStep::Click(_) | BrowserStep::Fill(_) | BrowserStep::Press(_) => true,
        BrowserStep::Goto(_) | BrowserStep::Wait(_) => false,
    };
    let mut classes = BTreeSet::new();
    if action.steps.iter().any(acts) {
        classes.insert(Class::Outward);
    }
    if action.is_sensitive() || matches!(action.result, BrowserResult::Download(_)) {
        classes.insert(Class::Destructive);
    }
    classes
}

/// The driver as a process: its view, its network, no variables beside its marks.
fn process(
    court: &Court<'_>,
    own: &BrowserRules,
    request: &Request<'_>,
    action: &BrowserAction,
    program: &Program,
    sum: &mut Sum<'_>,
) -> Result<ProcessPlan, Fault> {
    let (rules, facts) = (court.rules, court.facts);
    let limits = limits(rules, facts, request);
    let view = view(court, &program.target);
    if confine(rules, facts, &view, &own.net, &limits, sum)? != Confine::AtLeast(Level::Full) {
        let why = "a browser runs at level full only, and this machine does not reach it";
        return Err(Fault::new(Code::SandboxUnavailable, why));
    }
    let mut argv = vec![format!("browser.{}", action.name()), action.url.clone()];
    argv.extend(action.steps.iter().map(step_words));
    let secrets = secrets(court, action)?;
    let work = BrowserWork { action: action.clone(), origins: own.origins.clone(), secrets };
    Ok(ProcessPlan {
        program: program.target.clone(),
        files: vec![(program.target.clone(), program.id)],
        argv: argv.into_iter().map(String::into_bytes).collect(),
        cwd: PathBuf::from("/"),
        env: environment::marks(request.key, request.fence, &facts.agent).to_vec(),
        stdin: Vec::new(),
        view,
        net: own.net.clone(),
        limits,
        confine: Confine::AtLeast(Level::Full),
        tmp: TmpDir::Own(PathBuf::from(&facts.tmpdir)),
        secrets: work.secrets.iter().map(|(_, secret)| secret.clone()).collect(),
        terminal: None,
        work: Some(Box::new(Work::Browser(Box::new(work)))),
    })
}

/// Its own directory and what every program needs; no place that the owner opens for tasks.
fn view(court: &Court<'_>, program: &Path) -> FsView {
    let there = READS.iter().filter_map(|path| court.facts.path(Path::new(path)));
    let there = there.filter(|fact| fact.kind != PathKind::Missing);
    let mut read: BTreeSet<PathBuf> = there.map(|fact| fact.canonical.clone()).collect();
    read.extend(program.parent().map(Path::to_owned));
    let inside = |tree: &PathBuf| read.iter().any(|place| tree.starts_with(place));
    let hidden = court.rules.places.shown.hidden.iter().map(|(tree, _)| tree);
    let deny = hidden.filter(|tree| inside(tree)).cloned().collect();
    FsView { read: read.into_iter().collect(), deny, read_only: true, ..FsView::default() }
}

fn secrets(
    court: &Court<'_>,
    action: &BrowserAction,
) -> Result<Vec<(usize, super::Secret)>, Fault> {
    let mut all = Vec::new();
    for (number, step) in action.steps.iter().enumerate() {
        let BrowserStep::Fill(fill) = step else { continue };
        if fill.secret.is_empty() {
            continue;
        }
        let unavailable = |why: &str| {
            let message = format!("the secret {}: {why}", show(&fill.secret));
            Fault::new(Code::SecretUnavailable, message)
        };
        let place = court.rules.env.secrets.get(&fill.secret);
        let place =
            place.ok_or_else(|| unavailable("the node's policy names none of that name"))?;
        match court.facts.secrets.get(place) {
            Some(Ok(secret)) => all.push((number, secret.clone())),
            Some(Err(why)) => return Err(unavailable(why)),
            None => return Err(unavailable("it was not read")),
        }
    }
    Ok(all)
}
