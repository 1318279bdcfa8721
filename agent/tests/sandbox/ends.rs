//! Ends: when the sandbox says that a task is gone, the kernel has said so first.

use crate::support::*;
use cortex_agent::sandbox::{End, Task};
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::Confine;
use std::time::{Duration, Instant};

/// Starts it, waits for its sign, and ends it as a cancel does.
async fn cancel(room: &Room, plan: &ProcessPlan, ready: &std::path::Path) -> u32 {
    let mut task = room.sandbox.launch(plan).unwrap();
    appears(ready).await;
    task.terminate();
    let grace = tokio::time::timeout(Duration::from_millis(300), task.ended()).await;
    drop(grace);
    within("the proof", task.clean_up()).await.survivors
}

/// The same attack at every level that a launcher on this machine has.
async fn rooms(who: Who) -> Vec<(Room, bool)> {
    let attack = attacks();
    let contained = Room::behind(who, &[attack.to_str().unwrap(), "container"]).await;
    vec![(Room::new(who).await, true), (Room::new(who).await, false), (contained, true)]
}

#[tokio::test]
async fn nothing_survives_a_cancel_however_it_hides() {
    for who in everybody() {
        for (room, confined) in rooms(who).await {
            let level = room.armed().level;
            let attacks: &[&[&str]] =
                &[&["daemon"], &["still"], &["leave"], &["tree", "300"], &["chain"]];
            for words in attacks {
                // Outside a process namespace nobody can win against it for certain.
                if words[0] == "chain"
                    && !(confined && level == cortex_agent_core::plan::Level::Full)
                {
                    continue;
                }
                let ready = room.root.join(format!("ready-{}", words[0]));
                let mut words = words.to_vec();
                let sign = ready.to_str().unwrap();
                words.push(sign);
                let mut plan = room.attack(&words);
                if !confined {
                    plan.confine = Confine::Never;
                }
                let survivors = cancel(&room, &plan, &ready).await;
                assert_eq!(survivors, 0, "{who:?} {level:?} {words:?}");
                assert_eq!(processes_of(sign), [0_i32; 0], "{who:?} {level:?} {words:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_its_task() {
    for who in everybody() {
        for (room, confined) in rooms(who).await {
            let ready = room.root.join("ready");
            let sign = ready.to_str().unwrap();
            let mut plan = room.attack(&["leave", sign]);
            if !confined {
                plan.confine = Confine::Never;
            }
            let ran = room.run(&plan).await;
            assert_eq!((ran.code(), ran.remains.survivors), (0, 0), "{who:?}: {ran:?}");
            assert_eq!(processes_of(sign), [0_i32; 0], "{who:?}");
        }
    }
}

#[tokio::test]
async fn a_launcher_that_is_killed_takes_its_tasks_along_and_the_next_task_gets_a_new_one() {
    for who in everybody() {
        let room = Room::new(who).await;
        let ready = room.root.join("ready");
        let sign = ready.to_str().unwrap();
        let mut task: Task = room.sandbox.launch(&room.attack(&["daemon", sign])).unwrap();
        appears(&ready).await;
        for pid in launchers() {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        let end = within("its end", task.ended()).await;
        assert!(matches!(end, End::Lost), "{end:?}");
        assert_eq!(within("the proof", task.clean_up()).await.survivors, 0);
        assert_eq!(processes_of(sign), [0_i32; 0]);
        assert_eq!(room.run(&room.plan(&["true"])).await.code(), 0, "{who:?}");
    }
}

#[tokio::test]
async fn a_task_that_is_dropped_ends() {
    for who in everybody() {
        for (room, confined) in rooms(who).await {
            let ready = room.root.join("ready");
            let sign = ready.to_str().unwrap();
            let mut plan = room.attack(&["daemon", sign]);
            if !confined {
                plan.confine = Confine::Never;
            }
            let task = room.sandbox.launch(&plan).unwrap();
            appears(&ready).await;
            drop(task);
            gone(sign).await;
        }
    }
}

#[tokio::test]
async fn a_task_stands_still_and_goes_on_as_it_is_told() {
    for who in everybody() {
        let room = Room::new(who).await;
        let beat = room.root.join("beat");
        let script = "while :; do echo x >> beat; sleep 0.01; done";
        let mut task = room.sandbox.launch(&room.plan(&["sh", "-c", script])).unwrap();
        appears(&beat).await;
        let size = || std::fs::metadata(&beat).unwrap().len();
        task.pause();
        steady(&size).await;
        let then = size();
        task.resume();
        let since = Instant::now();
        while size() == then {
            assert!(since.elapsed() < PATIENCE, "{who:?}: it does not go on");
            tokio::task::yield_now().await;
        }
        assert_eq!(task.clean_up().await.survivors, 0);
    }
}
