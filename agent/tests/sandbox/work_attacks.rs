//! What somebody who may write in a root can do to a worker that is sent there: swap names, put links and pipes in the way,
//! and wait. Each row with a control that shows that the attack works on what is not careful.

use crate::support::*;
use crate::work::{on, plan, read, sha256, work, write};
use cortex_agent_core::plan::{FileWork, Work};
use cortex_model::{FileAction, FileOp, proto as pb};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn rename(room: &Room, from: &Path, to: &Path) -> cortex_agent_core::ProcessPlan {
    let op = FileOp::Move(pb::FileMove { to: bytes(to), ..Default::default() });
    let mut plan = plan(room, from, op);
    let place = |path: &Path| {
        if path.starts_with(&room.root) {
            room.root.clone()
        } else {
            path.parent().unwrap().to_owned()
        }
    };
    let Some(Work::File(work)) = plan.work.as_deref_mut() else { unreachable!() };
    work.to_place = Some(place(to));
    plan
}

#[tokio::test]
async fn a_link_in_the_way_is_followed_nowhere() {
    for who in everybody() {
        let room = Room::new(who).await;
        let outside = room.secret.parent().unwrap();
        // What was a directory and a file when it was looked at.
        symlink(outside, room.root.join("dir")).unwrap();
        symlink(&room.secret, room.root.join("file")).unwrap();
        symlink("../outside", room.root.join("relative")).unwrap();
        for name in ["dir/secret", "file", "relative/secret"] {
            let control = std::fs::read_to_string(room.root.join(name)).unwrap();
            assert_eq!(control, "the secret\n", "{name}");
        }
        let edit = || {
            let one = pb::FileReplacement { old: b"the".to_vec(), new: b"no".to_vec(), count: 0 };
            FileOp::Edit(pb::FileEdit { replace: vec![one], ..Default::default() })
        };
        let delete = |recursive| FileOp::Delete(pb::FileDelete { recursive, ..Default::default() });
        let receive = || FileOp::Receive(pb::FileReceive { size: 1, sha256: sha256("x") });
        for (name, op, codes) in [
            ("dir/secret", read(), ["CX-1307", "CX-1307"]),
            ("file", read(), ["CX-1307", "CX-1303"]),
            ("relative/secret", read(), ["CX-1307", "CX-1307"]),
            ("dir", FileOp::List(Default::default()), ["CX-1307", "CX-1303"]),
            (
                "dir",
                FileOp::Glob(pb::FileGlob { patterns: vec!["*".into()], ..Default::default() }),
                ["CX-1307", "CX-1303"],
            ),
            (
                "dir/secret",
                FileOp::Search(pb::FileSearch { pattern: "s".into(), ..Default::default() }),
                ["CX-1307", "CX-1307"],
            ),
            ("dir/new", write("x"), ["CX-1307", "CX-1307"]),
            ("file", write("x"), ["CX-1303", "CX-1307"]),
            ("dir/secret", edit(), ["CX-1307", "CX-1307"]),
            ("file", edit(), ["CX-1303", "CX-1307"]),
            ("dir/secret", delete(false), ["CX-1307", "CX-1307"]),
            ("dir/new", receive(), ["CX-1307", "CX-1307"]),
            ("file", receive(), ["CX-1303", "CX-1307"]),
        ] {
            let worked = on(&room, name, op.clone()).await;
            assert!(codes.contains(&worked.failed()), "{who:?} {name} {op:?}: {:?}", worked.last);
            assert!(!worked.out.contains("secret"), "{who:?} {name} {op:?}: {}", worked.out);
        }
        // A link is removed itself; what it leads to stays.
        std::fs::create_dir(room.root.join("tree")).unwrap();
        room.give(&room.root.join("tree"));
        symlink(outside, room.root.join("tree/dir")).unwrap();
        on(&room, "tree", delete(true)).await.done();
        on(&room, "dir", delete(true)).await.done();
        assert_eq!(std::fs::read_to_string(&room.secret).unwrap(), "the secret\n");
        assert_eq!(std::fs::read_dir(outside).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn dots_absolute_paths_and_magic_links_do_not_leave_the_place() {
    for who in everybody() {
        let room = Room::new(who).await;
        let up = room.root.join("../outside/secret");
        assert_eq!(std::fs::read_to_string(&up).unwrap(), "the secret\n", "the control");
        assert_eq!(work(&room, &plan(&room, &up, read())).await.failed(), "CX-1307");
        assert_eq!(work(&room, &plan(&room, &up, write("x"))).await.failed(), "CX-1307");
        // A path that does not lie in its place at all.
        assert_eq!(work(&room, &plan(&room, &room.secret, read())).await.failed(), "CX-1307");
        let magic = format!("/proc/self/root{}", room.secret.display());
        assert_eq!(std::fs::read_to_string(&magic).unwrap(), "the secret\n", "the control");
        for path in [magic.as_str(), "/proc/self/cwd/etc/passwd", "/proc/self/exe"] {
            let action = FileAction { path: path.as_bytes().to_vec(), op: read() };
            let mut plan = room.plan(&["true"]);
            let file = FileWork { action, place: "/proc".into(), to_place: None };
            plan.work = Some(Box::new(Work::File(file)));
            assert_eq!(work(&room, &plan).await.failed(), "CX-1307", "{path}");
        }
        assert_eq!(std::fs::read_to_string(&room.secret).unwrap(), "the secret\n");
    }
}

#[tokio::test]
async fn a_directory_that_becomes_a_link_again_and_again_leaks_nothing() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    for who in everybody() {
        let room = Room::new(who).await;
        let (dir, swap) = (room.root.join("dir"), room.root.join("swap"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("secret"), "public\n").unwrap();
        for path in [&dir, &dir.join("secret")] {
            room.give(path);
        }
        symlink(room.secret.parent().unwrap(), &swap).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let flipper = {
            let (over, dir, swap) = (Arc::clone(&over), dir.clone(), swap.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    renameat_with(CWD, &dir, CWD, &swap, RenameFlags::EXCHANGE).unwrap();
                    std::thread::yield_now();
                }
            })
        };
        // The control: whoever looks first and opens then is led outside.
        let mut escaped = false;
        let begun = std::time::Instant::now();
        while !escaped && begun.elapsed() < PATIENCE {
            let safe = std::fs::canonicalize(&dir).is_ok_and(|real| real.starts_with(&room.root));
            let got = std::fs::read_to_string(dir.join("secret")).unwrap_or_default();
            escaped = safe && got == "the secret\n";
        }
        assert!(escaped, "the control never escaped");
        let outside = room.secret.parent().unwrap().to_owned();
        let (mut read_it, mut refused) = (0, 0);
        for round in 0..60 {
            // The view shows what is outside, so that nothing but the worker's own care is between.
            let mut seen = plan(&room, &room.root.join("dir/secret"), read());
            seen.view.read.push(outside.clone());
            let worked = work(&room, &seen).await;
            match worked.out.as_str() {
                "public\n" => read_it += 1,
                "" => refused += 1,
                other => panic!("{who:?}: {other}"),
            }
            // Writes too: whatever they hit, it lies in the root.
            let content = if round % 2 == 0 { "public\n" } else { "public\n " };
            let mut open = plan(&room, &room.root.join("dir/new"), write(content));
            open.view.write.push(outside.clone());
            drop(work(&room, &open).await);
        }
        over.store(true, Ordering::Relaxed);
        flipper.join().unwrap();
        assert_eq!(std::fs::read_dir(room.secret.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(read_it + refused, 60);
    }
}

#[tokio::test]
async fn pipes_devices_and_endless_files_are_not_waited_for() {
    for who in everybody() {
        let room = Room::new(who).await;
        let fifo = room.root.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(room.root.join("socket")).unwrap();
        for path in [&fifo, &room.root.join("socket")] {
            room.give(path);
        }
        let search =
            || FileOp::Search(pb::FileSearch { pattern: "x".into(), ..Default::default() });
        for name in ["fifo", "socket"] {
            for op in [
                read(),
                search(),
                write("x"),
                FileOp::Stat(pb::FileStat { sha256: true, link: false }),
            ] {
                assert_eq!(on(&room, name, op).await.failed(), "CX-1303", "{who:?} {name}");
            }
        }
        assert_eq!(on(&room, "", search()).await.done().count, Some(0));
        let action = FileAction { path: b"/dev/zero".to_vec(), op: read() };
        let mut zero = room.plan(&["true"]);
        let file = FileWork { action, place: "/dev".into(), to_place: None };
        zero.work = Some(Box::new(Work::File(file)));
        assert_eq!(work(&room, &zero).await.failed(), "CX-1303");
        // One terabyte of nothing: a range of it is read at once, and it is not edited in memory.
        let sparse = room.root.join("sparse");
        std::fs::File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
        room.give(&sparse);
        let range = pb::FileRead { offset: (1 << 40) - 4, length: 16, ..Default::default() };
        let end = on(&room, "sparse", FileOp::Read(range)).await;
        assert_eq!((end.out.as_str(), end.done().bytes), ("\0\0\0\0", Some(4)));
        let beyond = pb::FileRead { offset: u64::MAX, length: 16, ..Default::default() };
        on(&room, "sparse", FileOp::Read(beyond)).await.failed();
        let diff = pb::FileEdit { diff: b"@@ -1 +1 @@\n-a\n+b\n".to_vec(), ..Default::default() };
        assert_eq!(on(&room, "sparse", FileOp::Edit(diff)).await.failed(), "CX-1312");
    }
}

#[tokio::test]
async fn another_name_of_a_file_keeps_its_content() {
    for who in everybody() {
        let room = Room::new(who).await;
        std::fs::hard_link(&room.secret, room.root.join("hard")).unwrap();
        on(&room, "hard", write("mine\n")).await.done();
        assert_eq!(std::fs::read_to_string(&room.secret).unwrap(), "the secret\n");
        assert_eq!(std::fs::read_to_string(room.root.join("hard")).unwrap(), "mine\n");
        // The control: writing into the file would have changed both.
        std::fs::hard_link(&room.secret, room.root.join("hard2")).unwrap();
        std::fs::write(room.root.join("hard2"), "gone\n").unwrap();
        assert_eq!(std::fs::read_to_string(&room.secret).unwrap(), "gone\n");
        // A part with a second name is not ours alone.
        let begin = FileOp::Receive(pb::FileReceive { size: 1, sha256: sha256("x") });
        let part = on(&room, "big", begin).await.done().part.clone().unwrap();
        let path = room.root.join(format!(".cortex-part-{part}"));
        std::fs::hard_link(&path, room.root.join("second")).unwrap();
        let chunk = pb::FileChunk { part, offset: 0, data: b"x".to_vec(), sha256: sha256("x") };
        assert_eq!(on(&room, "big", FileOp::Chunk(chunk)).await.failed(), "CX-1310");
    }
}

#[tokio::test]
async fn what_is_protected_hidden_or_a_root_stays_as_it_is() {
    for who in everybody() {
        let room = Room::new(who).await;
        let at = |name: &str| room.root.join(name);
        std::fs::create_dir_all(at(".git/hooks")).unwrap();
        std::fs::write(at(".env"), "TOKEN=1").unwrap();
        for name in [".git", ".git/hooks", ".env"] {
            room.give(&at(name));
        }
        let guarded = |mut plan: cortex_agent_core::ProcessPlan| {
            plan.view.protect = vec![at(".git/hooks")];
            plan.view.deny = vec![at(".env")];
            plan
        };
        let delete = || FileOp::Delete(pb::FileDelete { recursive: true, ..Default::default() });
        for (name, op) in [
            (".git/hooks/x", write("x")),
            (".git/hooks", delete()),
            (".git", delete()),
            (".env", read()),
            (".env", write("x")),
            (".env", delete()),
        ] {
            let inside = work(&room, &guarded(plan(&room, &at(name), op))).await;
            assert!(
                ["CX-1307", "CX-1303"].contains(&inside.failed()),
                "{who:?} {name}: {:?}",
                inside.last
            );
        }
        let moved = work(&room, &guarded(rename(&room, &at(".git"), &at("g2")))).await;
        assert_eq!(moved.failed(), "CX-1307", "{who:?}");
        let over = work(&room, &guarded(rename(&room, &at(".env"), &at("seen")))).await;
        assert_eq!(over.failed(), "CX-1307", "{who:?}");
        // A root itself.
        assert_eq!(work(&room, &plan(&room, &room.root, delete())).await.failed(), "CX-1307");
        assert!(at(".git/hooks").is_dir() && !at(".git/hooks/x").exists());
        // The control: unprotected, the same is done.
        on(&room, ".git/hooks/x", write("x")).await.done();
        assert_eq!(on(&room, ".env", read()).await.out, "TOKEN=1");
        work(&room, &rename(&room, &at(".git"), &at("g2"))).await.done();
    }
}

#[tokio::test]
async fn between_two_roots_files_are_moved_and_nothing_else() {
    for who in everybody() {
        let room = Room::new(who).await;
        let other = room.secret.parent().unwrap().to_owned();
        on(&room, "file", write("content")).await.done();
        std::fs::create_dir(room.root.join("dir")).unwrap();
        room.give(&room.root.join("dir"));
        let across = |name: &str, to: &str| {
            let mut plan = rename(&room, &room.root.join(name), &other.join(to));
            plan.view.roots.push(other.clone());
            plan
        };
        assert_eq!(work(&room, &across("file", "secret")).await.failed(), "CX-1304");
        work(&room, &across("file", "moved")).await.done();
        assert_eq!(std::fs::read_to_string(other.join("moved")).unwrap(), "content");
        assert!(!room.root.join("file").exists());
        assert_eq!(work(&room, &across("dir", "dir")).await.failed(), "CX-1303");
        assert!(room.root.join("dir").is_dir());
        // Without the second root in the view there is no such place.
        let mut blind = across("dir", "dir2");
        blind.view.roots.pop();
        assert_eq!(work(&room, &blind).await.failed(), "CX-1302", "{who:?}");
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 2);
    }
}

#[tokio::test]
async fn a_file_that_may_not_grow_so_large_leaves_the_old_one() {
    for who in everybody() {
        let room = Room::new(who).await;
        on(&room, "f", write("old")).await.done();
        let mut large = plan(&room, &room.root.join("f"), write(&"x".repeat(10_000)));
        large.limits.file_size = Some(1_000);
        assert_eq!(work(&room, &large).await.failed(), "CX-1308", "{who:?}");
        assert_eq!(std::fs::read_to_string(room.root.join("f")).unwrap(), "old");
        assert_eq!(std::fs::read_dir(&room.root).unwrap().count(), 1, "something was left behind");
    }
}

#[tokio::test]
async fn a_worker_has_no_right_that_a_file_does_not_give_its_user() {
    use std::os::unix::fs::PermissionsExt as _;
    for who in everybody() {
        let room = Room::new(who).await;
        let shut = room.root.join("shut");
        std::fs::write(&shut, "shut").unwrap();
        room.give(&shut);
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o0)).unwrap();
        assert_eq!(on(&room, "shut", read()).await.failed(), "CX-1307", "{who:?}");
        if rustix::process::geteuid().is_root() {
            assert_eq!(std::fs::read_to_string(&shut).unwrap(), "shut", "the control");
        }
    }
}
