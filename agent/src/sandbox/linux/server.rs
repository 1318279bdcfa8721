//! The launcher's loop: takes an order, makes an init in the namespaces that the order names, hands its process
//! descriptor to the agent. It reads no spec and outlives every failure of an init.

use super::super::message::{DOORS_MAX, Failed, ORDER_FDS, Report};
use super::filter::Filters;
use super::init::{Place, init};
use super::sys::{self, Side};
use prost::Message;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getegid, geteuid, set_child_subreaper,
    set_dumpable_behavior, set_parent_process_death_signal, setrlimit,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

/// Runs the launcher. Standard input is the socket on which orders come; it ends when the agent is gone.
#[must_use]
pub(in super::super) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the launcher cannot work: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn std::error::Error>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // What an init leaves behind that was killed comes to the agent's own reaper, not to the machine's.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::process::setsid().ok();
    sys::leave_children_to_the_kernel();
    sys::close_on_exec_from(3)?;
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    let filters = Filters::build()?;
    // In its new user namespace a process is nobody until somebody is mapped.
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    loop {
        let Some(Order { namespaces, fds, doors }) = order(control.as_fd())? else { return Ok(()) };
        match sys::clone_into(namespaces) {
            Ok(Side::Child) => {
                drop(control);
                // Nothing of the launcher may run in this process, whatever happens in it.
                let filters = &filters;
                let place = Place { in_namespaces: namespaces != 0, uid, gid };
                drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                    init(fds, doors, place, filters);
                })));
                sys::exit(70)
            }
            Ok(Side::Parent(pidfd)) => {
                let report = Report { forked: true, ..Report::default() };
                send(fds[1].as_fd(), &report, &[pidfd.as_fd()]).ok();
            }
            Err(error) => {
                let stage = if namespaces == 0 { "fork" } else { "namespaces" }.to_owned();
                let errno = error.raw_os_error().unwrap_or(0);
                let failed = Failed { stage, error: error.to_string(), errno };
                let report = Report { failed: Some(failed), ..Report::default() };
                send(fds[1].as_fd(), &report, &[]).ok();
            }
        }
    }
}

/// What the agent wants.
struct Order {
    /// Namespaces to make.
    namespaces: u64,
    fds: [OwnedFd; ORDER_FDS],
    /// Doors of control groups.
    doors: Vec<OwnedFd>,
}

/// The next order. `None` when the agent is gone.
fn order(control: BorrowedFd<'_>) -> Result<Option<Order>, Errno> {
    loop {
        let mut bytes = [0; 8];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ORDER_FDS + DOORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let got = match recvmsg(control, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        if got.bytes == 0 {
            return Ok(None);
        }
        let mut fds = Vec::with_capacity(ORDER_FDS + DOORS_MAX);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        // An order that is not complete can only come from a defect: whoever waits for its report sees the socket close.
        let doors = fds.split_off(fds.len().min(ORDER_FDS));
        if let (8, Ok(fds)) = (got.bytes, fds.try_into()) {
            let namespaces = u64::from_le_bytes(bytes);
            return Ok(Some(Order { namespaces, fds, doors }));
        }
    }
}

/// Sends a report with descriptors.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    report: &Report,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = report.encode_to_vec();
    let mut space = [MaybeUninit::uninit();
        rustix::cmsg_space!(ScmRights(super::super::message::REPORT_FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}
