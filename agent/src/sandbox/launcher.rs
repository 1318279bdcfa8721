//! The agent's side of the launcher: starts it, gives it orders, listens to the init of each task.

use super::linux::sys::watch;
use super::message::{Ask, DOORS_MAX, ORDER_FDS, REPORT_FDS_MAX, REPORT_MAX, Report, Spec};
use prost::Message;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

/// The namespaces of a task at level `full`; the network's comes on top where the machine's is not used. The control
/// group's is made later, when the task has joined its group.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// The launcher process.
#[derive(Debug)]
pub(super) struct Launcher {
    program: Vec<OsString>,
    alive: Mutex<Option<Alive>>,
}

#[derive(Debug)]
struct Alive {
    control: OwnedFd,
    /// Ends when `control` closes.
    child: Child,
}

impl Launcher {
    /// Starts it. `program` is this program with the arguments that lead to [`super::main`].
    ///
    /// Call it from a thread that lives as long as tasks shall: the launcher dies with the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(program: &[OsString]) -> io::Result<Self> {
        let alive = start(program)?;
        Ok(Self { program: program.to_vec(), alive: Mutex::new(Some(alive)) })
    }

    /// Its process, if it lives.
    pub(super) fn pid(&self) -> Option<u32> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.as_ref().map(|alive| alive.child.id())
    }

    /// Starts a process as the spec says.
    ///
    /// # Errors
    /// The launcher does not work, or the agent has no descriptors left.
    pub(super) fn launch(
        &self,
        spec: &Spec,
        full: bool,
        feed: bool,
        doors: Vec<OwnedFd>,
    ) -> io::Result<Running> {
        let (to_stdin, stdin) = if feed {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            (Some(pipe::Sender::from_owned_fd(ours)?), theirs)
        } else {
            (None, OwnedFd::from(std::fs::File::open("/dev/null")?))
        };
        let (from_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC)?);
        file.write_all(&spec.encode_to_vec())?;
        let file = OwnedFd::from(file);
        let (ours, theirs) = pair()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let namespaces = match (full, spec.host_network) {
            (false, _) => 0,
            (true, true) => NAMESPACES,
            (true, false) => NAMESPACES | libc::CLONE_NEWNET,
        };
        let fds = [&file, &theirs, &stdin, &stdout, &stderr].into_iter().chain(&doors);
        let fds: Vec<_> = fds.map(AsFd::as_fd).collect();
        self.order(u64::try_from(namespaces).unwrap_or(0), &fds)?;
        Ok(Running {
            status: watch(ours)?,
            pidfd: None,
            stdin: to_stdin,
            stdout: Some(pipe::Receiver::from_owned_fd(from_stdout)?),
            stderr: Some(pipe::Receiver::from_owned_fd(from_stderr)?),
        })
    }

    /// Sends an order. A launcher that has died is replaced: what it had started died with it, and says so itself.
    fn order(&self, namespaces: u64, fds: &[rustix::fd::BorrowedFd<'_>]) -> io::Result<()> {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            let now = match alive.as_mut() {
                Some(now) => now,
                None => alive.insert(start(&self.program)?),
            };
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ORDER_FDS + DOORS_MAX))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(Errno::TOOBIG.into());
            }
            let bytes = namespaces.to_le_bytes();
            match sendmsg(
                &now.control,
                &[IoSlice::new(&bytes)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            ) {
                Ok(_) => return Ok(()),
                Err(error @ (Errno::PIPE | Errno::CONNRESET)) => {
                    tracing::error!(%error, "the launcher is gone; starting another");
                    if let Some(mut gone) = alive.take() {
                        gone.child.wait().ok();
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("the launcher does not stay alive"))
    }
}

fn start(program: &[OsString]) -> io::Result<Alive> {
    let (first, rest) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (control, theirs) = pair()?;
    let child = Command::new(first)
        .args(rest)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Alive { control, child })
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// What an init says.
#[derive(Debug)]
pub(super) enum News {
    /// A report, with the descriptors that came with it.
    Report(Box<Report>, Vec<OwnedFd>),
    /// The init is gone.
    Closed,
}

/// A task's init, seen from the agent.
#[derive(Debug)]
pub(super) struct Running {
    status: AsyncFd<OwnedFd>,
    pidfd: Option<AsyncFd<OwnedFd>>,
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
}

impl Running {
    /// The next thing it says. May be dropped and asked again.
    pub(super) async fn news(&mut self) -> News {
        loop {
            let got = self.status.async_io(Interest::READABLE, receive).await;
            match got {
                Ok(Some((report, mut fds))) if report.forked => {
                    let init = fds.pop();
                    self.pidfd = init.and_then(|fd| watch(fd).ok());
                }
                Ok(Some((report, fds))) => return News::Report(Box::new(report), fds),
                Ok(None) | Err(_) => return News::Closed,
            }
        }
    }

    /// Asks for something. An init that is gone needs no asking.
    pub(super) fn ask(&self, ask: Ask) {
        send(self.status.get_ref(), &[ask.byte()], SendFlags::NOSIGNAL).ok();
    }

    /// Ends the init, and with it all processes of its namespace.
    pub(super) fn kill_init(&self) {
        if let Some(init) = &self.pidfd {
            pidfd_send_signal(init.get_ref(), Signal::KILL).ok();
        }
    }

    /// Resolves when the init is gone: for process 1 of a namespace, when every process in it is.
    pub(super) async fn init_gone(&self) {
        match &self.pidfd {
            Some(init) => drop(init.readable().await),
            None => std::future::pending().await,
        }
    }
}

type Received = Option<(Report, Vec<OwnedFd>)>;

fn receive(socket: &OwnedFd) -> io::Result<Received> {
    let mut bytes = [0; REPORT_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REPORT_FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = match recvmsg(socket, &mut buffers, &mut ancillary, flags) {
        // An init that ends with something unread says so first; its last words come after that.
        Err(Errno::CONNRESET) => recvmsg(socket, &mut buffers, &mut ancillary, flags)?,
        got => got?,
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let report = Report::decode(&bytes[..got.bytes]).map_err(io::Error::other)?;
    Ok(Some((report, fds)))
}
