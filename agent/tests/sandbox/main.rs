//! Attacks, run for real against the kernel: each as root and as an ordinary user, each with a control that shows what
//! it does without a sandbox.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends where something else comes than it waits for")]

mod browser;
mod ends;
mod files;
mod kernel;
mod left;
mod levels;
mod network;
mod quotas;
#[path = "../support/sandbox.rs"]
mod support;
mod terminal;
#[path = "../support/web.rs"]
mod web;
mod work;
mod work_attacks;
