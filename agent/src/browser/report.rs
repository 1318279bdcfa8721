//! What a driver tells of a page: one line of JSON with stable fields, read by clients. Texts come from the page, so whoever shows
//! them makes them safe first.

use crate::files::Failed;
use serde::{Deserialize, Serialize};

/// A dialog that a page opened; it was dismissed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    /// `alert`, `confirm`, `prompt`, `beforeunload`, or `file` for a choice of files.
    pub kind: String,
    /// Its beginning.
    pub message: String,
}

/// An address that was not opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its beginning.
    pub url: String,
    /// Why.
    pub why: String,
}

/// What came of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Page {
    /// `text`, `html`, ...
    pub op: String,
    /// Where it ended.
    pub url: String,
    /// Its title.
    pub title: String,
    /// The server's answer to the last document, 0 where it is not known.
    pub status: u32,
    /// Bytes of the result.
    pub bytes: u64,
    /// What the server calls the file that was downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The page is larger than its picture, or has more links than are told.
    pub cut: bool,
    /// Dialogs, the first of them.
    pub dialogs: Vec<Dialog>,
    /// How many there were.
    pub dialog_count: u32,
    /// Addresses that pages wanted and did not get, the first of them.
    pub refused: Vec<Refused>,
    /// How many there were.
    pub refused_count: u32,
    /// Errors on the console, and those that nobody caught.
    pub console_errors: u32,
    /// Name and version of the browser.
    pub browser: String,
    /// The browser's own sandbox holds inside of the task's.
    pub own_sandbox: bool,
}

/// Why a page was not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// What went wrong.
    #[serde(flatten)]
    pub failed: Failed,
    /// Number of the step, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// What was seen until then.
    pub page: Page,
}

/// The last line of standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    /// It was done.
    Done(Box<Page>),
    /// It was not.
    Error(Box<Broken>),
}
