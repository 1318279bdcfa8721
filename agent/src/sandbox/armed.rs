//! What this machine can enforce, found out by trying.

use crate::browser;
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::Level;
use std::collections::BTreeMap;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Armed {
    /// The strongest level that works.
    pub level: Level,
    /// Why it is not `full`; empty if it is.
    pub why: String,
    /// Version of Landlock, 0 if there is none.
    pub landlock_abi: u32,
    /// Tasks can have terminals.
    pub terminals: bool,
}

impl Armed {
    /// Nothing can be enforced, and why.
    #[must_use]
    pub fn nothing(why: impl Into<String>) -> Self {
        Self { level: Level::None, why: why.into(), landlock_abi: 0, terminals: false }
    }

    /// Abilities of the machine by name, with their version where they have one; for `sandbox.require` of a policy.
    #[must_use]
    pub fn features(&self) -> BTreeMap<String, u32> {
        let mut features = BTreeMap::new();
        if self.landlock_abi > 0 {
            features.insert("landlock".to_owned(), self.landlock_abi);
        }
        let there: &[&str] = match self.level {
            Level::Full => &["full", "userns", "domains", "loopback", "seccomp", "no_new_privs"],
            Level::Landlock => &["seccomp", "no_new_privs"],
            Level::None => &[],
        };
        if self.terminals {
            features.insert("terminal".to_owned(), 0);
        }
        features.extend(there.iter().map(|name| ((*name).to_owned(), 0)));
        features
    }

    /// What is not enforced for a plan that runs at a level.
    pub(crate) fn gaps_of(&self, level: Level, plan: &ProcessPlan) -> Vec<String> {
        let mut gaps = self.gaps(level);
        if plan.work.as_deref().is_some_and(|work| work.browser().is_some()) {
            gaps.extend(browser::gap().map(str::to_owned));
        }
        gaps
    }

    /// What is not enforced at a level, each a short phrase for people.
    #[must_use]
    pub fn gaps(&self, level: Level) -> Vec<String> {
        let gaps: &[&str] = match level {
            Level::Full if self.landlock_abi == 0 => {
                &["a second layer: the kernel has no Landlock"]
            }
            Level::Full => &[],
            Level::Landlock if self.landlock_abi < 6 => &[
                "metadata of files outside can be read and changed",
                "names and arguments of other processes can be read",
                "other processes of the same user can be sent signals",
                "abstract sockets of the machine can be reached",
            ],
            Level::Landlock => &[
                "metadata of files outside can be read and changed",
                "names and arguments of other processes can be read",
            ],
            Level::None => &["files", "network", "system calls", "other processes"],
        };
        gaps.iter().map(|gap| (*gap).to_owned()).collect()
    }
}
