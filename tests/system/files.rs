//! Operations on files of a node, over the real tunnel: `cortex fs` and `cortex cp`, with everything that can be killed
//! killed, a disk that fills, and a source that changes.

use crate::disk::{SmallDisk, fill};
use crate::support::{Server, wait};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// A server whose node opens a directory.
pub(crate) struct Desk {
    pub(crate) server: Server,
    pub(crate) root: PathBuf,
    policy: String,
}

impl Desk {
    #[track_caller]
    pub(crate) fn start() -> Desk {
        Desk::with_root("work", "")
    }

    /// With other lines in the policy.
    #[track_caller]
    pub(crate) fn with_root(root: &str, lines: &str) -> Desk {
        let server = Server::start(&[]);
        let root = server.path(root);
        fs::create_dir_all(&root).unwrap();
        let root = root.canonicalize().unwrap();
        let policy = format!(
            "version = 1\nname = \"desk\"\nstrict = \"off\"\nprograms.search = [\"/usr/bin\", \"/bin\"]\n{lines}\n\
             [paths]\nroots = [{root:?}]\nread = [\"@system\"]\ndeny = [\"@secrets\", \"**/.env\"]\n\
             [files]\nread = \"allow\"\nwrite = \"allow\"\n\
             [[rule]]\nid = \"any\"\nprogram = [\"seq\", \"cat\"]\nargs = \"any\"\neffect = \"allow\"\n"
        );
        let desk = Desk { server, root, policy };
        desk.open();
        desk
    }

    /// Writes the policy and waits until the node has told what it opens.
    #[track_caller]
    fn open(&self) {
        fs::write(self.server.data().join("agent/policy.toml"), &self.policy).unwrap();
        wait::until("the node to open files", || {
            let nodes = self.server.nodes();
            let text = nodes.iter().map(ToString::to_string).collect::<String>();
            text.contains("\"files\"").then_some(())
        });
    }

    pub(crate) fn node(&self) -> String {
        self.server.nodes()[0]["node"].as_str().unwrap().to_owned()
    }

    /// `NODE:PATH`.
    pub(crate) fn there(&self, path: &str) -> String {
        format!("{}:{path}", self.node())
    }
}

#[test]
fn files_are_tasks_with_key_journal_and_history() {
    let desk = Desk::start();
    let server = &desk.server;
    let write = |key: &str, text: &str| {
        let args = ["fs", "write", "--key", key, "dir/notes.txt", "--parents"];
        server.spawn_with(&args, text.as_bytes()).end()
    };
    write("k1", "one\ntwo\n").ok().says(&["dir/notes.txt: 8 bytes, sha256 "]);
    assert_eq!(fs::read_to_string(desk.root.join("dir/notes.txt")).unwrap(), "one\ntwo\n");
    // The same key is the same task: nothing is written again; another request is a conflict.
    fs::write(desk.root.join("dir/notes.txt"), "changed\n").unwrap();
    write("k1", "one\ntwo\n").ok();
    assert_eq!(fs::read_to_string(desk.root.join("dir/notes.txt")).unwrap(), "changed\n");
    write("k1", "three\n").with(125).complains(&["CX-0202", "file.write"]);

    let read = server.cortex(&["fs", "read", "dir/notes.txt"]).ok();
    assert_eq!(read.stdout, b"changed\n");
    let edit = ["fs", "edit", "dir/notes.txt", "--replace", "changed", "--with", "edited"];
    server.cortex(&edit).ok();
    server.cortex(&edit).with(1).complains(&["error: CX-1306", "hint: "]);
    server.cortex(&["fs", "list", "dir"]).ok().says(&["notes.txt"]);
    server
        .cortex(&["fs", "stat", "--sha256", "dir/notes.txt"])
        .ok()
        .says(&["sha256", "kind      file"]);
    server.cortex(&["fs", "glob", "*.txt"]).ok().says(&["dir/notes.txt\n"]);
    server.cortex(&["fs", "search", "^ed"]).ok().says(&["dir/notes.txt:1:edited"]);
    server.cortex(&["fs", "move", "dir/notes.txt", "moved"]).ok();
    let lines = server.cortex(&["fs", "list", "--json"]).ok().json_lines();
    assert_eq!(
        (lines[0]["path"].as_str(), lines[1]["path"].as_str()),
        (Some("dir"), Some("moved"))
    );
    let id = lines[2]["task_id"].as_str().unwrap();
    assert_eq!(lines[2]["done"]["count"], 2);
    let task = server.task(id);
    assert_eq!(task["spec"]["action"]["kind"], "file", "{task}");
    assert_eq!(task["outcome"]["confinement"]["level"], "full", "{task}");
    assert_eq!(server.events(id), ["Submitted", "Started", "Finished"]);
    server.cortex(&["task", "show", id]).ok().says(&["fs list"]);
    server.cortex(&["fs", "delete", "--recursive", "dir"]).ok().says(&["removed"]);
    server.cortex(&["fs", "read", "dir"]).with(1).complains(&["CX-1302"]);
    // The node's own journal names the operation before it was done.
    let journal = server.cortex(&["task", "history", "--json", id]).ok().text();
    assert!(journal.contains("\"Started\""), "{journal}");
    let raw = fs::read_dir(server.data().join("agent")).unwrap().count();
    assert!(raw > 0);
}

#[test]
fn a_write_that_the_owner_is_asked_about_is_bound_to_its_very_content() {
    let desk = Desk::with_root("work", "consent = { channels = [\"socket\"] }");
    let policy = desk.server.data().join("agent/policy.toml");
    let asks = fs::read_to_string(&policy).unwrap().replace("write = \"allow\"", "write = \"ask\"");
    fs::write(&policy, asks).unwrap();
    let (server, file) = (&desk.server, desk.root.join("notes.txt"));
    let dir = server.data().join("agent");
    let owner = |words: &[&str]| {
        let mut all = vec!["__agent", "consent", "--json", "--data-dir", dir.to_str().unwrap()];
        all.extend(words);
        server.cortex(&all).ok().json()
    };
    let asked = |text: &str| {
        let client = server.spawn_with(&["fs", "write", "notes.txt"], text.as_bytes());
        let id = wait::until("a question", || owner(&["list"])["waiting"][0]["id"].as_u64());
        wait::until("the client to say so", || {
            client.stderr().contains("waiting for the owner of").then_some(())
        });
        assert!(!file.exists());
        (client, id.to_string())
    };
    let (client, id) = asked("first\nsecond");
    let first = owner(&["show", &id]);
    let lines = first["lines"].to_string();
    for line in ["content   first", "content   second", "because   files.write asks the owner"] {
        assert!(lines.contains(line), "{line}: {lines}");
    }
    owner(&["deny", &id]);
    client.end().with(126).complains(&["CX-1202"]);
    // One letter more is another question, with another fingerprint.
    let (client, id) = asked("first\nseconds");
    let second = owner(&["show", &id]);
    assert_ne!(first["fingerprint"], second["fingerprint"]);
    assert_ne!(first["shown_sha256"], second["shown_sha256"]);
    owner(&["allow", &id]);
    client.end().with(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "first\nseconds");
    // To read needs nobody.
    assert_eq!(server.cortex(&["fs", "read", "notes.txt"]).ok().stdout, b"first\nseconds");
}

#[test]
fn what_the_policy_does_not_open_is_denied_in_words() {
    let desk = Desk::start();
    let server = &desk.server;
    let outside = server.path("outside");
    fs::write(&outside, "secret").unwrap();
    fs::write(desk.root.join(".env"), "TOKEN=1").unwrap();
    std::os::unix::fs::symlink(&outside, desk.root.join("link")).unwrap();
    for path in
        [outside.to_str().unwrap(), "../outside", "link", ".env", "/proc/self/root/etc/shadow"]
    {
        let denied = server.cortex(&["fs", "read", path]).with(126);
        let denied = denied.complains(&["denied by the node's owner: CX-1003"]);
        assert_eq!(denied.stdout, b"", "{path}");
    }
    server.spawn_with(&["fs", "write", "link"], b"x").end().with(126).complains(&["CX-1003"]);
    server.cortex(&["fs", "delete", "--recursive", "."]).with(126).complains(&["a whole root"]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "secret");
    server.cortex(&["fs", "read", "--node", "nobody-here", "--deadline", "1s", "x"]).with(124);
}

/// A file of bytes that repeat nowhere; the same size gives the same bytes.
fn noise(path: &Path, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes as u64;
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend(state.to_le_bytes());
    }
    data.truncate(bytes);
    fs::write(path, &data).unwrap();
    data
}

#[test]
fn a_file_is_copied_there_and_back_byte_for_byte() {
    let desk = Desk::start();
    let server = &desk.server;
    let (local, back) = (server.path("local"), server.path("back"));
    for size in [0, 1, 3_000_000] {
        let data = noise(&local, size);
        let there = desk.there("copy");
        server.cortex(&["cp", local.to_str().unwrap(), &there]).ok();
        assert!(fs::read(desk.root.join("copy")).unwrap() == data, "{size} bytes differ there");
        let json = server.cortex(&["cp", "--json", &there, back.to_str().unwrap()]).ok().json();
        assert_eq!(json["size"], size);
        assert!(fs::read(&back).unwrap() == data, "{size} bytes differ here");
    }
    assert_eq!(fs::read_dir(&desk.root).unwrap().count(), 1, "parts are left");
    let new = ["cp", "--new", local.to_str().unwrap(), &desk.there("copy")];
    server.cortex(&new).with(1).complains(&["CX-1304"]);
    let wrong = "0".repeat(64);
    let expect = ["cp", "--expect", &wrong, local.to_str().unwrap(), &desk.there("copy")];
    server.cortex(&expect).with(1).complains(&["CX-1305"]);
    server
        .cortex(&["cp", local.to_str().unwrap(), back.to_str().unwrap()])
        .with(125)
        .complains(&["CX-0803"]);
    server
        .cortex(&["cp", &desk.there("nothing"), back.to_str().unwrap()])
        .with(1)
        .complains(&["CX-1302"]);
}

/// Bytes of the largest part in a directory.
fn arrived(dir: &Path) -> u64 {
    let parts = fs::read_dir(dir).unwrap().flatten();
    let parts = parts.filter(|e| e.file_name().to_string_lossy().starts_with(".cortex-part-"));
    parts.filter_map(|e| e.metadata().ok()).map(|m| m.len()).max().unwrap_or(0)
}

/// Copies, and kills client, agent and server on the way; then as often as it takes.
fn through_kills(desk: &mut Desk, from: &str, to: &str, dir: &Path, size: u64) {
    let args = ["cp", "--quiet", from, to];
    for (share, victim) in [(10, "client"), (30, "agent"), (55, "server"), (75, "client")] {
        let mut client = desk.server.spawn(&args);
        wait::until("a part of the copy", || {
            (client.is_over() || arrived(dir) > size * share / 100).then_some(())
        });
        match victim {
            "client" => client.signal(Signal::KILL),
            "agent" => desk.server.kill_agent(),
            _ => {
                desk.server.kill_up();
                // It comes back with the policy that tests begin with.
                desk.server.up();
                desk.open();
            }
        }
        drop(client);
    }
    desk.server.cortex(&args).ok();
}

#[test]
fn two_hundred_megabytes_come_through_kills_of_everything() {
    let mut desk = Desk::start();
    let size = 200_000_000;
    let (local, back) = (desk.server.path("big"), desk.server.path("back/big"));
    fs::create_dir(desk.server.path("back")).unwrap();
    let data = noise(&local, size);
    let (there, root) = (desk.there("big"), desk.root.clone());
    through_kills(&mut desk, local.to_str().unwrap(), &there, &root, size as u64);
    assert!(fs::read(desk.root.join("big")).unwrap() == data, "it differs there");
    let here = desk.server.path("back");
    through_kills(&mut desk, &there, back.to_str().unwrap(), &here, size as u64);
    assert!(fs::read(&back).unwrap() == data, "it differs here");
    assert_eq!(arrived(&desk.root) + arrived(&here), 0, "parts are left");
}

#[test]
fn a_disk_that_fills_is_said_and_the_copy_goes_on_when_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("disk");
    let Some(_disk) = SmallDisk::mount(&at, "24m") else {
        // Without the right to mount, the policy's limit for a file is the only disk that can be full.
        return limit();
    };
    let desk = Desk::with_root(at.to_str().unwrap(), "");
    let local = desk.server.path("local");
    let data = noise(&local, 12_000_000);
    let there = desk.there("copy");
    let args = ["cp", "--quiet", local.to_str().unwrap(), &there];
    // More than there is room for is refused at once.
    fill(&at.join("filler"));
    desk.server.cortex(&args).with(1).complains(&["CX-1308", "hint: "]);
    assert_eq!(arrived(&at), 0);
    fs::remove_file(at.join("filler")).unwrap();
    // It fills on the way.
    let mut client = desk.server.spawn(&args);
    wait::until("a part of the copy", || {
        (client.is_over() || arrived(&at) > 1_000_000).then_some(())
    });
    fill(&at.join("filler"));
    client.end().with(1).complains(&["CX-1308"]);
    fs::write(desk.root.join("notes"), "old").unwrap_err();
    fs::remove_file(at.join("filler")).unwrap();
    desk.server.cortex(&args).ok();
    assert!(fs::read(desk.root.join("copy")).unwrap() == data);
}

fn limit() {
    let desk = Desk::with_root("work", "limits.task = { file_size = \"1MiB\" }");
    let local = desk.server.path("local");
    noise(&local, 3_000_000);
    let there = desk.there("copy");
    let refused = desk.server.cortex(&["cp", "--quiet", local.to_str().unwrap(), &there]);
    refused.with(1).complains(&["CX-1308"]);
    assert!(!desk.root.join("copy").exists());
}

#[test]
fn a_source_that_changes_is_never_copied_as_a_mixture() {
    let desk = Desk::start();
    let (local, back) = (desk.server.path("local"), desk.server.path("back"));
    let size = 40_000_000;
    let data = noise(&local, size);
    let there = desk.there("copy");
    let change = |path: &Path| {
        use std::os::unix::fs::FileExt;
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"changed", size as u64 - 100).unwrap();
    };
    let mut client = desk.server.spawn(&["cp", "--quiet", local.to_str().unwrap(), &there]);
    wait::until("a part", || (client.is_over() || arrived(&desk.root) > 500_000).then_some(()));
    change(&local);
    let said = client.end();
    assert!(said.code != 0, "{said:?}");
    let told = ["CX-1305", "CX-1311"].iter().any(|code| said.stderr.contains(code));
    assert!(told, "{said:?}");
    assert!(!desk.root.join("copy").exists());
    noise(&desk.root.join("copy"), size);
    let mut client = desk.server.spawn(&["cp", "--quiet", &there, back.to_str().unwrap()]);
    let here = back.parent().unwrap().to_owned();
    wait::until("a part", || (client.is_over() || arrived(&here) > 500_000).then_some(()));
    change(&desk.root.join("copy"));
    client.end().with(1).complains(&["CX-1305"]);
    assert!(!back.exists() && data.len() == size);
}

/// A long command, much output, a write, a search and an echo at the same time.
#[test]
fn five_operations_at_once_all_complete() {
    let desk = Desk::with_root("work", "limits.task = { output = \"1GiB\" }");
    let server = &desk.server;
    fs::write(desk.root.join("hay"), "hay\nneedle\n").unwrap();
    let made = std::process::Command::new("mkfifo").arg(desk.root.join("fifo")).status();
    assert!(made.unwrap().success());
    let session = |server: &Server| server.nodes()[0]["session"].as_str().unwrap().to_owned();
    let before = session(server);
    let long = server.spawn(&["run", "--", "cat", "fifo"]);
    let last = "12345678";
    let much = server.spawn(&["run", "--", "seq", "1", last]);
    let write = server.spawn_with(&["fs", "write", "written"], &[b'w'; 100_000]);
    let search = server.spawn(&["fs", "search", "needle"]);
    let echo = server.spawn(&["run", "--", "seq", "1", "1"]);
    assert_eq!(echo.end().ok().stdout, b"1\n");
    search.end().ok().says(&["hay:2:needle"]);
    write.end().ok();
    assert_eq!(fs::read(desk.root.join("written")).unwrap(), [b'w'; 100_000]);
    let out = much.end().ok().stdout;
    let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let right = lines.zip(1_u64..).all(|(line, n)| line == n.to_string().as_bytes());
    assert!(out.len() == 99_999_999 && out.ends_with(b"\n12345678\n") && right, "{}", out.len());
    // It has run all the time, and ends only now.
    fs::write(desk.root.join("fifo"), "the end\n").unwrap();
    assert_eq!(long.end().ok().stdout, b"the end\n");
    assert_eq!(session(server), before, "the session did not live on");
}

#[test]
fn a_path_is_held_by_one_and_its_number_grows_also_when_the_holder_is_killed() {
    let desk = Desk::start();
    let server = &desk.server;
    let fifo = desk.root.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let first = server.submit(&["--lock", "data"], &["cat", "fifo"]);
    server.until_state(&first, &["running"]);
    let second = server.submit(&["--lock", "data/below"], &["seq", "1", "1"]);
    let late = ["run", "--lock-shared", "data", "--lock-timeout", "500ms", "--", "seq", "1", "1"];
    server.cortex(&late).with(125).complains(&["CX-1314"]);
    // What asks for another path is not held up, and neither is what waits given a slot.
    server.cortex(&["run", "--lock", "data2", "--", "seq", "1", "1"]).ok();
    let write = server.spawn_with(&["fs", "write", "--parents", "data/x"], b"written");
    assert!(!desk.root.join("data").exists());
    let events = server.events(&second);
    assert!(!events.contains(&"Finished".to_owned()), "{events:?}");
    // The holder dies with the agent; what waited for it comes to its turn.
    server.kill_agent();
    server.until_state(&first, &["indeterminate"]);
    write.end().ok();
    let second = server.until_state(&second, &["succeeded"]);
    assert_eq!(second["outcome"]["locks"][0]["fence"], 1, "{second}");
    let again = server.submit(&["--lock", "data"], &["cat", "/proc/self/environ"]);
    let again = server.until_state(&again, &["succeeded"]);
    assert_eq!(again["outcome"]["locks"][0]["fence"], 2, "the killed holder had 1: {again}");
    let id = again["task_id"].as_str().unwrap();
    server.cortex(&["task", "output", id]).ok().says(&["CORTEX_LOCK_FENCES=2"]);
}
