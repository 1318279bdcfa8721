//! System calls that have no safe wrapper anywhere. Each function is safe to call, checks its result and does one
//! thing; none decides anything.

use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Asks for the process at the other end of a socket; newer than the headers that the C library was made with.
const SO_PEERPIDFD: libc::c_int = 77;

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a clone or fork this is.
pub(super) enum Side {
    /// The new process.
    Child,
    /// The old one, with what it knows of the new.
    Parent(OwnedFd),
}

/// Which side of a fork this is.
pub(super) enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent(Pid),
}

/// Makes a process in the given namespaces, as `fork` does: with a copy of the memory. Only for processes with a
/// single thread.
pub(super) fn clone_into(namespaces: u64) -> io::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let flags = namespaces | libc::CLONE_PIDFD as u64 | libc::SIGCHLD as u64;
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // The older call: container engines answer "not there" to clone3.
    // SAFETY: without CLONE_VM the child works on a copy of all memory; no stack is given, so it continues here on its
    // copy. This process has one thread, so no lock is held by a thread that the child lacks. `pidfd` outlives the
    // call, which writes a descriptor there.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, flags, nothing, &raw mut pidfd, nothing, nothing)
    })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: the kernel has put a new descriptor there that nobody else owns.
    Ok(Side::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Makes a process. Only for processes with a single thread.
pub(super) fn fork() -> io::Result<Forked> {
    // SAFETY: this process has one thread, so the child may do anything.
    let pid = check(i64::from(unsafe { libc::fork() }))?;
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => Ok(Forked::Parent(pid)),
        None => Ok(Forked::Child),
    }
}

/// Ends this process at once, without running anything of the parent's that it carries a copy of.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: it takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Sets attributes (`MOUNT_ATTR_*`) of the mount that `fd` is, and of all below it.
pub(super) fn set_mount_attributes(fd: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    // What to set, what to clear, propagation, user namespace: 0 leaves as it is.
    let set: [u64; 4] = [attributes, 0, 0, 0];
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a C string, `set` outlives the call and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const set,
            size_of_val(&set),
        )
    })
    .map(drop)
}

/// Marks every descriptor from `first` on as closed at the next exec.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: it takes numbers only; closing happens at exec, when nothing of this program is left.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

/// The other end of a terminal that was made may be opened from now on.
pub(super) fn unlock_terminal(fd: BorrowedFd<'_>) -> io::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: this request reads a number, which outlives the call.
    check(i64::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const locked)
    }))
    .map(drop)
}

/// The end of a terminal that a program is led by, whatever stands at its path.
pub(super) fn other_end(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: this request takes a number and gives a new descriptor that nobody else owns.
    unsafe {
        let other = libc::ioctl(fd.as_raw_fd(), libc::TIOCGPTPEER as _, flags);
        check(i64::from(other))?;
        Ok(OwnedFd::from_raw_fd(other))
    }
}

/// The terminal leads this process's session: what is typed to end or suspend something reaches its processes.
pub(super) fn be_led_by(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this request takes a number: 0 takes no terminal away from others.
    check(i64::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) }))
        .map(drop)
}

/// Gives every signal its default meaning and blocks none.
pub(super) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: no handler is installed, only the default. What cannot be changed (KILL, STOP, and the numbers that
        // the C library keeps) is refused and stays as it is.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a zeroed set is valid memory for sigemptyset, which makes it an empty one.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// A file that grows beyond its limit is an error that is told, not the end.
pub(super) fn ignore_too_large() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Writing to whoever is gone is an error from now on, and no reason to die.
pub(super) fn ignore_broken_pipes() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Children vanish by themselves when they end; nobody waits for them.
pub(super) fn leave_children_to_the_kernel() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// A descriptor that can be read when a child has changed its state.
pub(super) fn watch_children() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used, and outlives the calls. The descriptor is new.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(i64::from(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(i64::from(fd))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The process at the other end of a local socket, as it was when it connected: the descriptor means that process for ever, whoever
/// gets its number later. `None`: this kernel does not say (before 6.5).
///
/// # Errors
/// The process is gone.
pub(in crate::sandbox) fn peer_process(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut fd: libc::c_int = -1;
    let mut size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the kernel writes one descriptor's number into `fd`, which is as long as `size` says and outlives the call.
    let done = check(i64::from(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut size,
        )
    }));
    match done {
        // SAFETY: the kernel has put a new descriptor there that nobody else owns.
        Ok(_) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(err) if err.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Sends a signal to every process that this one may signal, in its process namespace, but itself and process 1.
pub(super) fn signal_everybody(signal: i32) {
    // SAFETY: it takes numbers only. It fails when nobody is left.
    unsafe { libc::kill(-1, signal) };
}

/// A child that has ended.
pub(super) struct Ended {
    /// Which.
    pub(super) pid: Pid,
    /// As `wait` tells it.
    pub(super) status: i32,
    /// Processor time of it and what it waited for, microseconds.
    pub(super) cpu_us: u64,
    /// Most memory of it, or of what it waited for, bytes.
    pub(super) memory: u64,
}

/// Takes a child that has ended. `Ok(None)`: none has. An error: there are no children at all.
pub(super) fn reap() -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: zero is a valid value of every field; both outlive the call.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    check(i64::from(pid))?;
    let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
    let us = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
            + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    let memory = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    Ok(Some(Ended { pid, status, cpu_us: us(usage.ru_utime) + us(usage.ru_stime), memory }))
}

/// What this process's control group is becomes the root of all it can see of control groups.
pub(super) fn new_cgroup_namespace() -> io::Result<()> {
    // SAFETY: it takes flags only, and this namespace owns no memory or descriptor.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })).map(drop)
}

/// This process enters a new user namespace. Only for processes with a single thread.
pub(in crate::sandbox) fn new_user_namespace() -> io::Result<()> {
    // SAFETY: it takes flags only, and this namespace owns no memory or descriptor.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) })).map(drop)
}

/// Switches the loopback of this network namespace on.
pub(super) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: zero is a valid value of every field of the request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: this request reads an `ifreq`, which outlives the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(i64::from(result)).map(drop)
}

/// A descriptor whose readiness the runtime watches.
pub(in crate::sandbox) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// The same, for reading and writing.
pub(in crate::sandbox) fn watch_both(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// The version of Landlock that the kernel offers and has switched on; 0 if none.
pub(in crate::sandbox) fn landlock_abi() -> u32 {
    const VERSION: u32 = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel takes no attributes: a null pointer of size 0.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// Gives way to others whenever they want the processor.
pub(super) fn become_a_batch_process() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` outlives the call. A kernel that refuses changes nothing.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}
