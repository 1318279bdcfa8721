//! The many ways in which a seat at a terminal ends, and that our own terminal is then as it was.

use super::Room;
use super::pty::Seat;
use rustix::process::Signal;

#[test]
fn a_program_whose_time_is_over_leaves_our_terminal_as_it_was() {
    let room = Room::open(&[]);
    let mut seat = Seat::at(&room.server, &["run", "--tty", "--timeout", "3s", "--", "bash"]);
    seat.sees("attached to task");
    let task = room.running();
    assert!(seat.is_raw());
    assert_eq!(seat.end(), 124);
    seat.is_restored();
    seat.sees("timeout of 3s");
    let task = room.server.task(&task);
    assert_eq!(task["outcome"]["ending"]["kind"], "timeout", "{task}");
    assert_eq!(task["outcome"]["confinement"]["killed_by"], "wall", "{task}");
}

#[test]
fn signals_that_end_whoever_sits_there_leave_the_task_and_our_terminal_as_they_were() {
    let room = Room::open(&[]);
    let mut seat = room.shell();
    let task = room.running();
    for signal in [Signal::HUP, Signal::TERM, Signal::INT] {
        assert!(seat.is_raw());
        seat.signal(signal);
        assert_eq!(seat.end(), 125, "{signal:?}");
        seat.is_restored();
        seat.sees("left task");
        assert_eq!(room.running(), task);
        seat = Seat::at(&room.server, &["task", "attach", &task]);
        seat.sees("attached to task");
        seat.sees("ready");
        // What is shown again ends its lines as it did, also before our terminal is the task's.
        assert!(seat.screen().contains("\rready\r\n"), "{:?}", seat.screen());
    }
    seat.keys(b"\x1dc");
    assert_eq!(seat.end(), 130);
    seat.is_restored();
}

#[test]
fn before_there_is_a_terminal_a_second_ctrl_c_leaves_the_task_as_it_is() {
    let mut room = Room::open(&[]);
    room.policy("");
    room.until_it_has_terminals(false);
    let mut seat = Seat::at(&room.server, &["run", "--tty", "--", "bash"]);
    seat.sees("waiting: ");
    // Nobody is there to take the first one.
    room.server.kill_up();
    seat.keys(b"\x03");
    seat.sees("cancelling; once more leaves the task as it is");
    seat.keys(b"\x03");
    assert_eq!(seat.end(), 125);
    seat.is_restored();
    seat.sees("left task");
    room.server.up();
    let tasks = room.server.tasks(&[]);
    let ours = tasks.iter().find(|task| task["spec"]["action"]["argv"][0] == "bash").unwrap();
    assert_eq!((&ours["state"], &ours["cancel_requested"]), (&"pending".into(), &false.into()));
}
