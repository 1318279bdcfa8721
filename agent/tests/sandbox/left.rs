//! What a task leaves behind: a repository that it makes is named when it is over, at every level and however it ended; and the one
//! who looks is held as the task was.

use crate::support::*;
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::Level;
use cortex_model::NewRepositories;
use std::path::Path;

async fn rooms(who: Who) -> [(Level, Room); 2] {
    let attack = attacks();
    let contained = Room::behind(who, &[attack.to_str().unwrap(), "container"]).await;
    [(Level::Full, Room::new(who).await), (Level::Landlock, contained)]
}

fn sh(room: &Room, script: &str) -> ProcessPlan {
    let mut plan = room.plan(&["sh", "-ec", script]);
    let git = [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b"), ("HOME", "/nowhere")];
    let more = [("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b")];
    plan.env.extend(git.iter().chain(&more).map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())));
    plan
}

/// Makes things before the task of a test, so long before that the file system's clock has moved on.
async fn before(room: &Room, script: &str) {
    let ran = room.run(&sh(room, script)).await;
    assert_eq!(ran.code(), 0, "{ran:?}");
    ticked(&room.root).await;
}

fn named(root: &Path, new: Option<NewRepositories>) -> (Vec<String>, Vec<String>) {
    let new = new.expect("nobody looked");
    let below = |path: Vec<u8>| {
        let path = String::from_utf8(path).unwrap();
        path.strip_prefix(root.to_str().unwrap()).expect("outside of the root").to_owned()
    };
    let mut names: Vec<String> = new.paths.into_iter().map(below).collect();
    names.sort();
    (names, new.gaps)
}

#[tokio::test]
async fn a_repository_that_a_task_makes_is_named_and_one_that_was_there_is_not() {
    for who in everybody() {
        for (level, room) in rooms(who).await {
            assert_eq!(room.armed().level, level, "{who:?}: {}", room.armed().why);
            before(&room, "git init -q old; git init -q .; mkdir -p deep/er").await;
            let script = "git init -q deep/er/new
                cd deep/er/new; git config core.fsmonitor ./run; cd ../../..
                git init -q --bare \"$(printf 'bare\\033[2J')\"
                git -C old commit -q --allow-empty -m one; git checkout -q -b other
                git commit -q --allow-empty -m two; git worktree add -q tree
                rm -rf gone; git init -q gone; rm -rf gone";
            let mut ran = room.run(&sh(&room, script)).await;
            assert_eq!((ran.code(), ran.remains.survivors), (0, 0), "{who:?} {level:?}: {ran:?}");
            let found = named(&room.root, ran.remains.repositories.take());
            let names = ["/bare\u{1b}[2J", "/deep/er/new", "/tree"].map(str::to_owned).to_vec();
            assert_eq!(found, (names, Vec::new()), "{who:?} {level:?}");
            // Where nothing can be written there is nothing to look for.
            let mut plan = sh(&room, "git -C old status -s");
            plan.view.read_only = true;
            let ran = room.run(&plan).await;
            assert_eq!((ran.code(), &ran.remains.repositories), (0, &None), "{ran:?}");
            // The next task made none of them.
            let mut ran = room.run(&sh(&room, "echo x > file")).await;
            let found = named(&room.root, ran.remains.repositories.take());
            assert_eq!(found, Default::default(), "{who:?} {level:?}");
        }
    }
}

#[tokio::test]
async fn it_is_named_too_when_the_task_is_killed_leaves_others_behind_or_takes_its_directory_away()
{
    for who in everybody() {
        for (level, room) in rooms(who).await {
            let script = "git init -q a; echo made > made; exec sleep 1000";
            let mut task = room.sandbox.launch(&sh(&room, script)).unwrap();
            appears(&room.root.join("made")).await;
            task.kill();
            let mut ran = room.finish(&mut task).await;
            assert_eq!(ran.remains.survivors, 0, "{who:?} {level:?}");
            let found = named(&room.root, ran.remains.repositories.take());
            assert_eq!(found.0, ["/a"], "{who:?} {level:?} {found:?}");
            before(&room, "rm -rf a").await;
            let mut ran = room.run(&sh(&room, "git init -q b; sleep 1000 & exit 0")).await;
            assert_eq!((ran.code(), ran.remains.survivors), (0, 0), "{who:?} {level:?}: {ran:?}");
            assert_eq!(named(&room.root, ran.remains.repositories.take()).0, ["/b"]);
            before(&room, "rm -rf b; mkdir work").await;
            let mut plan = sh(&room, "git init -q ../c; rmdir ../work; rm -f ../made");
            plan.cwd = room.root.join("work");
            let mut ran = room.run(&plan).await;
            let found = named(&room.root, ran.remains.repositories.take());
            assert_eq!(found, (vec!["/c".to_owned()], Vec::new()), "{who:?} {level:?}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn who_looks_is_led_nowhere_and_says_what_it_could_not_look_into() {
    for who in everybody() {
        let room = Room::new(who).await;
        let outside = room.secret.parent().unwrap().to_str().unwrap().to_owned();
        let link = format!("ln -s {outside} link; mkdir hidden open");
        before(&room, &link).await;
        let mut plan = sh(
            &room,
            "git init -q open/new; git init -q shut/in; chmod 0 shut; echo made > made; while test ! -e go; do :; done",
        );
        plan.view.deny = vec![room.root.join("hidden")];
        let mut task = room.sandbox.launch(&plan).unwrap();
        appears(&room.root.join("made")).await;
        // In the same time somebody else makes more, where the task cannot look.
        for place in [Path::new(&outside).join("theirs"), room.root.join("hidden/theirs")] {
            for dir in [".git/objects", ".git/refs"] {
                std::fs::create_dir_all(place.join(dir)).unwrap();
            }
            assert!(room.root.join("link").exists(), "the control: whoever follows it gets there");
        }
        std::fs::write(room.root.join("go"), "x").unwrap();
        let mut ran = room.finish(&mut task).await;
        assert_eq!(ran.code(), 0, "{ran:?}");
        let (names, gaps) = named(&room.root, ran.remains.repositories.take());
        assert_eq!(names, ["/open/new"], "{who:?}");
        // What the task shut itself. In what is hidden from it it could make nothing.
        assert_eq!(gaps, ["1 directories could not be looked into"], "{who:?}");
    }
}
