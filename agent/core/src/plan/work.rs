//! What the agent's own code does inside a sandbox in place of a program that is executed: operations on files, and driving a
//! browser. Everything in it was decided.

use crate::policy::Secret;
use cortex_model::{BrowserAction, FileAction, OriginPattern};
use std::path::PathBuf;

/// Either of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Something is done with files.
    File(FileWork),
    /// A page is opened.
    Browser(Box<BrowserWork>),
}

/// An operation on files as it was decided: every path resolved, each with the place that the policy opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWork {
    /// The operation. Its paths are absolute, and no part of them was a link when they were looked at.
    pub action: FileAction,
    /// The place of the policy that the path lies in; the path is followed from there and never leaves it.
    pub place: PathBuf,
    /// The same for the second path of a move.
    pub to_place: Option<PathBuf>,
}

/// A page as it was decided. The browser itself is the program of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserWork {
    /// What is done, and what is wanted.
    pub action: BrowserAction,
    /// Where documents may come from, whoever asks for them: the task, a page, or a redirection.
    pub origins: Vec<OriginPattern>,
    /// Values of secrets, by the number of the step that fills them in.
    pub secrets: Vec<(usize, Secret)>,
}

impl Work {
    /// The operation on files, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&FileWork> {
        match self {
            Self::File(work) => Some(work),
            Self::Browser(_) => None,
        }
    }

    /// The page, if it is one.
    #[must_use]
    pub fn browser(&self) -> Option<&BrowserWork> {
        match self {
            Self::Browser(work) => Some(work),
            Self::File(_) => None,
        }
    }

    /// What kind of thing it is, as the journal calls it: `file.read`, `browser.text`, ...
    #[must_use]
    pub fn op(&self) -> String {
        match self {
            Self::File(work) => format!("file.{}", work.action.name()),
            Self::Browser(work) => format!("browser.{}", work.action.name()),
        }
    }
}
