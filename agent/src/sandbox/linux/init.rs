//! The first process of a task: puts the namespaces in order, starts the program and stays as its reaper. Inside a
//! process namespace it is process 1, so nothing in there outlives it.

use super::super::message::{Armour, ORDER_FDS, Report, Spec};
use super::filter::Filters;
use super::server::send;
use super::supervise::{Watch, supervise};
use super::sys::{self, Forked};
use super::{At, Failure, capabilities, command, limits, look, terminal, view};
use crate::files::Before;
use prost::Message;
use rustix::fs::fstat;
use rustix::process::{
    DumpableBehavior, Pid, Signal, getpid, set_child_subreaper, set_dumpable_behavior,
    set_parent_process_death_signal, setsid,
};
use rustix::thread::set_no_new_privs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;

/// Where an init finds itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// In namespaces of its own, as process 1.
    pub(super) in_namespaces: bool,
    /// The user outside, and inside.
    pub(super) uid: u32,
    /// The group outside, and inside.
    pub(super) gid: u32,
}

/// The program's three streams.
pub(super) struct Streams {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// What is left of the set-up.
struct Started {
    spec: Spec,
    main: Pid,
    children: OwnedFd,
    terminal: Option<OwnedFd>,
    before: Option<Before>,
}

/// Lives the life of an init and ends the process with it.
pub(super) fn init(
    fds: [OwnedFd; ORDER_FDS],
    doors: Vec<OwnedFd>,
    place: Place,
    filters: &Filters,
) {
    let [spec, status, stdin, stdout, stderr] = fds;
    let streams = Streams { stdin, stdout, stderr };
    let started =
        limits::enter(doors).and_then(|()| start(&spec, &status, streams, place, filters));
    match started {
        Ok(Started { spec, main, children, terminal, before }) => {
            // Whoever listened may be gone; then this ends as well.
            let watch = Watch { status, children, main, spec, place, terminal, before, filters };
            supervise(watch).ok();
        }
        Err(failure) => {
            let report = Report { failed: Some(failure.into()), ..Report::default() };
            send(status.as_fd(), &report, &[]).ok();
        }
    }
    sys::exit(0)
}

fn start(
    spec: &OwnedFd,
    status: &OwnedFd,
    streams: Streams,
    place: Place,
    filters: &Filters,
) -> Result<Started, Failure> {
    setsid().at("session")?;
    if place.in_namespaces {
        // Without namespaces it must outlive the launcher by a moment, to end what it has started.
        set_parent_process_death_signal(Some(Signal::KILL)).at("death signal")?;
    }
    let spec = read(spec)?;
    if !spec.tmp.is_empty() {
        let tmp = view::path_of(&spec.tmp);
        std::fs::DirBuilder::new().mode(0o700).create(tmp).at_path("temporary directory", tmp)?;
    }
    if place.in_namespaces {
        map_ids(place)?;
        sys::new_cgroup_namespace().at("cgroup namespace")?;
        if !spec.host_network {
            network(&spec, status.as_fd())?;
        }
        for made in view::enter(&spec)? {
            let report = Report { made, ..Report::default() };
            send(status.as_fd(), &report, &[]).at("report")?;
        }
    } else {
        // What leaves its parent stays below this process.
        set_child_subreaper(Some(getpid())).at("subreaper")?;
    }
    let size = spec.terminal;
    let terminal = size.map(|size| terminal::open(size, status.as_fd())).transpose()?;
    let children = sys::watch_children().at("signals")?;
    let before = look::before(&spec);
    let main = match sys::fork().at("fork")? {
        Forked::Child => {
            let own = command::Own { streams, terminal };
            command::run(&spec, own, status.as_fd(), place, filters)
        }
        Forked::Parent(main) => main,
    };
    drop(streams);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("dumpable")?;
    let armour = Armour::of(spec.armour);
    if armour != Armour::None {
        set_no_new_privs(true).at("no new privileges")?;
        capabilities::drop_all()?;
    }
    Ok(Started { spec, main, children, terminal, before })
}

/// The spec is a whole file: it was complete before the order was sent.
fn read(file: &OwnedFd) -> Result<Spec, Failure> {
    const STAGE: &str = "spec";
    let size = fstat(file).at(STAGE)?.st_size;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = rustix::io::pread(file, &mut bytes[filled..], filled as u64).at(STAGE)?;
        if read == 0 {
            return Err(Failure::new(STAGE, "it is shorter than it says"));
        }
        filled += read;
    }
    Spec::decode(bytes.as_slice()).map_err(|err| Failure::new(STAGE, err.to_string()))
}

/// Inside, the user and group are the same numbers as outside, and there are no others.
fn map_ids(place: Place) -> Result<(), Failure> {
    const STAGE: &str = "user namespace";
    let Place { uid, gid, .. } = place;
    // The files below belong to root while a process hides its memory.
    set_dumpable_behavior(DumpableBehavior::Dumpable).at(STAGE)?;
    let write = |file: &str, text: &str| std::fs::write(file, text).at(STAGE);
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(STAGE)
}

/// Switches the loopback on and gives the agent the sockets on which it will serve this namespace.
fn network(spec: &Spec, status: BorrowedFd<'_>) -> Result<(), Failure> {
    const STAGE: &str = "network";
    sys::loopback_up().at(STAGE)?;
    if spec.listen.is_empty() {
        return Ok(());
    }
    let mut sockets = Vec::new();
    for port in &spec.listen {
        let port = u16::try_from(*port).map_err(|_| Failure::new(STAGE, "no such port"))?;
        sockets.push(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).at(STAGE)?);
    }
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let report = Report { listening: true, ..Report::default() };
    send(status, &report, &fds).at(STAGE)
}
