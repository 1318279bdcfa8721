//! The disk is full, or the quota that stands in front of it: a clear error, nothing lost, and work goes on
//! when there is room again.

use crate::support::{Agent, Server, wait};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own; unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount.
    pub(crate) fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|o| o.status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        wait::within(wait::DEADLINE, || {
            let done = Command::new("umount").arg(&self.0).output();
            done.is_ok_and(|o| o.status.success()).then_some(())
        });
    }
}

/// Submits until a submit is refused; the accepted tasks, and what was said.
fn until_refused(server: &Server, size: usize) -> (Vec<String>, String) {
    let ballast = "x".repeat(size);
    let mut accepted = Vec::new();
    let refusal = wait::until("a submit to be refused", || {
        let ended = server.cortex(&["run", "--json", "--detach", "--", "echo", &ballast]);
        if ended.code == 0 {
            accepted.push(ended.json()["task"]["task_id"].as_str().unwrap().to_owned());
            return None;
        }
        Some(ended.with(125).stderr)
    });
    (accepted, refusal)
}

#[test]
fn a_log_near_its_quota_refuses_new_tasks_in_words_and_keeps_the_accepted_ones() {
    quota(&["--log-quota", "2"]);
}

fn quota(small: &[&str]) {
    let mut server = Server::start(&[&["--no-agent"], small].concat());
    let (accepted, said) = until_refused(&server, 100_000);
    assert!(said.contains("CX-0602") && said.contains("hint"), "{said}");
    assert!(accepted.len() > 5, "only {} tasks fit", accepted.len());
    server.terminate();
    server.set_args(&["--log-quota", "64"]);
    server.up();
    for id in &accepted {
        server.until_state(id, &["succeeded"]);
    }
    server.run(&["echo", "room again"]).ok();
}

#[test]
fn a_full_disk_is_said_and_what_was_accepted_is_done_when_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("disk");
    let Some(disk) = SmallDisk::mount(&at, "200m") else {
        // Without the right to mount, the quota is the only disk that can be full.
        return quota(&["--log-quota", "2"]);
    };
    full(&at);
    drop(disk);
}

fn full(at: &Path) {
    let mut server = Server::prepare_in(&at.join("data"), &["--no-agent"]);
    server.up();
    let kept = server.submit(&[], &["echo", "kept"]);
    let filler = at.join("filler");
    fill(&filler);
    let (accepted, said) = until_refused(&server, 100_000);
    assert!(said.contains("CX-0704") && said.contains("hint"), "{said}");
    std::fs::remove_file(&filler).unwrap();
    for id in &accepted {
        assert_eq!(server.task(id)["state"], "pending");
    }
    let later = server.submit(&[], &["echo", "later"]);
    server.terminate();
    server.set_args(&[]);
    server.up();
    server.until_state(&kept, &["succeeded"]);
    server.until_state(&later, &["succeeded"]);
    for id in &accepted {
        server.until_state(id, &["succeeded"]);
    }
}

/// 168,888,897 bytes, or as much of it as the node could keep.
const LAST: u64 = 20_000_000;

#[test]
fn a_nodes_full_disk_costs_output_that_is_counted_and_nothing_else() {
    let server = Server::start(&["--no-agent"]);
    let at = server.path("small");
    // Without the right to mount, the agent's own quota is the only disk that can be full.
    let disk = SmallDisk::mount(&at, "120m");
    let mut agent = Agent::prepare(&server, "small", server.data().join("endpoint.json"), &[]);
    if disk.is_none() {
        std::fs::write(at.join("agent.toml"), "spool_quota_bytes = 20000000\n").unwrap();
    }
    agent.launch();
    let last = LAST.to_string();
    let ended = server.cortex(&["run", "--key", "big", "--", "seq", "1", &last]).ok();
    let ended = ended.complains(&["bytes of output were dropped"]);
    let task = &server.tasks(&["--node", "small"])[0];
    let (kept, dropped) = (&task["outcome"]["stdout_bytes"], &task["outcome"]["dropped_bytes"]);
    let (kept, dropped) = (kept.as_u64().unwrap(), dropped.as_u64().unwrap());
    assert!(dropped > 0 && kept > 1_000_000, "{kept} kept, {dropped} dropped");
    assert_eq!(kept, ended.stdout.len() as u64);
    let whole: String = (1..=LAST).map(|n| format!("{n}\n")).collect();
    assert_eq!(kept + dropped, whole.len() as u64);
    assert!(whole.as_bytes().starts_with(&ended.stdout), "what was kept is not the beginning");
    server.run(&["echo", "room again"]).ok().says(&["room again"]);
}

/// Writes until nothing more fits.
pub(crate) fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 * 1024, 4096, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
    }
}
