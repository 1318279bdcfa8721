//! What the owner of a machine says about terminals, and what a task gets of them.

use super::Room;
use super::pty::Seat;
use crate::support::text;
use rustix::pty::{OpenptFlags, openpt};
use std::fs;

#[test]
fn a_terminal_is_refused_where_nobody_sits_and_nothing_is_submitted() {
    let room = Room::open(&[]);
    let before = room.server.tasks(&[]).len();
    let ended = room.server.cortex(&["run", "--tty", "--", "bash"]).with(125);
    ended.complains(&["CX-1313", "standard input is no terminal", "hint: "]);
    room.server.cortex(&["run", "--tty", "--json", "--", "bash"]).with(125);
    assert_eq!(room.server.tasks(&[]).len(), before);
    // A task without one is not sat at.
    let id = room.server.submit(&[], &["cat", "/etc/os-release"]);
    let mut seat = Seat::at(&room.server, &["task", "attach", &id]);
    assert_eq!(seat.end(), 125);
    seat.sees("CX-1313");
    seat.is_restored();
    // Left to itself from the beginning, and sat at later.
    let id =
        room.server.cortex(&["run", "--tty", "--detach", "--", "sh"]).ok().text().trim().to_owned();
    let mut seat = Seat::at(&room.server, &["task", "attach", &id]);
    seat.sees("attached to task");
    // It has the size of whoever sits there.
    seat.line("stty size", "30 90");
    seat.keys(b"exit\r");
    assert_eq!(seat.end(), 0);
}

#[test]
fn a_node_whose_owner_gives_no_terminals_says_so_and_one_program_may_be_left_out() {
    let room = Room::open(&[]);
    room.policy("");
    room.until_it_has_terminals(false);
    let id = room
        .server
        .cortex(&["run", "--tty", "--detach", "--", "bash"])
        .ok()
        .text()
        .trim()
        .to_owned();
    let why = room.server.cortex(&["task", "explain", &id]).ok();
    assert!(why.text().contains("terminal"), "{}", why.text());
    room.server.cortex(&["task", "cancel", &id]).ok();
    // While it waits our keys are still our own: Ctrl-C cancels, as without a terminal.
    let mut seat = Seat::at(&room.server, &["run", "--tty", "--", "bash"]);
    seat.sees("waiting: ");
    seat.keys(b"\x03");
    assert_eq!(seat.end(), 130);
    seat.sees("cancelling");
    seat.is_restored();
    let more =
        "[[rule]]\nid = \"last\"\nprogram = \"wc\"\neffect = \"allow\"\nterminal = \"allow\"\n";
    room.policy_with("", more);
    room.until_it_has_terminals(true);
    let mut seat = Seat::at(&room.server, &["run", "--tty", "--", "bash"]);
    assert_eq!(seat.end(), 126);
    seat.sees("CX-1014");
    seat.is_restored();
    let id = room.server.submit(&[], &["cat", "/etc/os-release"]);
    room.server.until_state(&id, &["succeeded"]);
}

#[test]
fn an_owner_who_is_asked_is_told_that_what_is_typed_is_not_shown() {
    let room = Room::open(&[]);
    room.policy("terminal = \"ask\"");
    let mut seat = Seat::at(&room.server, &["run", "--tty", "--", "bash"]);
    seat.sees("waiting for the owner of");
    let dir = text(&room.server.data().join("agent"));
    let owner = |words: &[&str]| {
        let (command, rest) = words.split_first().unwrap();
        let mut all = vec!["__agent", command, "--data-dir", &dir];
        all.extend(rest);
        room.server.cortex(&all)
    };
    let waiting = owner(&["consent", "--json", "list"]).ok().json();
    let number = waiting["waiting"][0]["id"].to_string();
    owner(&["consent", "show", &number, "--all"])
        .ok()
        .says(&["terminal  YES (xterm): what is typed later is not shown here"]);
    owner(&["consent", "allow", &number]).ok();
    seat.sees("attached to task");
    seat.line("echo al''lowed", "allowed");
    seat.keys(b"exit\r");
    assert_eq!(seat.end(), 0);
}

/// Tries what a terminal could give away.
const PROBE: &str = "
import fcntl, os, termios
def attempt(name, what):
    try:
        what()
        print(name, 'WORKED')
    except OSError as err:
        print(name, 'refused', err.errno)
attempt('tiocsti', lambda: fcntl.ioctl(0, termios.TIOCSTI, b'x'))
attempt('tioclinux', lambda: fcntl.ioctl(0, 0x541c, b'\\x02'))
print('terminals', sorted(os.listdir('/dev/pts')))
attempt('own', lambda: os.close(os.open(os.ttyname(0), os.O_RDWR | os.O_NOCTTY)))
attempt('led', lambda: os.close(os.open('/dev/tty', os.O_RDWR)))
print('probed')
";

#[test]
fn a_task_sees_no_terminal_but_its_own_and_types_into_none() {
    let room = Room::open(&[]);
    let more: Vec<_> = (0..3).map(|_| openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)).collect();
    assert!(more.iter().all(Result::is_ok));
    let probe = room.script("probe.py", PROBE);
    let mut seat = Seat::at(&room.server, &["run", "--tty", "--", "python3", &probe]);
    assert_eq!(seat.end(), 0);
    let screen = seat.screen();
    for line in [
        "tiocsti refused 1",
        "tioclinux refused 1",
        "terminals ['0', 'ptmx']",
        "own WORKED",
        "led WORKED",
    ] {
        assert!(screen.contains(line), "no {line:?} in {screen}");
    }
    // The control: on the machine there are more.
    assert!(fs::read_dir("/dev/pts").unwrap().count() > 3);
}

#[test]
fn secrets_do_not_come_to_the_screen() {
    let room = Room::open(&[]);
    let secret = room.server.path("secret");
    fs::write(&secret, "hunter2-and-more").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    room.policy(&format!(
        "terminal = \"allow\"\nenv.secrets = {{ token = \"file:{}\" }}",
        text(&secret)
    ));
    let mut seat =
        Seat::at(&room.server, &["run", "--tty", "--secret-env", "TOKEN=token", "--", "bash"]);
    seat.sees("attached to task");
    seat.line("echo \"<$TOKEN> ${#TOKEN}\"", "<***> 16");
    seat.line(
        "for c in $(seq 0 15); do printf %s \"${TOKEN:$c:1}\"; done; echo; echo fin''ished",
        "finished",
    );
    assert!(!seat.screen().contains("hunter2"), "{}", seat.screen());
    seat.keys(b"exit\r");
    assert_eq!(seat.end(), 0);
}
