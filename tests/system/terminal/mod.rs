//! Programs with a terminal, and people who sit at it: `cortex run --tty` and `cortex task attach` in real terminals.

mod leaving;
mod owner;
mod pty;

use crate::support::server::write_policy_text;
use crate::support::{Fleet, Server, text, wait};
use pty::Seat;
use std::fs;
use std::path::{Path, PathBuf};

/// A server whose owner lets programs have terminals.
struct Room {
    server: Server,
    root: PathBuf,
}

impl Room {
    #[track_caller]
    fn open(args: &[&str]) -> Room {
        let server = Server::start_with_its_own_policy(args);
        let root = server.path("work");
        fs::create_dir(&root).unwrap();
        let room = Room { server, root };
        room.policy("terminal = \"allow\"");
        room.until_it_has_terminals(true);
        room
    }

    /// Writes the policy; `more` comes before its tables.
    fn policy(&self, more: &str) {
        self.policy_with(more, "");
    }

    /// The same with more rules.
    fn policy_with(&self, more: &str, rules: &str) {
        write_policy(&self.server.data().join("agent"), &self.root, more, rules);
    }

    /// Waits until the node says so.
    #[track_caller]
    fn until_it_has_terminals(&self, wanted: bool) {
        wait::until("the node to say whether it has terminals", || {
            let nodes = self.server.nodes();
            let able = nodes.first()?["capabilities"].as_array()?;
            let has = able.iter().any(|able| able["name"] == "terminal");
            (has == wanted).then_some(())
        });
    }

    /// Writes a script into the root and gives its path.
    fn script(&self, name: &str, lines: &str) -> String {
        let path = self.root.join(name);
        fs::write(&path, lines).unwrap();
        text(&path)
    }

    /// Sits down at a shell that says `ready` when it can be typed to.
    #[track_caller]
    fn shell(&self) -> Seat {
        let seat = Seat::at(&self.server, &["run", "--tty", "--", "bash"]);
        seat.sees("attached to task");
        seat.line("echo re''ady", "ready");
        seat
    }

    /// The one task that runs.
    #[track_caller]
    fn running(&self) -> String {
        let tasks = self.server.tasks(&["--state", "running"]);
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks[0]["task_id"].as_str().unwrap().to_owned()
    }
}

fn write_policy(agent: &Path, root: &Path, more: &str, rules: &str) {
    let text = format!(
        "version = 1\nprograms.search = [\"/usr/local/bin\", \"/usr/bin\", \"/bin\"]\nconsent = {{ channels = [\"socket\"] }}\n{more}\n\
             [paths]\nroots = [{root:?}]\nread = [\"@system\"]\ndeny = [\"@secrets\", \"@sockets\"]\n\
             [[rule]]\nid = \"shells\"\nprogram = [\"bash\", \"sh\", \"python3\"]\nargs = \"any\"\neffect = \"allow\"\n\
             [[rule]]\nid = \"plain\"\nprogram = [\"cat\", \"tty\", \"stty\", \"sleep\", \"seq\"]\nargs = \"any\"\neffect = \"allow\"\n{rules}"
    );
    write_policy_text(agent, &text);
}

#[test]
fn a_shell_in_a_terminal_is_as_on_the_machine_itself() {
    let room = Room::open(&[]);
    let mut seat = room.shell();
    assert!(seat.is_raw());
    seat.line("tty", "/dev/pts/0");
    seat.line("test -t 0 && test -t 1 && test -t 2 && echo all th''ree", "all three");
    seat.line("echo $TERM", "xterm");
    seat.line("stty size", "30 90");
    seat.resize(41, 123);
    wait::until("the new size", || {
        let after = seat.seen();
        seat.line("stty size; echo si''zed", "sized");
        seat.screen()[after..].contains("41 123").then_some(())
    });
    // Ctrl-C is the program's, as a signal to what stands in front.
    let waits = r#"bash -c "trap 'echo int''errupted; exit 3' INT; echo wai''ting; while :; do sleep 0.1; done""#;
    seat.line(waits, "waiting");
    let after = seat.seen();
    seat.keys(b"\x03");
    seat.sees_after(after, "interrupted");
    seat.line("echo co''de $?", "code 3");
    // Ctrl-Z too, and its job comes back.
    seat.line("cat", "\r\n");
    seat.keys(b"\x1a");
    seat.line("jo''bs", "Stopped");
    seat.line("fg", "cat\r\n");
    seat.line("ba''ck", "ba''ck\r\nba''ck");
    seat.keys(b"\x04");
    seat.keys(b"exit 7\r");
    assert_eq!(seat.end(), 7);
    seat.is_restored();
}

/// Reads keys as an editor does and says what it gets.
const EDITOR: &str = "
import os, sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b'\\x1b[2J\\x1b[Hediting\\r\\n')
while True:
    key = os.read(0, 1)
    os.write(1, b'<%d>' % key[0])
    if key == b'q':
        break
termios.tcsetattr(0, termios.TCSADRAIN, before)
";

#[test]
fn a_program_that_reads_every_key_gets_every_key() {
    let room = Room::open(&[]);
    let editor = room.script("editor.py", EDITOR);
    let mut seat = Seat::at(&room.server, &["run", "--tty", "--", "python3", &editor]);
    seat.sees("attached to task");
    seat.sees("editing");
    let after = seat.seen();
    // All but the key that is ours, which goes through when it is pressed twice.
    let keys: Vec<u8> = (0..=255).filter(|key| ![0x1d, b'q'].contains(key)).collect();
    seat.keys(&keys);
    seat.keys(b"\x1d\x1dq");
    let said: String = keys.iter().chain(b"\x1dq").map(|key| format!("<{key}>")).collect();
    seat.sees_after(after, &said);
    assert_eq!(seat.end(), 0);
    seat.is_restored();
}

#[test]
fn leaving_does_not_end_the_task_and_coming_back_shows_where_it_is() {
    let room = Room::open(&[]);
    let mut seat = room.shell();
    seat.line("mark=be''fore; echo $mark", "before");
    let task = room.running();
    seat.keys(b"\x1dd");
    assert_eq!(seat.end(), 0);
    seat.is_restored();
    seat.sees("left task");
    let mut seat = Seat::at(&room.server, &["task", "attach", &task]);
    seat.sees("attached to task");
    seat.sees("before");
    seat.line("echo $mark is st''ill there", "before is still there");
    // Killed without a word, it is as if somebody had left.
    seat.signal(rustix::process::Signal::KILL);
    assert_eq!(seat.end(), 128 + 9);
    let mut seat = Seat::at(&room.server, &["task", "attach", &task, "--last", "0"]);
    seat.sees("attached to task");
    seat.line("echo ag''ain $mark", "again before");
    seat.signal(rustix::process::Signal::TERM);
    assert_eq!(seat.end(), 125);
    seat.is_restored();
    assert_eq!(room.running(), task);
    let mut seat = Seat::at(&room.server, &["task", "attach", &task]);
    seat.sees("attached to task");
    seat.keys(b"\x1dc");
    assert_eq!(seat.end(), 130);
    seat.is_restored();
    let task = room.server.task(&task);
    assert_eq!(task["state"], "cancelled");
    assert_eq!(task["outcome"]["ending"]["survivors"], 0, "{task}");
}

#[test]
fn a_server_that_dies_and_comes_back_is_hardly_noticed() {
    let mut room = Room::open(&[]);
    let mut seat = room.shell();
    seat.line(
        "for n in $(seq 1 400); do echo line $n; sleep 0.02; done; echo al''l",
        "line 20\r\n",
    );
    room.server.kill_up();
    // Typed while nobody is there.
    seat.keys(b"echo typed with''out $((6*7))\r");
    room.server.up();
    seat.sees("line 400\r\n");
    seat.sees("typed without 42\r\n");
    let screen = seat.screen();
    for n in 1..=400 {
        assert_eq!(screen.matches(&format!("line {n}\r\n")).count(), 1, "line {n}");
    }
    assert_eq!(screen.matches("typed without 42").count(), 1);
    seat.keys(b"exit\r");
    assert_eq!(seat.end(), 0);
    seat.is_restored();
}

#[test]
fn a_cut_between_node_and_gateway_loses_and_doubles_nothing() {
    let server = Server::start_with_its_own_policy(&["--no-agent"]);
    let proxy = crate::support::Proxy::start(&server, "far");
    let mut agent = crate::support::Agent::prepare(&server, "far", proxy.endpoint(), &[]);
    let room = Room { root: server.path("work"), server };
    fs::create_dir(&room.root).unwrap();
    write_policy(agent.dir(), &room.root, "terminal = \"allow\"", "");
    agent.launch();
    agent.until_online(&room.server);
    let mut seat = room.shell();
    for n in 1..=5 {
        proxy.cut();
        seat.keys(format!("echo cut $((100+{n}))\r").as_bytes());
        proxy.heal();
        seat.sees(&format!("cut {}\r\n", 100 + n));
    }
    let screen = seat.screen();
    for n in 101..=105 {
        assert_eq!(screen.matches(&format!("cut {n}\r\n")).count(), 1, "{n}");
    }
    seat.keys(b"exit\r");
    assert_eq!(seat.end(), 0);
}

#[test]
fn keys_find_their_way_to_a_node_at_another_gateway_and_follow_it() {
    let mut fleet = Fleet::start(0, &[]);
    let root = fleet.gateways[0].path("work");
    fs::create_dir(&root).unwrap();
    write_policy(fleet.agent.dir(), &root, "terminal = \"allow\"", "");
    let mut seat = Seat::at(&fleet.gateways[1], &["run", "--tty", "--", "bash"]);
    seat.sees("attached to task");
    seat.line("echo there$((6*7))", "there42");
    fleet.lead_agent_to(1);
    fleet.gateways[0].kill_up();
    seat.keys(b"echo moved$((6*7))\r");
    seat.sees("moved42");
    assert_eq!(seat.screen().matches("moved42").count(), 1);
    seat.keys(b"exit 3\r");
    assert_eq!(seat.end(), 3);
}

#[test]
fn of_two_at_one_terminal_both_see_and_the_newer_types() {
    let room = Room::open(&[]);
    let mut first = room.shell();
    let task = room.running();
    let mut second = Seat::at(&room.server, &["task", "attach", &task, "--actor-id", "berta"]);
    second.sees("attached to task");
    second.line("echo from the sec''ond", "from the second");
    first.sees("from the second");
    first.keys(b"echo from the fi''rst\r");
    first.sees("berta (human) has the keyboard now");
    second.line("echo still the sec''ond", "still the second");
    first.sees("still the second");
    assert!(!second.screen().contains("first"), "{}", second.screen());
    first.keys(b"\x1dd");
    assert_eq!(first.end(), 0);
    second.keys(b"exit\r");
    assert_eq!(second.end(), 0);
    // Who typed, and how much, is in the node's journal, before and after; what it was is not.
    let dir = text(&room.server.data().join("agent"));
    let history = room.server.cortex(&["__agent", "history", "--json", "--data-dir", &dir]).ok();
    let records = history.json_lines();
    let of = |kind: &str| -> Vec<&serde_json::Value> {
        records.iter().filter(|record| record["kind"] == kind).collect()
    };
    let (attached, typed) = (of("terminal.attached"), of("terminal.typed"));
    let who: Vec<_> =
        attached.iter().map(|r| (&r["data"]["actor"]["id"], &r["data"]["number"])).collect();
    assert_eq!(who, [(&"tester".into(), &1.into()), (&"berta".into(), &2.into())]);
    assert_eq!(typed[0]["data"]["attached"], attached[0]["seq"]);
    let bytes = |record: &serde_json::Value| record["data"]["bytes"].as_u64().unwrap();
    assert_eq!(bytes(typed[0]), "echo re''ady\r".len() as u64);
    assert_eq!(
        bytes(typed[1]),
        "echo from the sec''ond\recho still the sec''ond\rexit\r".len() as u64
    );
    assert!(typed[0]["data"]["typed"]["$c"].is_string());
    assert!(!text_of(&records).contains("still the sec"), "what was typed stands in the journal");
    let intent =
        of("intent").into_iter().find(|r| r["seq"] == attached[0]["data"]["intent"]).unwrap();
    assert_eq!(intent["data"]["op"], "process.terminal");
    // The mirror has it some moments later.
    let shown = wait::until("the mirror to have all of it", || {
        let shown = room.server.cortex(&["audit", "show", "--task", &task]).ok().text();
        shown.contains("outcome, written").then_some(shown)
    });
    for text in ["terminal.attached", "berta (human) takes the keyboard", "typed    13 bytes"] {
        assert!(shown.contains(text), "no {text:?} in {shown}");
    }
}

fn text_of(records: &[serde_json::Value]) -> String {
    records.iter().map(ToString::to_string).collect()
}

#[test]
fn an_agent_that_dies_leaves_doubt_and_a_terminal_as_it_was() {
    let room = Room::open(&[]);
    let mut seat = room.shell();
    room.server.kill_agent();
    assert_eq!(seat.end(), 123);
    seat.is_restored();
    seat.sees("is not known");
}

#[test]
fn much_that_is_written_while_nobody_looks_and_much_that_is_typed_is_bounded() {
    let room = Room::open(&[]);
    let mut seat = room.shell();
    let after = seat.seen();
    seat.look(false);
    seat.keys(b"seq 1 1500000; echo do''ne\r");
    let task = room.running();
    // Ten megabytes come to the log while the screen stands still.
    wait::until("the output to be kept", || {
        let output = room.server.cortex(&["task", "output", &task]);
        (output.stdout.len() > 10_000_000).then_some(())
    });
    let client = memory(seat.pid());
    assert!(client < 150 << 20, "{client} bytes");
    seat.look(true);
    seat.sees_after(after, "1500000\r\ndone");
    assert_eq!(seat.screen()[after..].matches("\r\n750000\r\n").count(), 1);
    // Far more keys than anybody reads: they wait where they were pressed.
    seat.line("stty raw -echo; sleep 2; stty sane; echo sa''ne", "\r\n");
    let agents = room.server.agent_pids();
    let before = memory(agents[0]);
    let flood = flood(&seat);
    assert!(flood < 512 * 1024, "{flood} bytes were taken");
    assert!(memory(agents[0]) < before + (16 << 20));
    room.server.cortex(&["task", "cancel", &task]).ok();
    assert_eq!(seat.end(), 130);
    seat.is_restored();
}

/// Presses keys until no more are taken, and says how many were.
fn flood(seat: &Seat) -> usize {
    let mut taken = 0;
    let mut idle = 0;
    while idle < 20 && taken < 4 << 20 {
        match seat.try_keys(&[b'x'; 4096]) {
            0 => {
                idle += 1;
                wait::pass(std::time::Duration::from_millis(50));
            }
            some => (taken, idle) = (taken + some, 0),
        }
    }
    taken
}

/// Memory of a process, bytes.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
