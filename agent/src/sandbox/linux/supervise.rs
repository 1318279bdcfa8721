//! Watches over a task until the last of its processes is gone: reaps, obeys the agent, holds limits. It reports an
//! end only when the kernel has said that no process is left, and then has somebody look at what was left behind.

use super::super::message::{Ask, Exited, Gone, Report, Spec, Used};
use super::filter::Filters;
use super::init::Place;
use super::look;
use super::meter::{Act, Meter};
use super::server::send;
use super::{sys, tree};
use crate::files::Before;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, Signal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often what must end is ended again: a process may be born while the others die.
const AGAIN: Duration = Duration::from_millis(2);
/// How long it may take until what was killed is gone; what waits for a broken disk cannot be ended by anybody.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an init watches.
pub(super) struct Watch<'a> {
    pub(super) status: OwnedFd,
    pub(super) children: OwnedFd,
    pub(super) main: Pid,
    pub(super) spec: Spec,
    pub(super) place: Place,
    /// Kept open: to the agent the end of a terminal is the end of its task.
    pub(super) terminal: Option<OwnedFd>,
    /// What there was of repositories, if new ones are looked for.
    pub(super) before: Option<Before>,
    pub(super) filters: &'a Filters,
}

struct Life<'a> {
    watch: Watch<'a>,
    meter: Meter,
    main: Option<i32>,
    told: bool,
    /// Since when everything is being killed.
    killing: Option<Instant>,
    paused: bool,
}

/// Watches until nothing is left.
pub(super) fn supervise(watch: Watch<'_>) -> Result<(), Errno> {
    let meter = Meter::new(&watch.spec, Instant::now());
    let mut life = Life { watch, meter, main: None, told: false, killing: None, paused: false };
    loop {
        if life.reap() {
            return life.over(0);
        }
        if life.main.is_some() && !life.told {
            life.tell_exit(true)?;
        }
        if let Some(since) = life.killing {
            if since.elapsed() > PATIENCE {
                let left = u32::try_from(life.tree().len()).unwrap_or(u32::MAX);
                return life.over(left);
            }
            life.kill();
        } else {
            life.hold();
        }
        life.wait()?;
    }
}

impl Life<'_> {
    /// Takes every child that has ended. True when there is none left at all.
    fn reap(&mut self) -> bool {
        loop {
            match sys::reap() {
                Ok(Some(ended)) => {
                    let pid = ended.pid.as_raw_nonzero().get();
                    self.meter.ended(pid, ended.cpu_us, ended.memory);
                    if ended.pid == self.watch.main {
                        self.main = Some(ended.status);
                    }
                }
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    fn used(&self) -> Used {
        self.meter.used
    }

    fn tell_exit(&mut self, others: bool) -> Result<(), Errno> {
        self.told = true;
        let status = self.main.unwrap_or(0);
        let exited = Exited { status, others, used: self.used() };
        send(self.watch.status.as_fd(), &Report { exited: Some(exited), ..Report::default() }, &[])
    }

    /// The last words.
    fn over(&mut self, survivors: u32) -> Result<(), Errno> {
        if survivors == 0 {
            self.look()?;
        }
        let plain = !self.told && survivors == 0;
        if plain {
            return self.tell_exit(false);
        }
        let gone = Gone { survivors, used: self.used() };
        send(self.watch.status.as_fd(), &Report { gone: Some(gone), ..Report::default() }, &[])
    }

    /// Nothing of the task is left; what did it leave behind? How it ended is told before: it does not depend on that.
    fn look(&mut self) -> Result<(), Errno> {
        let Some(before) = self.watch.before.take() else { return Ok(()) };
        if !self.told {
            self.tell_exit(true)?;
        }
        drop(self.watch.terminal.take());
        let Watch { spec, place, filters, status, children, .. } = &self.watch;
        look::look(spec, &before, *place, filters, status, children)
    }

    fn tree(&self) -> std::collections::BTreeMap<i32, tree::Seen> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        tree::processes((!self.watch.place.in_namespaces).then_some(own))
    }

    fn signal(&self, signal: Signal) {
        if self.watch.place.in_namespaces {
            sys::signal_everybody(signal.as_raw());
        } else {
            tree::signal(&self.tree(), signal);
        }
    }

    fn kill(&mut self) {
        self.killing.get_or_insert_with(Instant::now);
        self.signal(Signal::KILL);
    }

    /// Holds the limits that nobody else does.
    fn hold(&mut self) {
        let now = Instant::now();
        if self.paused || !self.meter.wakes_in(now).is_some_and(|wait| wait.is_zero()) {
            return;
        }
        let tree = self.tree();
        match self.meter.look(&tree, now) {
            Act::Nothing => {}
            Act::Stop => self.signal(Signal::STOP),
            Act::Continue => self.signal(Signal::CONT),
            Act::End(_) => self.kill(),
        }
    }

    fn wait(&mut self) -> Result<(), Errno> {
        let timeout = match self.killing {
            Some(_) => Some(AGAIN),
            None if self.paused => None,
            None => self.meter.wakes_in(Instant::now()),
        };
        let timeout = timeout.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        let mut fds = [
            PollFd::new(&self.watch.children, PollFlags::IN),
            PollFd::new(&self.watch.status, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let (children, asked) = (fds[0].revents(), fds[1].revents());
        if !children.is_empty() {
            let mut news = [0; 1024];
            rustix::io::read(&self.watch.children, &mut news).ok();
        }
        if !asked.is_empty() {
            self.obey()?;
        }
        Ok(())
    }

    /// The agent's word. Without an agent there is no task.
    fn obey(&mut self) -> Result<(), Errno> {
        let mut word = [0; 1];
        let (got, _) = match recv(self.watch.status.as_fd(), &mut word, RecvFlags::DONTWAIT) {
            Ok(got) => got,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => (0, 0),
        };
        if got == 0 {
            self.kill();
            return Ok(());
        }
        match Ask::of(word[0]) {
            Some(Ask::Terminate) => {
                self.paused = false;
                if self.watch.terminal.is_some() {
                    // To those who sit at a terminal: they often ignore the other.
                    self.signal(Signal::HUP);
                }
                self.signal(Signal::TERM);
                // What stands still hears nothing until it goes on.
                self.signal(Signal::CONT);
            }
            Some(Ask::Kill) => self.kill(),
            Some(Ask::Pause) => {
                self.paused = true;
                self.signal(Signal::STOP);
            }
            Some(Ask::Resume) => {
                self.paused = false;
                self.signal(Signal::CONT);
            }
            None => {}
        }
        Ok(())
    }
}
