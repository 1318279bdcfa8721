//! Operations on files, done by the real worker in a real sandbox: what each does, and what it says when it cannot.

use crate::support::*;
use cortex_agent::files::{Bytes, Done, Entry, Kind, Last, Line, Stat};
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{FileWork, Work};
use cortex_model::{FileAction, FileOp, proto as pb};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// What came of an operation.
pub(crate) struct Worked {
    pub(crate) out: String,
    pub(crate) last: Last,
}

impl Worked {
    /// It was done.
    #[track_caller]
    pub(crate) fn done(&self) -> &Done {
        match &self.last {
            Last::Done(done) => done,
            Last::Error(error) => panic!("{error:?}"),
        }
    }

    /// The code with which it was not.
    #[track_caller]
    pub(crate) fn failed(&self) -> &str {
        match &self.last {
            Last::Error(error) => &error.code,
            Last::Done(done) => panic!("{done:?}"),
        }
    }

    fn lines<T: serde::de::DeserializeOwned>(&self) -> Vec<T> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A plan for an operation on a path of the room's root, as the policy would make it.
pub(crate) fn plan(room: &Room, path: &Path, op: FileOp) -> ProcessPlan {
    let action = FileAction { path: path.as_os_str().as_encoded_bytes().to_vec(), op };
    let mut plan = room.plan(&["true"]);
    plan.view.read_only = !action.changes();
    let work = FileWork { action, place: room.root.clone(), to_place: None };
    plan.work = Some(Box::new(Work::File(work)));
    plan
}

/// Does what a plan says.
pub(crate) async fn work(room: &Room, plan: &ProcessPlan) -> Worked {
    let ran = room.run(plan).await;
    let last = serde_json::from_str(ran.err.trim()).unwrap_or_else(|err| panic!("{err}: {ran:?}"));
    assert_eq!(ran.code(), i32::from(matches!(last, Last::Error(_))), "{ran:?}");
    assert_eq!(ran.remains.survivors, 0);
    Worked { out: ran.out, last }
}

/// One operation on a path below the root.
pub(crate) async fn on(room: &Room, path: &str, op: FileOp) -> Worked {
    work(room, &plan(room, &room.root.join(path), op)).await
}

pub(crate) fn write(content: &str) -> FileOp {
    FileOp::Write(pb::FileWrite { content: content.into(), ..Default::default() })
}

pub(crate) fn read() -> FileOp {
    FileOp::Read(Default::default())
}

fn replace(old: &str, new: &str) -> FileOp {
    let one = pb::FileReplacement { old: old.into(), new: new.into(), count: 0 };
    FileOp::Edit(pb::FileEdit { replace: vec![one], ..Default::default() })
}

pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    Sha256::digest(bytes.as_ref()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Rooms at every level that works on files.
async fn rooms() -> Vec<Room> {
    let mut rooms = Vec::new();
    for who in everybody() {
        rooms.push(Room::new(who).await);
        let attack = attacks();
        rooms.push(Room::behind(who, &[attack.to_str().unwrap(), "container"]).await);
    }
    rooms
}

#[tokio::test]
async fn a_file_is_written_read_edited_moved_and_removed() {
    for room in rooms().await {
        let at = |name: &str| room.root.join(name);
        let done = on(&room, "a.txt", write("one\ntwo\n")).await;
        assert_eq!((done.done().changed, done.done().size), (Some(true), Some(8)));
        assert_eq!(text(&at("a.txt")), "one\ntwo\n");
        assert_eq!(on(&room, "a.txt", write("one\ntwo\n")).await.done().changed, Some(false));
        let got = on(&room, "a.txt", read()).await;
        assert_eq!((got.out.as_str(), got.done().bytes), ("one\ntwo\n", Some(8)));
        assert_eq!(got.done().sha256.as_deref(), Some(hex(&sha256("one\ntwo\n")).as_str()));
        let range = pb::FileRead { offset: 4, length: 3, ..Default::default() };
        assert_eq!(on(&room, "a.txt", FileOp::Read(range)).await.out, "two");

        on(&room, "a.txt", replace("two", "zwei")).await.done();
        assert_eq!(on(&room, "a.txt", replace("two", "x")).await.failed(), "CX-1306");
        let diff = b"@@ -1,2 +1,2 @@\n-one\n+eins\n zwei\n".to_vec();
        let edit = |expect_sha256| {
            FileOp::Edit(pb::FileEdit { diff: diff.clone(), expect_sha256, ..Default::default() })
        };
        assert_eq!(on(&room, "a.txt", edit(sha256("other"))).await.failed(), "CX-1305");
        on(&room, "a.txt", edit(sha256("one\nzwei\n"))).await.done();
        assert_eq!(on(&room, "a.txt", edit(Vec::new())).await.failed(), "CX-1306");
        assert_eq!(text(&at("a.txt")), "eins\nzwei\n");

        let to = |name: &str, replace| {
            let to = at(name).as_os_str().as_encoded_bytes().to_vec();
            let mut plan = plan(
                &room,
                &at("a.txt"),
                FileOp::Move(pb::FileMove { to, replace, ..Default::default() }),
            );
            let Some(Work::File(work)) = plan.work.as_deref_mut() else { unreachable!() };
            work.to_place = Some(room.root.clone());
            plan
        };
        on(&room, "b.txt", write("b")).await.done();
        assert_eq!(work(&room, &to("b.txt", false)).await.failed(), "CX-1304");
        work(&room, &to("b.txt", true)).await.done();
        assert!(!at("a.txt").exists() && text(&at("b.txt")) == "eins\nzwei\n");
        let delete = || FileOp::Delete(Default::default());
        on(&room, "b.txt", delete()).await.done();
        assert_eq!(on(&room, "b.txt", delete()).await.failed(), "CX-1302");
        let missing_ok = pb::FileDelete { missing_ok: true, ..Default::default() };
        assert_eq!(on(&room, "b.txt", FileOp::Delete(missing_ok)).await.done().count, Some(0));
        assert_eq!(on(&room, "no/where", write("x")).await.failed(), "CX-1302");
        assert_eq!(std::fs::read_dir(&room.root).unwrap().count(), 0, "something was left behind");
    }
}

#[tokio::test]
async fn conditions_of_a_write_are_kept() {
    for who in everybody() {
        let room = Room::new(who).await;
        let path = room.root.join("f");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640))
            .unwrap();
        room.give(&path);
        let with = |change: fn(&mut pb::FileWrite)| {
            let mut write = pb::FileWrite { content: b"new".to_vec(), ..Default::default() };
            change(&mut write);
            FileOp::Write(write)
        };
        assert_eq!(on(&room, "f", with(|w| w.new_only = true)).await.failed(), "CX-1304");
        assert_eq!(
            on(&room, "f", with(|w| w.expect_sha256 = sha256("x"))).await.failed(),
            "CX-1305"
        );
        assert_eq!(
            on(&room, "g", with(|w| w.expect_sha256 = sha256("x"))).await.failed(),
            "CX-1305"
        );
        assert_eq!(text(&path), "old");
        let mode = |path: &Path| {
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions())
                & 0o7777
        };
        on(&room, "f", with(|w| w.expect_sha256 = sha256("old"))).await.done();
        assert_eq!((text(&path).as_str(), mode(&path)), ("new", 0o640));
        on(&room, "f", with(|w| w.mode = 0o755)).await.done();
        assert_eq!(mode(&path), 0o755);
        on(&room, "d/e/f", with(|w| w.parents = true)).await.done();
        assert_eq!(text(&room.root.join("d/e/f")), "new");
        assert_eq!(mode(&room.root.join("d/e/f")), 0o644);
        assert_eq!(on(&room, "d", write("x")).await.failed(), "CX-1303");
    }
}

#[tokio::test]
async fn directories_are_listed_and_things_are_described() {
    for room in rooms().await {
        let odd = std::ffi::OsStr::new("b\n\u{1b}[2J");
        let raw: std::ffi::OsString =
            std::os::unix::ffi::OsStringExt::from_vec(b"\xff.bin".to_vec());
        let raw = PathBuf::from(raw);
        for name in [Path::new("a"), Path::new(odd), &raw] {
            on_path(&room, name, write("12345")).await.done();
        }
        std::fs::create_dir(room.root.join("dir")).unwrap();
        std::os::unix::fs::symlink("dir/x", room.root.join("link")).unwrap();
        let listed = on(&room, "", FileOp::List(Default::default())).await;
        let entries: Vec<Entry> = listed.lines();
        let names: Vec<&[u8]> = entries.iter().map(|e| e.path.0.as_slice()).collect();
        assert_eq!(names, [b"a".as_slice(), b"b\n\x1b[2J", b"dir", b"link", b"\xff.bin"]);
        let kinds: Vec<Kind> = entries.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [Kind::File, Kind::File, Kind::Dir, Kind::Link, Kind::File]);
        assert_eq!(entries[3].target, Some(Bytes(b"dir/x".to_vec())));
        let some = on(&room, "", FileOp::List(pb::FileList { limit: 2 })).await;
        assert_eq!((some.done().count, some.done().more), (Some(2), true));
        assert_eq!(on_path(&room, &raw, read()).await.out, "12345");

        let stat = |sha256, link| FileOp::Stat(pb::FileStat { sha256, link });
        let told: Vec<Stat> = on(&room, "a", stat(true, false)).await.lines();
        assert_eq!(told[0].sha256.as_deref(), Some(hex(&sha256("12345")).as_str()));
        assert_eq!((told[0].entry.size, told[0].links), (5, 1));
        let version = |expect: &str| {
            let expect_version = expect.to_owned();
            FileOp::Read(pb::FileRead { expect_version, ..Default::default() })
        };
        on(&room, "a", version(&told[0].version)).await.done();
        std::fs::write(room.root.join("a"), "54321").unwrap();
        assert_eq!(on(&room, "a", version(&told[0].version)).await.failed(), "CX-1305");
        let link: Vec<Stat> = on(&room, "link", stat(false, true)).await.lines();
        assert_eq!(link[0].entry.kind, Kind::Link);
        assert_eq!(on(&room, "dir", stat(true, false)).await.failed(), "CX-1303");
        assert_eq!(on(&room, "a", FileOp::List(Default::default())).await.failed(), "CX-1303");
    }
}

async fn on_path(room: &Room, path: &Path, op: FileOp) -> Worked {
    work(room, &plan(room, &room.root.join(path), op)).await
}

#[tokio::test]
async fn files_and_lines_are_found_and_ignore_files_honoured() {
    for room in rooms().await {
        for (path, content) in [
            ("src/main.rs", "fn main() {\n    needle();\n}\n"),
            ("src/deep/lib.rs", "// NEEDLE\nfn other() {}\n"),
            ("target/out.rs", "needle\n"),
            (".hidden.rs", "needle\n"),
            ("notes.txt", "a needle.\n"),
            ("bin.rs", "needle\0needle\n"),
            (".gitignore", "target/\n"),
        ] {
            let op = pb::FileWrite { content: content.into(), parents: true, ..Default::default() };
            on(&room, path, FileOp::Write(op)).await.done();
        }
        let glob = |patterns: &[&str], all| {
            let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
            FileOp::Glob(pb::FileGlob { patterns, all, limit: 0 })
        };
        let paths = |worked: &Worked| -> Vec<String> {
            let entries: Vec<Entry> = worked.lines();
            entries.iter().map(|e| String::from_utf8_lossy(&e.path.0).into_owned()).collect()
        };
        let found = on(&room, "", glob(&["*.rs"], false)).await;
        assert_eq!(paths(&found), ["bin.rs", "src/deep/lib.rs", "src/main.rs"]);
        let found = on(&room, "", glob(&["*.rs"], true)).await;
        assert_eq!(paths(&found).len(), 5, "{}", found.out);
        assert_eq!(paths(&on(&room, "", glob(&["src/*.rs"], false)).await), ["src/main.rs"]);
        assert_eq!(on(&room, "", glob(&["a{"], false)).await.failed(), "CX-1301");

        let search = |pattern: &str, change: fn(&mut pb::FileSearch)| {
            let mut search = pb::FileSearch { pattern: pattern.to_owned(), ..Default::default() };
            change(&mut search);
            FileOp::Search(search)
        };
        let hits = |worked: &Worked| -> Vec<(String, u64)> {
            let lines: Vec<Line> = worked.lines();
            let matched = lines.iter().filter(|line| line.matched);
            matched.map(|l| (String::from_utf8_lossy(&l.path.0).into_owned(), l.line)).collect()
        };
        let hit = |path: &str, line| (path.to_owned(), line);
        let found = on(&room, "", search("needle", |_| {})).await;
        assert_eq!(hits(&found), [hit("notes.txt", 1), hit("src/main.rs", 2)]);
        let found = on(&room, "", search("needle", |s| s.ignore_case = true)).await;
        assert!(hits(&found).contains(&hit("src/deep/lib.rs", 1)), "{}", found.out);
        let found = on(&room, "", search("needle.", |s| s.literal = true)).await;
        assert_eq!(hits(&found), [hit("notes.txt", 1)]);
        let found = on(&room, "", search("^fn", |s| s.globs = vec!["**/lib.rs".into()])).await;
        assert_eq!(hits(&found), [hit("src/deep/lib.rs", 2)]);
        let around = on(&room, "src/main.rs", search("needle", |s| s.context = 1)).await;
        assert_eq!(around.lines::<Line>().len(), 3, "{}", around.out);
        let one = on(&room, "", search("needle", |s| s.limit = 1)).await;
        assert_eq!((one.done().count, one.done().more), (Some(1), true));
        assert_eq!(on(&room, "", search("(", |_| {})).await.failed(), "CX-1301");
    }
}

#[tokio::test]
async fn a_file_in_pieces_is_put_in_place_when_all_of_it_is_right() {
    for room in rooms().await {
        let (size, whole) = (10, b"0123456789");
        let begin = || FileOp::Receive(pb::FileReceive { size, sha256: sha256(whole) });
        let part = on(&room, "big", begin()).await.done().part.clone().unwrap();
        let chunk = |part: &str, offset: usize, data: &[u8], sum: Vec<u8>| {
            let (part, offset, data) = (part.to_owned(), offset as u64, data.to_vec());
            FileOp::Chunk(pb::FileChunk { part, offset, data, sha256: sum })
        };
        let finish = |part: &str, change: fn(&mut pb::FileFinish)| {
            let (part, sha256) = (part.to_owned(), sha256(whole));
            let mut finish = pb::FileFinish { part, size, sha256, ..Default::default() };
            change(&mut finish);
            FileOp::Finish(finish)
        };
        // Out of order, and one of them twice.
        for at in [5, 0, 5] {
            let data = &whole[at..at + 5];
            on(&room, "big", chunk(&part, at, data, sha256(data))).await.done();
        }
        let wrong = chunk(&part, 0, b"abc", sha256("abd"));
        assert_eq!(on(&room, "big", wrong).await.failed(), "CX-1311");
        let again = on(&room, "big", begin()).await;
        assert_eq!((again.done().part.as_ref(), again.done().bytes), (Some(&part), Some(10)));
        on(&room, "big", finish(&part, |f| f.mode = 0o600)).await.done();
        assert_eq!(text(&room.root.join("big")), "0123456789");
        assert_eq!(std::fs::read_dir(&room.root).unwrap().count(), 1);
        // The answer was lost, or comes from the past.
        assert_eq!(on(&room, "big", finish(&part, |_| {})).await.done().changed, Some(false));
        let late = chunk(&part, 0, b"01234", sha256("01234"));
        assert_eq!(on(&room, "big", late).await.failed(), "CX-1310");

        let part = on(&room, "big", begin()).await.done().part.clone().unwrap();
        on(&room, "big", chunk(&part, 0, b"x", sha256("x"))).await.done();
        assert_eq!(on(&room, "big", finish(&part, |_| {})).await.failed(), "CX-1311");
        assert_eq!(text(&room.root.join("big")), "0123456789");
        let part = on(&room, "big", begin()).await.done().part.clone().unwrap();
        on(&room, "big", chunk(&part, 0, whole, sha256(whole))).await.done();
        assert_eq!(
            on(&room, "big", finish(&part, |f| f.new_only = true)).await.failed(),
            "CX-1304"
        );
        let expects = finish(&part, |f| f.expect_sha256 = sha256("other"));
        assert_eq!(on(&room, "big", expects).await.failed(), "CX-1305");
        let huge = FileOp::Receive(pb::FileReceive { size: 1 << 60, sha256: sha256("") });
        assert_eq!(on(&room, "huge", huge).await.failed(), "CX-1308");
        assert!(!room.root.join("huge").exists());
    }
}
