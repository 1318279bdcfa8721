//! A page in a browser, opened by a driver inside the task's own sandbox: the browser is its child, its messages are read there
//! and nowhere else. The driver speaks through a pipe, so there is no port that a page could find. It gives a page nothing
//! but time: what a page can reach is decided by the sandbox and the agent's proxy.

#[cfg(target_os = "linux")]
mod chromium;
#[cfg(target_os = "linux")]
mod driver;
#[cfg(target_os = "linux")]
mod element;
#[cfg(target_os = "linux")]
mod events;
#[cfg(target_os = "linux")]
mod keys;
#[cfg(target_os = "linux")]
mod pipe;
#[cfg(target_os = "linux")]
mod protocol;
mod report;
#[cfg(target_os = "linux")]
mod result;
#[cfg(target_os = "linux")]
mod steps;

#[cfg(target_os = "linux")]
pub(crate) use driver::run;
pub use report::{Broken, Dialog, Page, Refused, Told};

use cortex_model::{Code, proto as pb};
use prost::Message;

/// Whether the browser makes a sandbox of its own inside of the task's.
pub(crate) fn own_sandbox() -> bool {
    false
}

/// What is not enforced for a page, if anything.
pub(crate) fn gap() -> Option<&'static str> {
    const GAP: &str = "sites of one page apart from each other: the browser's own sandbox is off, only that of the task holds";
    (!own_sandbox()).then_some(GAP)
}

/// What a driver is told. Agent and driver are the same program, so nothing here is read by another version.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Order {
    /// What is done, and what is wanted.
    #[prost(message, optional, tag = "1")]
    pub(crate) action: Option<pb::BrowserAction>,
    /// Where documents may come from.
    #[prost(string, repeated, tag = "2")]
    pub(crate) origins: Vec<String>,
    /// Values of secrets.
    #[prost(message, repeated, tag = "3")]
    pub(crate) secrets: Vec<Value>,
    /// The way out leads through the agent's proxy, for whoever shows this token. Empty: there is none.
    #[prost(string, tag = "4")]
    pub(crate) token: String,
    /// The browser makes a sandbox of its own inside of this one.
    #[prost(bool, tag = "5")]
    pub(crate) own_sandbox: bool,
}

/// The value that a step fills in.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    /// Number of the step, from 0.
    #[prost(uint64, tag = "1")]
    pub(crate) step: u64,
    /// The value.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// Exit code of a driver for what went wrong. docs/browser.md has the table.
#[must_use]
pub fn exit_code(code: Code) -> u8 {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other code is a defect")]
    match code {
        Code::UrlRefused => 10,
        Code::PageFailed => 11,
        Code::StepFailed => 12,
        Code::BrowserDied => 13,
        Code::SensitiveField => 14,
        Code::DownloadFailed => 15,
        Code::ResultTooLarge => 16,
        _ => 1,
    }
}
