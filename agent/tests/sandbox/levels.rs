//! Levels: what a machine offers is found by trying, and nothing runs with less than it was promised.

use crate::support::*;
use cortex_agent_core::plan::{Confine, HostPort, Level, NetMode};
use cortex_model::Code;

#[tokio::test]
async fn this_machine_offers_level_full() {
    for who in everybody() {
        let room = Room::new(who).await;
        assert_eq!((room.armed().level, room.armed().why.as_str()), (Level::Full, ""), "{who:?}");
        let features = room.armed().features();
        assert!(
            features.contains_key("userns") && features["landlock"] == room.armed().landlock_abi
        );
    }
}

#[tokio::test]
async fn a_container_without_namespaces_offers_level_landlock_and_holds_it() {
    for who in everybody() {
        let attack = attacks();
        let room = Room::behind(who, &[attack.to_str().unwrap(), "container"]).await;
        assert_eq!(room.armed().level, Level::Landlock, "{who:?}: {}", room.armed().why);
        assert!(room.armed().why.contains("namespaces"), "{}", room.armed().why);
        assert!(!room.armed().gaps(Level::Landlock).is_empty());
        let secret = room.secret.to_str().unwrap().to_owned();
        for words in
            [["read", &secret], ["write", &secret], ["truncate", &secret], ["unlink", &secret]]
        {
            let inside = room.inside(&words).await;
            assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?}: {inside}");
        }
        let rights = room.inside(&["rights"]).await;
        assert!(rights.contains("CapEff:\t0000000000000000") && rights.contains("Seccomp:\t2"));
        let ran = room.run(&room.plan(&["sh", "-c", "echo x > file && cat file"])).await;
        assert_eq!((ran.code(), ran.out.as_str()), (0, "x\n"), "{who:?}: {ran:?}");
    }
}

#[tokio::test]
async fn what_only_namespaces_can_do_is_refused_without_them() {
    for who in everybody() {
        let attack = attacks();
        let room = Room::behind(who, &[attack.to_str().unwrap(), "container"]).await;
        let marker = room.root.join("marker");
        let touch = ["touch", marker.to_str().unwrap()];
        let mut full = room.plan(&touch);
        full.confine = Confine::AtLeast(Level::Full);
        let mut domains = room.plan(&touch);
        let allow = vec![HostPort { host: "example.com".to_owned(), port: 443 }];
        domains.net = NetMode::Domains { allow };
        let mut loopback = room.plan(&touch);
        loopback.net = NetMode::Loopback { ports: vec![80] };
        let mut protect = room.plan(&touch);
        protect.view.protect = vec![room.root.join(".git")];
        let mut deny = room.plan(&touch);
        std::fs::write(room.root.join(".env"), "x").unwrap();
        deny.view.deny = vec![room.root.join(".env")];
        for plan in [full, domains, loopback, protect, deny] {
            let fault = room.sandbox.launch(&plan).unwrap_err();
            assert_eq!(fault.code, Code::SandboxUnavailable, "{who:?}");
            assert!(!marker.exists());
        }
        let ran = room.run(&room.plan(&touch)).await;
        assert_eq!(ran.code(), 0, "the control: without these wishes it runs: {ran:?}");
        assert!(marker.exists());
    }
}

#[tokio::test]
async fn a_machine_with_nothing_offers_nothing_and_confined_tasks_do_not_start() {
    for who in everybody() {
        let attack = attacks();
        let room = Room::behind(who, &[attack.to_str().unwrap(), "bare"]).await;
        assert_eq!(room.armed().level, Level::None, "{who:?}");
        assert!(room.armed().why.contains("landlock"), "{}", room.armed().why);
        let fault = room.sandbox.launch(&room.plan(&["true"])).unwrap_err();
        assert_eq!(fault.code, Code::SandboxUnavailable);
        assert!(fault.message.contains("landlock"), "{}", fault.message);
        let mut bare = room.plan(&["true"]);
        bare.confine = Confine::Never;
        assert_eq!(room.run(&bare).await.code(), 0, "{who:?}");
    }
}

#[tokio::test]
async fn a_set_up_that_fails_is_told_apart_from_the_program_failing() {
    for who in everybody() {
        let room = Room::new(who).await;
        let ran = room.run(&room.plan(&["sh", "-c", "exit 127"])).await;
        assert_eq!(ran.code(), 127);
        let mut plan = room.plan(&["true"]);
        plan.cwd = room.root.join("missing");
        let ran = room.run(&plan).await;
        assert_eq!(ran.never().code, Code::SpawnFailed, "{ran:?}");
        let mut plan = room.plan(&["true"]);
        plan.view.roots.push(room.root.join("missing"));
        let ran = room.run(&plan).await;
        assert_eq!(ran.never().code, Code::SandboxFailed, "{ran:?}");
        let script = room.root.join("not-executable");
        std::fs::write(&script, "x").unwrap();
        let mut plan = room.plan(&["true"]);
        plan.program = script;
        let ran = room.run(&plan).await;
        assert_eq!(ran.never().code, Code::SpawnFailed, "{ran:?}");
    }
}
