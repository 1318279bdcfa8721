//! What a task leaves behind in the directories in which it could write: new repositories. When the last of its processes is
//! gone, one more looks for them, in the armour of the task and with no right to change anything; never the agent, and never the
//! init. What it finds goes to the agent as it is found.

use super::super::message::{Armour, Looked, Report, Spec};
use super::filter::Filters;
use super::init::Place;
use super::server::send;
use super::sys::{self, Forked};
use super::view::path_of;
use super::{At, Failure, capabilities, landlock, limits};
use crate::files::Before;
use cortex_model::limits::REPOSITORY_LOOK_MS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::set_no_new_privs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long it may take in all. It stops by itself before; a broken file system may not let it.
const PATIENCE: Duration = Duration::from_millis(REPOSITORY_LOOK_MS + 2_000);

/// What there was before, if anything is to be looked for.
pub(super) fn before(spec: &Spec) -> Option<Before> {
    let hidden: Vec<&Path> = spec.deny.iter().map(|path| path_of(path)).collect();
    (!spec.look.is_empty()).then(|| Before::now(&roots(spec), path_of(&spec.cwd), &hidden))
}

/// Looks, tells the agent and returns when nothing of it is left. `children` can be read when a child has ended.
///
/// # Errors
/// The agent is gone.
pub(super) fn look(
    spec: &Spec,
    before: &Before,
    place: Place,
    filters: &Filters,
    status: &OwnedFd,
    children: &OwnedFd,
) -> Result<(), Errno> {
    match sys::fork() {
        Ok(Forked::Child) => {
            // A failure is told by silence: the agent says that nobody looked to the end.
            child(spec, before, place, filters, status.as_fd()).ok();
            sys::exit(0)
        }
        Ok(Forked::Parent(child)) => wait(child, status, children),
        Err(_) => Ok(()),
    }
}

fn child(
    spec: &Spec,
    before: &Before,
    place: Place,
    filters: &Filters,
    status: BorrowedFd<'_>,
) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).at("death signal")?;
    let mut spec = spec.clone();
    // It reads where the task wrote.
    let write = std::mem::take(&mut spec.write);
    spec.read.extend(write);
    limits::apply(&spec, place)?;
    let armour = Armour::of(spec.armour);
    if armour != Armour::None {
        set_no_new_privs(true).at("no new privileges")?;
        landlock::restrict(&spec)?;
        capabilities::drop_all()?;
        filters.apply(armour, spec.host_network, true)?;
    }
    let look = before.look(&roots(&spec));
    for found in look.found {
        send(status, &Report { found, ..Report::default() }, &[]).at("report")?;
    }
    let looked = Some(Looked { gaps: look.gaps });
    send(status, &Report { looked, ..Report::default() }, &[]).at("report")
}

fn roots(spec: &Spec) -> Vec<&Path> {
    spec.look.iter().map(|path| path_of(path)).collect()
}

/// Waits for its end, or brings it about. What the agent asks for meanwhile has come true already: everything is gone.
fn wait(child: Pid, status: &OwnedFd, children: &OwnedFd) -> Result<(), Errno> {
    let until = Instant::now() + PATIENCE;
    let mut killed = false;
    loop {
        match sys::reap() {
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(_) => return Ok(()),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            if killed {
                return Ok(());
            }
            kill_process(child, Signal::KILL).ok();
            killed = true;
        }
        let left = if killed { PATIENCE } else { left };
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds =
            [PollFd::new(children, PollFlags::IN), PollFd::new(status, PollFlags::empty())];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if killed => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let (ended, agent) = (fds[0].revents(), fds[1].revents());
        if !ended.is_empty() {
            let mut news = [0; 1024];
            rustix::io::read(children, &mut news).ok();
        }
        if agent.intersects(PollFlags::HUP | PollFlags::ERR) {
            kill_process(child, Signal::KILL).ok();
            return Err(Errno::PIPE);
        }
    }
}
