//! Limits: what a task may use, and what happens beyond.

use crate::support::*;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_file_grows_to_its_limit_and_no_further() {
    for who in everybody() {
        let room = Room::new(who).await;
        let file = room.root.join("file");
        let words = ["fsize", file.to_str().unwrap()];
        let mut plan = room.attack(&words);
        plan.limits.file_size = Some(5 << 20);
        let ran = room.run(&plan).await;
        assert!(ran.out.starts_with("BLOCKED"), "{who:?}: {ran:?}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 5 << 20);
        assert!(room.inside(&words).await.starts_with("ESCAPED"), "the control");
    }
}

#[tokio::test]
async fn a_task_beyond_its_memory_is_ended_as_one_process_or_as_many() {
    for who in everybody() {
        let room = Room::new(who).await;
        for words in [["alloc", "400", "60"], ["many", "8", "60"]] {
            let mut plan = room.attack(&words);
            plan.limits.memory = Some(128 << 20);
            let ran = room.run(&plan).await;
            // A single process is refused more; together they are ended.
            let refused = ran.out.starts_with("BLOCKED at");
            assert!(refused || ran.remains.killed_by == "memory", "{who:?} {words:?}: {ran:?}");
            assert_eq!(ran.remains.survivors, 0);
            // The sandbox lives on.
            assert_eq!(room.run(&room.plan(&["true"])).await.code(), 0);
        }
        let control = room.inside(&["alloc", "200"]).await;
        assert!(control.starts_with("ESCAPED"), "{who:?} control: {control}");
    }
}

#[tokio::test]
async fn a_fork_bomb_stops_at_its_limit() {
    for who in everybody() {
        let room = Room::new(who).await;
        let mut plan = room.attack(&["fork", "400", "30"]);
        plan.limits.pids = Some(40);
        let ran = room.run(&plan).await;
        let stopped = ran.out.starts_with("BLOCKED after");
        assert!(stopped || ran.remains.killed_by == "pids", "{who:?}: {ran:?}");
        assert_eq!(ran.remains.survivors, 0);
        let control = room.inside(&["fork", "400"]).await;
        assert!(control.starts_with("ESCAPED"), "{who:?} control: {control}");
    }
}

#[tokio::test]
async fn burners_get_the_share_of_the_processor_that_they_were_given() {
    for who in everybody() {
        let room = Room::new(who).await;
        let mut plan = room.attack(&["burn", "8", "4"]);
        plan.limits.cpu_percent = Some(50);
        let began = Instant::now();
        let ran = room.run(&plan).await;
        let took = began.elapsed();
        let used = Duration::from_micros(ran.remains.used.cpu_us);
        let share = used.as_secs_f64() / took.as_secs_f64();
        // On a machine under load they may get less; never much more.
        assert!(share < 0.75, "{who:?}: {share:.2} of one processor, {ran:?}");
        assert!(share > 0.05, "{who:?}: {share:.2} of one processor, {ran:?}");
    }
}
