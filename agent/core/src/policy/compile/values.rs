//! Network profiles, environment, limits, consent and sandbox: values outside of rules.

use super::Place;
use crate::environment;
use crate::plan::{Enforce, HostPort, NetMode};
use crate::policy::error::PolicyError;
use crate::policy::file::{self, EnforceWord, Mode};
use crate::policy::rules::{
    AgentLimits, ConsentRules, EnvRules, SandboxRules, SecretRef, TaskLimits,
};
use crate::policy::{lists, units};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn profiles(net: &file::Net) -> Result<BTreeMap<String, NetMode>, PolicyError> {
    let mut all = BTreeMap::new();
    for (name, profile) in &net.profiles {
        let key = format!("net.profiles.{name}");
        let bad = |why: &str| PolicyError::value(&key, why);
        let mode = match (profile.mode, &profile.allow, &profile.ports) {
            (Mode::None, None, None) => NetMode::None,
            (Mode::Full, None, None) => NetMode::Full,
            (Mode::Loopback, None, Some(ports)) => {
                let ports: BTreeSet<u16> = ports.iter().copied().collect();
                if ports.contains(&0) {
                    return Err(bad("0 is no port"));
                }
                NetMode::Loopback { ports: ports.into_iter().collect() }
            }
            (Mode::Domains, Some(allow), None) => {
                let allow: Result<BTreeSet<HostPort>, String> =
                    allow.iter().map(|entry| host_port(entry)).collect();
                let allow = allow.map_err(|why| PolicyError::value(&key, why))?;
                NetMode::Domains { allow: allow.into_iter().collect() }
            }
            (Mode::Domains, None, _) => return Err(bad("mode domains needs allow")),
            (Mode::Loopback, _, None) => return Err(bad("mode loopback needs ports")),
            (Mode::None | Mode::Full | Mode::Loopback | Mode::Domains, _, _) => {
                return Err(bad("allow belongs to mode domains, ports to mode loopback"));
            }
        };
        all.insert(name.clone(), mode);
    }
    Ok(all)
}

pub(super) fn host_port(text: &str) -> Result<HostPort, String> {
    let bad = || format!("{text:?} is not NAME:PORT or *.NAME:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let name = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = address.is_some_and(|inner| inner.parse::<core::net::Ipv6Addr>().is_ok());
    if port == 0 || name.len() > 253 || !(is_address || name.split('.').all(label)) {
        return Err(bad());
    }
    Ok(HostPort { host: host.to_owned(), port })
}

pub(super) fn env(env: &file::Env, place: &Place) -> Result<EnvRules, PolicyError> {
    for name in &env.pass {
        let stem = name.strip_suffix('*').unwrap_or(name);
        if stem.is_empty() || !stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(PolicyError::value(
                "env.pass",
                format!("{name:?} is no name of a variable"),
            ));
        }
        // A wide pattern must not let through by the way what may not be named.
        if environment::is_refused(stem) || environment::may_be_refused(name) {
            return Err(PolicyError::value(
                "env.pass",
                format!("{name:?} changes how programs run; it is never passed"),
            ));
        }
    }
    for name in env.set.keys() {
        if !environment::is_name(name) || environment::is_own(name) {
            return Err(PolicyError::value("env.set", format!("{name:?} cannot be set")));
        }
    }
    Ok(EnvRules {
        pass: env.pass.clone(),
        set: env.set.clone(),
        secrets: secrets("env.secrets", &env.secrets, place)?,
    })
}

pub(super) fn secrets(
    key: &str,
    table: &BTreeMap<String, String>,
    place: &Place,
) -> Result<BTreeMap<String, SecretRef>, PolicyError> {
    let mut all = BTreeMap::new();
    for (name, reference) in table {
        if !environment::is_name(name) || environment::is_own(name) {
            return Err(PolicyError::value(key, format!("{name:?} cannot be set")));
        }
        let found = match reference.split_once(':') {
            Some(("file", path)) => SecretRef::File(place.resolve(place.expand(key, path)?)),
            Some(("keyring", entry)) if !entry.is_empty() => SecretRef::Keyring(entry.to_owned()),
            Some(_) | None => {
                let why = format!("{reference:?} is not file:PATH or keyring:NAME");
                return Err(PolicyError::value(key, why));
            }
        };
        all.insert(name.clone(), found);
    }
    Ok(all)
}

pub(super) fn task_limits(limits: &file::LimitTables) -> Result<TaskLimits, PolicyError> {
    let task = &limits.task;
    let size = |key: &str, text: &Option<String>| {
        text.as_deref().map(units::bytes).transpose().map_err(|why| PolicyError::value(key, why))
    };
    if task.pids == Some(0) {
        return Err(PolicyError::value("limits.task.pids", "0 processes cannot run anything"));
    }
    let wall = task.wall.as_deref().map(units::duration_ms).transpose();
    let cpu = task.cpu.as_deref().map(units::cpu).transpose();
    Ok(TaskLimits {
        cpu: cpu.map_err(|why| PolicyError::value("limits.task.cpu", why))?,
        memory: size("limits.task.memory", &task.memory)?,
        pids: task.pids,
        wall_ms: wall.map_err(|why| PolicyError::value("limits.task.wall", why))?,
        output: size("limits.task.output", &task.output)?,
        file_size: size("limits.task.file_size", &task.file_size)?,
        enforce: match limits.enforce {
            EnforceWord::BestEffort => Enforce::BestEffort,
            EnforceWord::Hard => Enforce::Hard,
        },
    })
}

pub(super) fn agent_limits(agent: &file::AgentLimits) -> Result<AgentLimits, PolicyError> {
    let cpu = agent.cpu.as_deref().map(units::cpu).transpose();
    let memory = agent.memory.as_deref().map(units::bytes).transpose();
    if agent.tasks == Some(0) {
        return Err(PolicyError::value(
            "limits.agent.tasks",
            "0 tasks is no work at all; use paths and rules for that",
        ));
    }
    Ok(AgentLimits {
        cpu: cpu.map_err(|why| PolicyError::value("limits.agent.cpu", why))?,
        memory: memory.map_err(|why| PolicyError::value("limits.agent.memory", why))?,
        tasks: agent.tasks,
    })
}

pub(super) fn consent(consent: &file::Consent) -> Result<ConsentRules, PolicyError> {
    let timeout = consent.timeout.as_deref().map(units::duration_ms).transpose();
    Ok(ConsentRules {
        channels: consent.channels.iter().copied().collect(),
        timeout_ms: timeout.map_err(|why| PolicyError::value("consent.timeout", why))?,
        remember: consent.remember,
    })
}

pub(super) fn sandbox(sandbox: &file::Sandbox) -> Result<SandboxRules, PolicyError> {
    let key = "sandbox.require";
    let mut require = Vec::new();
    for entry in &sandbox.require {
        let (name, least) = match entry.split_once(">=") {
            Some((name, least)) => {
                let least = least
                    .parse()
                    .map_err(|_| PolicyError::value(key, format!("{entry:?}: no version")))?;
                (name, least)
            }
            None => (entry.as_str(), 0),
        };
        if !lists::FEATURES.contains(&name) {
            let known = lists::FEATURES.join(", ");
            return Err(PolicyError::value(key, format!("{name:?} is not one of {known}")));
        }
        require.push((name.to_owned(), least));
    }
    Ok(SandboxRules {
        require,
        allow_none: sandbox.allow_none,
        allow_job_only: sandbox.allow_job_only,
    })
}
