//! The result of an examination, for people and as JSON with stable fields.

use crate::sandbox::Sandbox;
use cortex_agent_core::plan::Level;
use serde::Serialize;

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `full`, `landlock` or `none`.
    pub level: &'static str,
    /// Why it is not `full`.
    pub why: Option<String>,
    /// What could be done about it.
    pub advice: Option<String>,
    /// Version of Landlock; 0: the kernel has none, or has it switched off.
    pub landlock_abi: u32,
    /// What is not enforced at this level.
    pub not_enforced: Vec<String>,
    /// What was tried.
    pub checks: Vec<Check>,
    /// Whether the owner's policy is content with it; `None` where there is none.
    pub policy: Option<String>,
}

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What: `files`, `network`, ...
    pub name: &'static str,
    /// What came of it.
    pub state: State,
    /// In words.
    pub detail: String,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It holds.
    Enforced,
    /// It holds most of the time, or a little late.
    Approx,
    /// It does not hold.
    NotEnforced,
    /// It could not be tried.
    Unknown,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Approx => "approx",
            Self::NotEnforced => "NOT enforced",
            Self::Unknown => "not tried",
        }
    }
}

impl Report {
    /// What is known before anything is tried.
    pub(super) fn of(sandbox: &Sandbox) -> Self {
        let armed = sandbox.armed();
        let why = (!armed.why.is_empty()).then(|| armed.why.clone());
        let advice = (armed.level != Level::Full).then(advice);
        Self {
            level: armed.level.word(),
            why,
            advice,
            landlock_abi: armed.landlock_abi,
            not_enforced: armed.gaps(armed.level),
            checks: Vec::new(),
            policy: None,
        }
    }

    /// Notes what came of a trial.
    pub(super) fn note(&mut self, name: &'static str, state: State, detail: impl Into<String>) {
        self.checks.push(Check { name, state, detail: detail.into() });
    }

    /// The same in lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.why {
            Some(why) => format!("level: {} ({why})", self.level),
            None => format!("level: {}", self.level),
        }];
        lines.extend(self.advice.iter().map(|advice| format!("  {advice}")));
        lines.push(match self.landlock_abi {
            0 => "landlock: none".to_owned(),
            abi => format!("landlock: ABI {abi}"),
        });
        for check in &self.checks {
            lines.push(format!("{}: {}: {}", check.name, check.state.word(), check.detail));
        }
        lines.extend(self.not_enforced.iter().map(|gap| format!("not enforced: {gap}")));
        lines.extend(self.policy.iter().map(|policy| format!("policy: {policy}")));
        lines
    }

    /// Whether something that was tried got through although the level promises that it does not.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.level != "none" && self.checks.iter().any(|check| check.state == State::NotEnforced)
    }
}

/// Where namespaces are usually lost.
fn advice() -> String {
    let restricted =
        std::fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    if restricted.is_ok_and(|text| text.trim() == "1") {
        return "AppArmor forbids namespaces to programs without a profile: give the agent one with the line 'userns,'"
            .to_owned();
    }
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    if most.is_ok_and(|text| text.trim() == "0") {
        return "user namespaces are switched off: sysctl user.max_user_namespaces".to_owned();
    }
    "in a container, allow the system calls unshare, clone and mount, and leave /proc unmasked"
        .to_owned()
}
