//! From the answer to the plan: what the machine can enforce, what the process gets, and what an answer of the owner is
//! bound to.

use super::capacity;
use super::decision::{Class, Decision, Effect, Fingerprint, Proposal};
use super::facts::{Facts, Secret};
use super::harden;
use super::judge::Court;
use super::request::Request;
use super::rules::{Rules, SecretRef};
use super::whole::Sum;
use crate::environment;
use crate::plan::{
    Confine, Enforce, ExecPlan, FileId, FsView, Level, Limits, NetMode, Operation, ProcessPlan,
    TmpDir, Work,
};
use cortex_model::task::ShellAction;
use cortex_model::{Code, Fault};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Names and values.
type Variables = Vec<(String, Vec<u8>)>;

/// What the commands were made into.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// SHA-256 of the policy.
    pub(super) digest: &'a str,
    pub(super) cwd: PathBuf,
    /// What is executed; `None` when nothing can be.
    pub(super) argv: Option<Vec<String>>,
    pub(super) net: NetMode,
    /// The text of a script that is not understood.
    pub(super) opaque: Option<String>,
}

/// The decision.
pub(super) fn assemble(
    court: &Court<'_>,
    request: &Request<'_>,
    shell: &ShellAction,
    parts: Parts<'_>,
    mut sum: Sum<'_>,
) -> Decision {
    let rules = court.rules;
    let facts = court.facts;
    let decider = sum.decider.clone();
    if sum.effect == Effect::Deny {
        return denied(sum, &decider);
    }
    let limits = limits(rules, facts, request);
    let view = match view(court, &sum) {
        Ok(view) => view,
        Err(fault) => return refuse(sum, &decider, fault),
    };
    let confine = match confine(rules, facts, &view, &parts.net, &limits, &mut sum) {
        Ok(confine) => confine,
        Err(fault) => return refuse(sum, &decider, fault),
    };
    let (env, secrets) = match env(rules, facts, request, shell, &sum) {
        Ok(env) => env,
        Err(fault) => return refuse(sum, &decider, fault),
    };
    let (Some(argv), Some(program)) = (parts.argv, sum.files.first()) else {
        return refuse(
            sum,
            &decider,
            Fault::new(Code::ProgramNotFound, "there is nothing to start"),
        );
    };
    let mut process = ProcessPlan {
        program: program.path.clone(),
        files: sum.files.iter().map(|file| (file.path.clone(), file.id)).collect(),
        argv: argv.into_iter().map(String::into_bytes).collect(),
        cwd: parts.cwd,
        env,
        stdin: shell.stdin.clone(),
        terminal: shell.terminal.clone(),
        view,
        net: parts.net,
        limits,
        confine,
        tmp: TmpDir::Own(PathBuf::from(&facts.tmpdir)),
        secrets,
        work: None,
    };
    rules.narrowing.hold(&mut process, &mut sum, facts.machine.cpus);
    let ids: Vec<&str> = sum.rules.iter().map(|rule| rule.id.as_str()).collect();
    let fingerprint = fingerprint(parts.digest, &ids, shell, &process);
    let script =
        parts.opaque.or_else(|| Some(shell.script.clone()).filter(|text| !text.is_empty()));
    conclude(sum, decider, process, script, fingerprint, request.consent)
}

/// What nothing denies: asked about, unless it is allowed or the owner agreed to exactly this.
pub(super) fn conclude(
    mut sum: Sum<'_>,
    decider: String,
    process: ProcessPlan,
    script: Option<String>,
    fingerprint: Fingerprint,
    consent: Option<Fingerprint>,
) -> Decision {
    if sum.effect == Effect::Ask && consent != Some(fingerprint) {
        return ask(sum, decider, process, script, fingerprint);
    }
    if sum.effect == Effect::Ask {
        sum.trail.push("the owner agreed to exactly this".to_owned());
    }
    let (wall, output) = (process.limits.wall_ms, process.limits.output);
    Decision {
        effect: Effect::Allow,
        classes: sum.classes,
        rule: decider,
        trail: sum.trail,
        fault: None,
        plan: Some(ExecPlan::new(Operation::Process(Box::new(process)), wall, output)),
        proposal: None,
        fingerprint,
    }
}

/// The owner decides.
fn ask(
    sum: Sum<'_>,
    rule: String,
    process: ProcessPlan,
    script: Option<String>,
    fingerprint: Fingerprint,
) -> Decision {
    let unclear = sum.classes.contains(&Class::Opaque) || sum.classes.contains(&Class::Privilege);
    let rememberable = !unclear && !sum.runs_code;
    let proposal = Proposal { process, script, why: sum.why, rememberable };
    Decision {
        effect: Effect::Ask,
        classes: sum.classes,
        rule,
        trail: sum.trail,
        fault: sum.fault,
        plan: None,
        proposal: Some(Box::new(proposal)),
        fingerprint,
    }
}

pub(super) fn denied(sum: Sum<'_>, decider: &str) -> Decision {
    let fault = sum
        .fault
        .clone()
        .unwrap_or_else(|| Fault::new(Code::NotAllowed, "the node's policy does not allow it"));
    Decision { classes: sum.classes, ..Decision::deny(decider, sum.trail, fault) }
}

pub(super) fn refuse(mut sum: Sum<'_>, decider: &str, fault: Fault) -> Decision {
    sum.trail.push(fault.message.clone());
    Decision { classes: sum.classes, ..Decision::deny(decider, sum.trail, fault) }
}

pub(super) fn limits(rules: &Rules, facts: &Facts, request: &Request<'_>) -> Limits {
    let own = &rules.limits;
    let cpus = facts.machine.cpus;
    let least = |own: Option<u64>, asked: u64| own.map_or(asked, |own| own.min(asked));
    let limits = Limits {
        cpu_percent: own.cpu.map(|cpu| capacity::percent(cpu, cpus)),
        memory: own.memory,
        pids: own.pids,
        wall_ms: least(own.wall_ms, request.timeout_ms),
        output: least(own.output, request.output_limit),
        file_size: own.file_size,
        enforce: own.enforce,
    };
    capacity::within(limits, &rules.agent_limits, cpus)
}

pub(super) fn view(court: &Court<'_>, sum: &Sum<'_>) -> Result<FsView, Fault> {
    let places = &court.rules.places;
    let look = |found: &Result<Vec<PathBuf>, String>| {
        found.clone().map_err(|why| {
            Fault::new(Code::PathDenied, format!("the roots could not be looked through: {why}"))
        })
    };
    // Only what lies in an opened place can be seen at all. To cover more would cover what lies below it: the task's own
    // directory is in that of the agent.
    let (shown, tmp) = (&places.shown, PathBuf::from(&court.facts.tmpdir));
    let seen = |(tree, opened): &(PathBuf, bool)| {
        (*opened || tree.starts_with(&tmp)).then(|| tree.clone())
    };
    let hidden = shown.hidden.iter().filter_map(seen);
    let protected = shown.protected.iter().cloned();
    let mut view = FsView {
        roots: shown.roots.clone(),
        read: shown.read.clone(),
        write: shown.write.clone(),
        protect: protected.chain(look(&court.facts.protected)?).collect(),
        deny: hidden.chain(look(&court.facts.hidden)?).collect(),
        read_only: sum.read_only,
    };
    if !court.facts.tmpdir.is_empty() && !shown.closed.iter().any(|tree| tmp.starts_with(tree)) {
        view.write.push(tmp);
    }
    for list in [&mut view.protect, &mut view.deny] {
        list.sort();
        list.dedup();
    }
    Ok(view)
}

/// Whether this machine can hold the process to it. Without a sandbox the owner must agree to every task.
pub(super) fn confine(
    rules: &Rules,
    facts: &Facts,
    view: &FsView,
    net: &NetMode,
    limits: &Limits,
    sum: &mut Sum<'_>,
) -> Result<Confine, Fault> {
    let machine = &facts.machine;
    if let Some(fault) = capacity::unmet(&rules.sandbox, machine) {
        return Err(fault);
    }
    if limits.enforce == Enforce::Hard {
        let set = [
            ("cpu", limits.cpu_percent.is_some()),
            ("memory", limits.memory.is_some()),
            ("pids", limits.pids.is_some()),
            ("file_size", limits.file_size.is_some()),
        ];
        if let Some((name, _)) =
            set.iter().find(|(name, set)| *set && !machine.exact_limits.contains(name))
        {
            let message = format!(
                "this machine cannot hold limits.task.{name} exactly, and the policy insists on it"
            );
            return Err(Fault::new(Code::LimitUnenforceable, message));
        }
    }
    let unavailable = |why: &str| Fault::new(Code::SandboxUnavailable, why);
    match machine.level {
        Level::Full => Ok(Confine::AtLeast(Level::Full)),
        Level::Landlock => {
            if matches!(net, NetMode::Loopback { .. } | NetMode::Domains { .. }) {
                return Err(unavailable(
                    "this machine has no namespaces: the network the rule names cannot be made",
                ));
            }
            let below = |path: &PathBuf| view.roots.iter().any(|root| path.starts_with(root));
            if !view.read_only && view.protect.iter().any(below) {
                return Err(unavailable(
                    "this machine has no namespaces: what the policy protects below its roots cannot be protected",
                ));
            }
            Ok(Confine::AtLeast(Level::Landlock))
        }
        Level::None if rules.sandbox.allow_none => {
            let why = "this machine has no sandbox: the process would have all rights of the agent"
                .to_owned();
            sum.trail.push(why.clone());
            sum.why.push(why.clone());
            sum.runs_code = true;
            if sum.effect == Effect::Allow {
                sum.effect = Effect::Ask;
                sum.fault = Some(Fault::new(Code::ConsentNeeded, why));
            }
            Ok(Confine::AtLeast(Level::None))
        }
        Level::None => Err(unavailable(
            "this machine has no sandbox, and the policy does not allow to go without",
        )),
    }
}

/// The environment, made from nothing.
fn env(
    rules: &Rules,
    facts: &Facts,
    request: &Request<'_>,
    shell: &ShellAction,
    sum: &Sum<'_>,
) -> Result<(Variables, Vec<Secret>), Fault> {
    let search: Vec<String> =
        rules.search.iter().map(|dir| dir.to_string_lossy().into_owned()).collect();
    let mut env: Variables = vec![
        ("PATH".to_owned(), search.join(":").into_bytes()),
        ("HOME".to_owned(), facts.home.clone().into_bytes()),
        ("USER".to_owned(), facts.user.clone().into_bytes()),
        ("TMPDIR".to_owned(), facts.tmpdir.clone().into_bytes()),
        ("LANG".to_owned(), b"C.UTF-8".to_vec()),
    ];
    let mut set = |name: &str, value: &[u8]| {
        env.retain(|(other, _)| other != name);
        env.push((name.to_owned(), value.to_vec()));
    };
    for (name, value) in facts.env.iter().filter(|(name, _)| !environment::is_refused(name)) {
        set(name, value);
    }
    for (name, value) in &rules.env.set {
        set(name, value.as_bytes());
    }
    if let Some(terminal) = &shell.terminal {
        set("TERM", terminal.kind().as_bytes());
    }
    for (name, value) in &shell.env {
        set(name, value);
    }
    let secrets = secrets(rules, facts, shell, sum)?;
    for (name, secret) in &secrets {
        set(name, &secret.0);
    }
    let values = secrets.into_iter().map(|(_, secret)| secret).collect();
    if sum.rules.iter().any(|rule| rule.harden_git) {
        for (name, value) in harden::variables() {
            set(&name, &value);
        }
    }
    if !facts.fences.is_empty() {
        let fences: Vec<String> = facts.fences.iter().map(u64::to_string).collect();
        set(environment::LOCK_FENCES, fences.join(",").as_bytes());
    }
    for (name, value) in environment::marks(request.key, request.fence, &facts.agent) {
        set(&name, &value);
    }
    Ok((env, values))
}

/// The secrets of the rule and those that the task asks for by name.
fn secrets(
    rules: &Rules,
    facts: &Facts,
    shell: &ShellAction,
    sum: &Sum<'_>,
) -> Result<Vec<(String, Secret)>, Fault> {
    let unavailable = |why: String| Fault::new(Code::SecretUnavailable, why);
    let by_rule = sum.rights.iter().flat_map(|rule| &rule.secrets);
    let mut wanted: Vec<(&str, &SecretRef)> =
        by_rule.map(|(name, place)| (name.as_str(), place)).collect();
    for (name, reference) in &shell.secret_env {
        if environment::is_refused(name) || environment::is_own(name) {
            let message = format!("the task may not set the environment variable {name}");
            return Err(Fault::new(Code::EnvForbidden, message));
        }
        let place = rules.env.secrets.get(reference);
        let missing = || unavailable(format!("the node's policy names no secret {reference:?}"));
        wanted.push((name, place.ok_or_else(missing)?));
    }
    let mut all = Vec::new();
    for (name, place) in wanted {
        match facts.secrets.get(place) {
            Some(Ok(secret)) => all.push((name.to_owned(), secret.clone())),
            Some(Err(why)) => return Err(unavailable(format!("the secret for {name}: {why}"))),
            None => return Err(unavailable(format!("the secret for {name} was not read"))),
        }
    }
    Ok(all)
}

/// SHA-256 over everything that was shown and everything that decided: argv or script, programs with their identity,
/// directory, the task's own variables and input, rules, rights, policy. Not the attempt: it may be asked once for several.
pub(super) fn fingerprint(
    digest: &str,
    rules: &[&str],
    shell: &ShellAction,
    process: &ProcessPlan,
) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(b"cortex consent 1");
    field(digest.as_bytes());
    field(&(rules.len() as u64).to_be_bytes());
    rules.iter().for_each(|rule| field(rule.as_bytes()));
    field(&(process.argv.len() as u64).to_be_bytes());
    process.argv.iter().for_each(|word| field(word));
    for (path, FileId { dev, ino }) in &process.files {
        field(path.as_os_str().as_encoded_bytes());
        field(&dev.to_be_bytes());
        field(&ino.to_be_bytes());
    }
    field(process.cwd.as_os_str().as_encoded_bytes());
    for (name, value) in &shell.env {
        field(name.as_bytes());
        field(value);
    }
    for (name, reference) in &shell.secret_env {
        field(name.as_bytes());
        field(reference.as_bytes());
    }
    field(&process.stdin);
    if let Some(terminal) = &process.terminal {
        field(b"terminal");
        field(terminal.kind().as_bytes());
    }
    if let Some(work) = &process.work {
        match work.as_ref() {
            Work::File(work) => field(&work.action.encoded()),
            Work::Browser(work) => {
                field(b"browser");
                field(&work.action.encoded());
                work.origins.iter().for_each(|origin| field(origin.to_string().as_bytes()));
            }
        }
    }
    // What grows and shrinks with the tree (names found below the roots) is the kernel's business, not the answer's.
    field(
        format!("{:?} {:?} {:?}", process.view.roots, process.view.read_only, process.net)
            .as_bytes(),
    );
    field(format!("{:?}", process.confine).as_bytes());
    Fingerprint(hash.finalize().into())
}
