//! First policies. Texts for owners: every line says what it does.

use clap::ValueEnum;

/// What `cortex up` begins with.
pub const STARTER: &str = include_str!("profiles/starter.toml");

/// Kinds of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// A person's own machine: builds and edits in a few directories, asks before it destroys.
    Laptop,
    /// A machine nobody sits at: nobody is asked, what would need a question is denied.
    Ci,
    /// Only looks.
    Readonly,
}

impl Profile {
    /// The policy's text, with the directories in which tasks work.
    #[must_use]
    pub fn text(self, roots: &[String]) -> String {
        let template = match self {
            Self::Laptop => include_str!("profiles/laptop.toml"),
            Self::Ci => include_str!("profiles/ci.toml"),
            Self::Readonly => include_str!("profiles/readonly.toml"),
        };
        let roots: Vec<String> = roots.iter().map(|root| format!("{root:?}")).collect();
        template.replace("\"@ROOTS@\"", &roots.join(", "))
    }
}
