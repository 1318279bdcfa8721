//! A person at a terminal: a real pair, `cortex` led by its other end, keys and a screen.

use crate::support::run::{binary, command};
use crate::support::{Server, processes, wait};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// See the module.
pub(super) struct Seat {
    child: Child,
    ours: Arc<OwnedFd>,
    /// Also held here, so that the screen does not go dark with the program.
    theirs: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Nobody reads the screen.
    blind: Arc<AtomicBool>,
    before: Termios,
}

impl Seat {
    /// Sits down and types a command of `cortex`.
    #[track_caller]
    pub(super) fn at(server: &Server, words: &[&str]) -> Seat {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
        resize(&ours, 30, 90);
        let before = tcgetattr(&theirs).unwrap();
        let end = || Stdio::from(theirs.try_clone().unwrap());
        // It leads a session of its own, led by this terminal: keys and sizes reach it as they reach a shell's programs.
        let mut leader = Command::new("setsid");
        leader.arg("--ctty").arg(binary()).args(words).env("TERM", "xterm");
        for (name, value) in command(server.data()).get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        let child = leader.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let (screen, blind) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let ours = Arc::new(ours);
        let (fd, seen, closed) = (ours.clone(), screen.clone(), blind.clone());
        std::thread::spawn(move || watch(&fd, &seen, &closed));
        Seat { child, ours, theirs, screen, blind, before }
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Presses keys.
    pub(super) fn keys(&self, keys: &[u8]) {
        let mut rest = keys;
        while !rest.is_empty() {
            let written = rustix::io::write(&*self.ours, rest).unwrap();
            rest = &rest[written..];
        }
    }

    /// Presses keys as far as they are taken at once; how many were.
    pub(super) fn try_keys(&self, keys: &[u8]) -> usize {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&*self.ours, PollFlags::OUT)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(1) => rustix::io::write(&*self.ours, &keys[..256.min(keys.len())]).unwrap(),
            Ok(_) | Err(_) => 0,
        }
    }

    /// All that was ever on the screen.
    pub(super) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// How much that was.
    pub(super) fn seen(&self) -> usize {
        self.screen.lock().unwrap().len()
    }

    /// Waits until the screen shows a text, anywhere behind what it showed at `after`.
    #[track_caller]
    pub(super) fn sees_after(&self, after: usize, text: &str) {
        let found = wait::within(wait::DEADLINE, || {
            let screen = self.screen.lock().unwrap();
            String::from_utf8_lossy(&screen[after..]).contains(text).then_some(())
        });
        assert!(found.is_some(), "no {text:?} on the screen:\n{}", self.screen());
    }

    #[track_caller]
    pub(super) fn sees(&self, text: &str) {
        self.sees_after(0, text);
    }

    /// Types a line and waits for what it must bring up, which the line itself does not hold.
    #[track_caller]
    pub(super) fn line(&self, line: &str, brings: &str) {
        assert!(!line.contains(brings), "the echo would do");
        let after = self.seen();
        self.keys(format!("{line}\r").as_bytes());
        self.sees_after(after, brings);
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) {
        resize(&self.ours, rows, columns);
    }

    /// Looks away: nothing of the screen is read until it looks again.
    pub(super) fn look(&self, looks: bool) {
        self.blind.store(!looks, Ordering::SeqCst);
    }

    pub(super) fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.theirs).unwrap();
        !now.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            && !now.output_modes.contains(OutputModes::OPOST)
    }

    /// The terminal is as it was before.
    #[track_caller]
    pub(super) fn is_restored(&self) {
        let now = tcgetattr(&self.theirs).unwrap();
        assert_eq!(
            (now.local_modes, now.input_modes, now.output_modes, now.control_modes),
            (
                self.before.local_modes,
                self.before.input_modes,
                self.before.output_modes,
                self.before.control_modes
            )
        );
    }

    pub(super) fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Waits for the end and gives its code.
    #[track_caller]
    pub(super) fn end(&mut self) -> i32 {
        let ended = wait::within(wait::DEADLINE, || self.child.try_wait().unwrap());
        let Some(status) = ended else { panic!("it does not end:\n{}", self.screen()) };
        status.code().or(status.signal().map(|signal| 128 + signal)).unwrap()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen:\n{}", self.screen());
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn resize(end: &OwnedFd, ws_row: u16, ws_col: u16) {
    tcsetwinsize(end, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// Reads the screen for as long as there is somebody to see it.
fn watch(ours: &Arc<OwnedFd>, screen: &Mutex<Vec<u8>>, blind: &AtomicBool) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut bytes = [0; 16 * 1024];
    let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while Arc::strong_count(ours) > 1 {
        let mut fds = [PollFd::new(&**ours, PollFlags::IN)];
        let looks = !blind.load(Ordering::SeqCst);
        let asked = if looks { &mut fds[..] } else { &mut [] };
        if poll(asked, Some(&tick)).unwrap_or(0) == 0 {
            continue;
        }
        match rustix::io::read(&**ours, &mut bytes) {
            Ok(read) if read > 0 => screen.lock().unwrap().extend(&bytes[..read]),
            Ok(_) | Err(_) => return,
        }
    }
}
