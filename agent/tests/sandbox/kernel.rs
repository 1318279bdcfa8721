//! What a task can do to the kernel, to other processes and to its own rights.

use crate::support::*;

#[tokio::test]
async fn system_calls_that_reach_around_the_sandbox_are_refused() {
    for who in everybody() {
        let room = Room::new(who).await;
        let mount = room.root.to_str().unwrap().to_owned();
        let node = format!("{mount}/node");
        let secret = room.secret.to_str().unwrap().to_owned();
        let attacks: &[&[&str]] = &[
            &["iouring"],
            &["keyctl"],
            &["addkey"],
            &["bpf"],
            &["perf"],
            &["userfaultfd"],
            &["userns"],
            &["clone"],
            &["clone3"],
            &["setns"],
            &["mount", &mount],
            &["umount", "/proc"],
            &["umount", "/dev/shm"],
            &["remount", &mount],
            &["fsopen"],
            &["opentree"],
            &["chroot"],
            &["mknod", &node],
            &["handle", &secret, "/"],
            &["raw"],
            &["packet"],
            &["netlink"],
            &["vsock"],
            &["alg"],
            &["ping"],
        ];
        let mut worked = 0;
        for words in attacks {
            let inside = room.inside(words).await;
            assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?} inside: {inside}");
            let outside = room.outside(words).await;
            std::fs::remove_file(&node).ok();
            worked += usize::from(outside.starts_with("ESCAPED"));
            // An ordinary user may do less of this than root; what root can do shows that the attack is one.
            let may_fail = who == Who::User || words[0] == "ping" || words[0] == "remount";
            // A kernel may lack the family altogether.
            let lacking = outside.contains("Address family not supported");
            assert!(
                may_fail || lacking || outside.starts_with("ESCAPED"),
                "{words:?} control: {outside}"
            );
        }
        assert!(worked >= 7, "{who:?}: only {worked} controls work");
    }
}

#[tokio::test]
async fn calls_of_a_foreign_architecture_kill() {
    for who in everybody() {
        let room = Room::new(who).await;
        let inside = room.inside(&["x32"]).await;
        assert!(inside.contains("BLOCKED Function not implemented"), "{who:?}: {inside}");
        #[cfg(target_arch = "x86_64")]
        {
            let inside = room.inside(&["int80"]).await;
            assert!(inside.starts_with("KILLED"), "{who:?}: {inside}");
        }
    }
}

#[tokio::test]
async fn no_program_that_lends_its_owners_rights_is_left_behind() {
    for who in everybody() {
        let room = Room::new(who).await;
        let file = room.root.join("program");
        std::fs::write(&file, "x").unwrap();
        room.give(&file);
        let (file, new) = (file.to_str().unwrap(), room.root.join("new"));
        let new = new.to_str().unwrap();
        for words in [["suid", file], ["suid-fd", file], ["suid-open", new], ["suid-how", new]] {
            let inside = room.inside(&words).await;
            assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?} inside: {inside}");
            let outside = room.outside(&words).await;
            assert!(outside.starts_with("ESCAPED"), "{who:?} {words:?} control: {outside}");
            std::fs::remove_file(new).ok();
        }
        let said = room.run(&room.plan(&["chmod", "755", file])).await;
        assert_eq!(said.code(), 0, "an ordinary mode is as good as ever: {said:?}");
    }
}

#[tokio::test]
async fn process_1_of_a_task_can_be_neither_read_nor_ended_by_it() {
    for who in everybody() {
        let room = Room::new(who).await;
        for words in [["environ", "1"], ["ptrace", "1"]] {
            let inside = room.inside(&words).await;
            assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?}: {inside}");
        }
        let script = "kill -9 1; kill -STOP 1; kill -TERM 1; ls /proc/1/fd /proc/1/task/1/fd /proc/1; cat /proc/1/stat; echo still here";
        let ran = room.run(&room.plan(&["sh", "-c", script])).await;
        assert_eq!((ran.code(), ran.out.as_str()), (0, "still here\n"), "{who:?}: {ran:?}");
    }
}

#[tokio::test]
async fn other_processes_cannot_be_seen_signalled_or_read() {
    for who in everybody() {
        let room = Room::new(who).await;
        let ready = room.root.join("ready");
        // The victim has the same user and is outside.
        let mut plan = room.attack(&["daemon", ready.to_str().unwrap()]);
        plan.confine = cortex_agent_core::plan::Confine::Never;
        let mut victim = room.sandbox.launch(&plan).unwrap();
        appears(&ready).await;
        let pid = processes_of(ready.to_str().unwrap())[0].to_string();
        for words in [["kill", &pid], ["ptrace", &pid], ["pidfd", &pid], ["environ", &pid]] {
            let inside = room.inside(&words).await;
            assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?} inside: {inside}");
            let outside = room.outside(&words).await;
            assert!(outside.starts_with("ESCAPED"), "{who:?} {words:?} control: {outside}");
        }
        // Its memory, at a place that it certainly has.
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let (start, _) = maps.split_once('-').unwrap();
        let words = ["vmread", pid.as_str(), start];
        let inside = room.inside(&words).await;
        assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?} inside: {inside}");
        let outside = room.outside(&words).await;
        assert!(outside.starts_with("ESCAPED"), "{who:?} {words:?} control: {outside}");
        let seen = room.run(&room.plan(&["sh", "-c", "ls -d /proc/[0-9]* | wc -l"])).await;
        assert!(seen.out.trim().parse::<u32>().unwrap() <= 5, "{who:?}: {}", seen.out);
        victim.kill();
        assert_eq!(victim.clean_up().await.survivors, 0);
    }
}

#[tokio::test]
async fn the_agent_of_the_same_user_cannot_be_reached_from_level_landlock_either() {
    for who in everybody() {
        let attack = attacks();
        let room = Room::behind(who, &[attack.to_str().unwrap(), "container"]).await;
        let own = std::process::id().to_string();
        // The launcher hides its memory; the agent does so when it starts.
        let launcher = launchers()[0].to_string();
        for pid in [&own, &launcher] {
            for words in [["ptrace", pid], ["environ", pid]] {
                let inside = room.inside(&words).await;
                assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?}: {inside}");
            }
            if room.armed().landlock_abi >= 6 {
                let inside = room.inside(&["kill", pid]).await;
                assert!(inside.starts_with("BLOCKED"), "{who:?}: {inside}");
            }
        }
    }
}

#[tokio::test]
async fn a_task_has_no_rights_gains_none_and_inherits_nothing() {
    for who in everybody() {
        let room = Room::new(who).await;
        let rights = room.inside(&["rights"]).await;
        for line in rights.lines().filter(|line| line.starts_with("Cap")) {
            assert!(line.ends_with("0000000000000000"), "{who:?}: {rights}");
        }
        assert!(rights.contains("NoNewPrivs:\t1") && rights.contains("Seccomp:\t2"), "{rights}");
        assert!(room.inside(&["fds"]).await.starts_with("BLOCKED"));
        // A program that would make anybody root makes nobody root.
        let script = "id -u; su -c id < /dev/null; mount -t tmpfs x /tmp";
        let ran = room.run(&room.plan(&["sh", "-c", script])).await;
        assert_ne!(ran.code(), 0, "{who:?}: {ran:?}");
        assert!(!ran.out.contains("uid="), "{who:?}: {ran:?}");
        let identity = room.run(&room.plan(&["sh", "-c", "echo $(id -u) $(id -G)"])).await;
        let expected = match who {
            Who::Root => "0 0".to_owned(),
            Who::User => identity.out.trim().to_owned(),
        };
        assert_eq!(identity.out.trim(), expected);
    }
}

#[tokio::test]
async fn code_from_memory_runs_under_the_same_rules() {
    for who in everybody() {
        let room = Room::new(who).await;
        let secret = room.secret.to_str().unwrap().to_owned();
        let inside = room.inside(&["memfd", &secret]).await;
        assert!(inside.starts_with("BLOCKED"), "{who:?}: {inside}");
        assert!(room.outside(&["memfd", &secret]).await.starts_with("ESCAPED"));
        let loader = "/usr/bin/env -i $(ls /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* 2>/dev/null | head -1)";
        let script = format!("{loader} {} read {secret}", attacks().display());
        let ran = room.run(&room.plan(&["sh", "-c", &script])).await;
        assert!(ran.out.starts_with("BLOCKED"), "{who:?}: {ran:?}");
    }
}

#[tokio::test]
async fn the_environment_is_the_plans_and_nothing_else() {
    for who in everybody() {
        let room = Room::new(who).await;
        let ran = room.run(&room.plan(&["env"])).await;
        let mut names: Vec<_> =
            ran.out.lines().map(|line| line.split('=').next().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["LANG", "PATH"], "{who:?}: the test's own environment must not show");
    }
}
