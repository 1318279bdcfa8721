//! The last steps before the program: everything that is put on here stays on for it and all that it starts.

use super::super::message::{Armour, Report, Spec};
use super::filter::Filters;
use super::init::{Place, Streams};
use super::server::send;
use super::view::path_of;
use super::{At, Failure, capabilities, landlock, limits, sys};
use crate::{browser, files};
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal, setsid,
};
use rustix::thread::set_no_new_privs;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Exit code of a process that never became the program; the report says why.
const NEVER_RAN: i32 = 127;

/// What the program is given of descriptors.
pub(super) struct Own {
    pub(super) streams: Streams,
    /// In place of all three.
    pub(super) terminal: Option<OwnedFd>,
}

/// Becomes the program, or does what is to be done with files, or says why not.
pub(super) fn run(
    spec: &Spec,
    own: Own,
    status: BorrowedFd<'_>,
    place: Place,
    filters: &Filters,
) -> ! {
    let failure = become_program(spec, own, place, filters);
    let report = Report { failed: Some(failure.into()), ..Report::default() };
    send(status, &report, &[]).ok();
    sys::exit(NEVER_RAN)
}

fn become_program(spec: &Spec, own: Own, place: Place, filters: &Filters) -> Failure {
    let Own { mut streams, terminal } = own;
    match prepare(spec, terminal.as_ref(), place, filters) {
        Ok(()) => {}
        Err(failure) => return failure,
    }
    if let Some(order) = &spec.work {
        // Our own code in the armour of a task: there is nothing to execute, and nothing else to give away.
        sys::ignore_too_large();
        drop(streams.stdin);
        sys::exit(files::run(order, streams.stdout.into(), streams.stderr.into()));
    }
    if let Some(order) = &spec.browser {
        // Likewise; the program is started by it, as its child and in the same armour.
        sys::ignore_too_large();
        sys::ignore_broken_pipes();
        drop(streams.stdin);
        let (program, tmp, env) = (path_of(&spec.program), path_of(&spec.tmp), variables(spec));
        let (stdout, stderr) = (streams.stdout.into(), streams.stderr.into());
        sys::exit(browser::run(order, program, tmp, &env, stdout, stderr));
    }
    if let Some(terminal) = terminal {
        match three(terminal) {
            Ok(three) => streams = three,
            Err(failure) => return failure,
        }
    }
    let mut command = Command::new(text(&spec.program));
    if let Some((name, arguments)) = spec.argv.split_first() {
        command.arg0(text(name)).args(arguments.iter().map(|argument| text(argument)));
    }
    command.env_clear().envs(variables(spec));
    command.stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr);
    let error = command.exec();
    Failure { stage: "exec", what: error.to_string(), errno: error.raw_os_error().unwrap_or(0) }
}

fn text(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// The whole environment.
fn variables(spec: &Spec) -> Vec<(OsString, OsString)> {
    let entries = spec.env.iter().filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        Some((text(&entry[..at]), text(&entry[at + 1..])))
    });
    entries.collect()
}

fn three(terminal: OwnedFd) -> Result<Streams, Failure> {
    const STAGE: &str = "terminal";
    let (stdin, stdout) = (terminal.try_clone().at(STAGE)?, terminal.try_clone().at(STAGE)?);
    Ok(Streams { stdin, stdout, stderr: terminal })
}

fn prepare(
    spec: &Spec,
    terminal: Option<&OwnedFd>,
    place: Place,
    filters: &Filters,
) -> Result<(), Failure> {
    sys::reset_signals();
    // A session leader would keep its terminal, silently; this process leads nothing yet.
    setsid().at("session")?;
    if let Some(terminal) = terminal {
        sys::be_led_by(terminal.as_fd()).at("terminal")?;
    }
    if !place.in_namespaces {
        set_parent_process_death_signal(Some(Signal::KILL)).at("death signal")?;
    }
    let cwd = path_of(&spec.cwd);
    std::env::set_current_dir(cwd).at_path("working directory", cwd)?;
    limits::apply(spec, place)?;
    for file in &spec.files {
        let path = path_of(&file.path);
        let found = std::fs::metadata(path).at_path("program", path)?;
        if (found.dev(), found.ino()) != (file.dev, file.ino) {
            let what = format!("{} is not the file that was looked at", path.display());
            return Err(Failure::new("program", what));
        }
    }
    sys::close_on_exec_from(3).at("descriptors")?;
    let armour = Armour::of(spec.armour);
    if armour != Armour::None {
        set_no_new_privs(true).at("no new privileges")?;
        landlock::restrict(spec)?;
        capabilities::drop_all()?;
        filters.apply(armour, spec.host_network, spec.work.is_some())?;
    }
    // What is executed may be looked at by its own kind again, as any program.
    set_dumpable_behavior(DumpableBehavior::Dumpable).ok();
    Ok(())
}
