//! What a decision consists of, apart from how it is made.

use crate::plan::{ExecPlan, ProcessPlan};
use cortex_model::Fault;
use std::collections::BTreeSet;

/// Whether it may run. Ordered: of several answers the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It may.
    Allow,
    /// Only if the owner agrees.
    Ask,
    /// It may not.
    Deny,
}

impl Effect {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// What strict mode looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Removes or overwrites something.
    Destructive,
    /// Acts with more rights than the agent has.
    Privilege,
    /// Is seen outside of this machine.
    Outward,
    /// Cannot be seen through.
    Opaque,
}

impl Class {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Destructive => "destructive",
            Self::Privilege => "privilege",
            Self::Outward => "outward",
            Self::Opaque => "opaque",
        }
    }
}

/// A set of classes, in a fixed order.
pub type ClassSet = BTreeSet<Class>;

/// What an answer of the owner is bound to: everything that was shown and everything that decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        cortex_audit::leaf::hex(&self.0)
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({})", self.hex())
    }
}

/// The answer of [`super::decide`], with its reasons.
#[derive(Debug)]
pub struct Decision {
    /// Allow, ask or deny.
    pub effect: Effect,
    /// What strict mode sees in it.
    pub classes: ClassSet,
    /// The rule that decided; empty when nothing matched.
    pub rule: String,
    /// The steps that led here, for people.
    pub trail: Vec<String>,
    /// Why not, or why somebody must be asked first.
    pub fault: Option<Fault>,
    /// What may be started, when allowed.
    pub plan: Option<ExecPlan>,
    /// What would be started, when somebody must be asked first. It can be shown and not started.
    pub proposal: Option<Box<Proposal>>,
    /// What an answer is bound to. All zero when nothing can be asked.
    pub fingerprint: Fingerprint,
}

/// What the owner is asked about.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The whole process as it would be started.
    pub process: ProcessPlan,
    /// The script as it came, when there is one.
    pub script: Option<String>,
    /// Why the owner is asked.
    pub why: Vec<String>,
    /// Whether the answer may be remembered for longer than this question.
    pub rememberable: bool,
}
