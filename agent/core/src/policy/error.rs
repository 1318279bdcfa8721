//! Why a policy file cannot be used.

use thiserror::Error;

/// Why a policy file cannot be used. The agent then takes no work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not TOML, or with unknown or missing keys.
    #[error("it cannot be read: {0}")]
    Syntax(String),
    /// A version that this program does not know.
    #[error("it has version {0}, this agent reads versions 0 and 1")]
    Version(u32),
    /// An entry of the allow-list of version 0 that is no absolute path of a file.
    #[error("{0:?} in shell.allow is not an absolute path of a program")]
    Program(String),
    /// A value outside of a rule that cannot be.
    #[error("{key}: {why}")]
    Value {
        /// Which key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A rule that cannot be.
    #[error("rule {id:?}: {why}")]
    Rule {
        /// Which rule.
        id: String,
        /// What is wrong with it.
        why: String,
    },
}

impl PolicyError {
    pub(super) fn value(key: &str, why: impl Into<String>) -> Self {
        Self::Value { key: key.to_owned(), why: why.into() }
    }

    pub(super) fn rule(id: &str, why: impl Into<String>) -> Self {
        Self::Rule { id: id.to_owned(), why: why.into() }
    }

    /// A syntax error with its line.
    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let message = error.message().trim().replace('\n', "; ");
        match error.span() {
            Some(span) => {
                let before = &text.as_bytes()[..span.start.min(text.len())];
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                Self::Syntax(format!("line {line}: {message}"))
            }
            None => Self::Syntax(message),
        }
    }
}
