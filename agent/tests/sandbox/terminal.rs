//! Terminals: a program has one of its own, is led by it, and reaches no other, at both levels and for everybody.

use crate::support::*;
use cortex_agent::sandbox::End;
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{Confine, Level};
use cortex_model::task::Terminal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::os::fd::OwnedFd;

/// Everything that a terminal shows until nobody has it any more.
fn screen(terminal: &OwnedFd) -> String {
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = rustix::io::read(terminal, &mut bytes) {
        all.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8(all).unwrap()
}

async fn sit(room: &Room, script: &str) -> (i32, String) {
    at_a_terminal(room, room.plan(&["sh", "-c", script])).await
}

async fn at_a_terminal(room: &Room, mut plan: ProcessPlan) -> (i32, String) {
    plan.terminal = Some(Terminal { rows: 33, columns: 99, ..Terminal::default() });
    let mut task = room.sandbox.launch(&plan).unwrap();
    let terminal = within("its terminal", task.terminal()).await.unwrap();
    let shown = tokio::task::spawn_blocking(move || screen(&terminal));
    let end = within("its end", task.ended()).await;
    let shown = within("its last words", shown).await.unwrap();
    assert_eq!(within("nothing to be left", task.clean_up()).await.survivors, 0);
    let End::Status(status) = end else { panic!("{end:?}: {shown}") };
    (status.code().unwrap(), shown)
}

async fn rooms(who: Who) -> [(Level, Room); 2] {
    let attack = attacks();
    let contained = Room::behind(who, &[attack.to_str().unwrap(), "container"]).await;
    [(Level::Full, Room::new(who).await), (Level::Landlock, contained)]
}

#[tokio::test]
async fn a_program_is_led_by_a_terminal_of_its_size_and_ends_with_its_own_code() {
    for who in everybody() {
        for (level, room) in rooms(who).await {
            assert_eq!(room.armed().level, level, "{who:?}: {}", room.armed().why);
            assert!(room.armed().features().contains_key("terminal"));
            let script =
                "test -t 0 && test -t 1 && test -t 2 && stty size && echo led > /dev/tty; exit 5";
            let (code, shown) = sit(&room, script).await;
            assert_eq!((code, shown.as_str()), (5, "33 99\r\nled\r\n"), "{who:?} {level:?}");
            // Whoever hangs up ends those who sit there, also with others behind.
            let (code, shown) = sit(&room, "sleep 1000 & echo away; exit 0").await;
            assert_eq!((code, shown.as_str()), (0, "away\r\n"), "{who:?} {level:?}");
        }
    }
}

#[tokio::test]
async fn nobody_types_into_a_terminal() {
    let attack = attacks();
    for words in [["tiocsti"], ["tiocsti-high"]] {
        for who in everybody() {
            for (level, room) in rooms(who).await {
                // The one that it is led by: into that the kernel would let it.
                let (_, inside) = at_a_terminal(&room, room.attack(&words)).await;
                let refused = inside.starts_with("BLOCKED Operation not permitted");
                assert!(refused, "{who:?} {level:?} {words:?}: {inside}");
            }
        }
        // The control, where the kernel does not refuse it to everybody.
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY);
        let mut control = std::process::Command::new("setsid");
        control.arg("--ctty").arg(&attack).args(words).stdin(theirs.unwrap());
        let said = String::from_utf8(control.output().unwrap().stdout).unwrap();
        let legacy = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
        if legacy.is_ok_and(|text| text.trim() == "1") {
            assert!(said.starts_with("ESCAPED"), "{words:?} control: {said}");
        }
    }
}

#[tokio::test]
async fn the_terminals_of_the_machine_are_out_of_reach() {
    // Several: the number of the last one is none of those that a task could have itself.
    let open = |_| openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let all: Vec<OwnedFd> = (0..4).map(open).collect();
    let ours = &all[3];
    grantpt(ours).unwrap();
    unlockpt(ours).unwrap();
    let path = ptsname(ours, Vec::new()).unwrap().into_string().unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    for who in everybody() {
        for (level, room) in rooms(who).await {
            let script = format!("if echo x > {path}; then echo REACHED; fi");
            let (_, shown) = sit(&room, &script).await;
            assert!(!shown.contains("REACHED"), "{who:?} {level:?}: {shown}");
            assert!(shown.contains("Permission denied"), "{who:?} {level:?}: {shown}");
            if level == Level::Full {
                let (_, shown) = sit(&room, "ls /dev/pts").await;
                assert_eq!(shown.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "ptmx"]);
            }
        }
    }
    // The control: without a sandbox it is there for all.
    std::fs::write(&path, "x").unwrap();
}

#[tokio::test]
async fn a_cancelled_shell_that_ignores_the_polite_signal_hears_the_hang_up() {
    for who in everybody() {
        let room = Room::new(who).await;
        let mut plan =
            room.plan(&["sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.1; done"]);
        plan.terminal = Some(Terminal::default());
        plan.confine = Confine::AtLeast(Level::Full);
        let mut task = room.sandbox.launch(&plan).unwrap();
        let terminal = within("its terminal", task.terminal()).await.unwrap();
        let mut first = [0; 16];
        let read = tokio::task::spawn_blocking(move || {
            let read = rustix::io::read(&terminal, &mut first).unwrap();
            (first, read, terminal)
        });
        let (first, read, _terminal) = within("its first word", read).await.unwrap();
        assert_eq!(&first[..read], b"here\r\n");
        task.terminate();
        let End::Status(status) = within("its end", task.ended()).await else { panic!("no end") };
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(1), "{status:?}");
        assert_eq!(within("nothing to be left", task.clean_up()).await.survivors, 0);
    }
}
