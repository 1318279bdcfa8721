//! Who holds which path: advisory locks among the tasks of one agent. A task gets all of its locks at once or waits, so no
//! two can wait for each other; who came first goes first, so nobody waits for ever behind others that share.

use cortex_model::AttemptKey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One path that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// Links followed.
    pub path: PathBuf,
    /// Others may hold it as well, if they share too.
    pub shared: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Locks {
    held: BTreeMap<AttemptKey, Vec<Want>>,
    /// In the order in which they came.
    waiting: Vec<(AttemptKey, Vec<Want>)>,
}

impl Locks {
    /// True: it holds all of them from now on. False: it waits, and is named by a later [`Locks::release`].
    pub fn take(&mut self, key: &AttemptKey, wants: Vec<Want>) -> bool {
        let free = self.is_free(&wants, self.waiting.len());
        if free {
            self.held.insert(key.clone(), wants);
        } else {
            self.waiting.push((key.clone(), wants));
        }
        free
    }

    /// It holds and waits for nothing any more. Those that hold theirs from now on, in the order in which they came.
    pub fn release(&mut self, key: &AttemptKey) -> Vec<AttemptKey> {
        self.held.remove(key);
        self.waiting.retain(|(waiting, _)| waiting != key);
        let mut granted = Vec::new();
        let mut at = 0;
        while at < self.waiting.len() {
            if self.is_free(&self.waiting[at].1, at) {
                let (key, wants) = self.waiting.remove(at);
                self.held.insert(key.clone(), wants);
                granted.push(key);
            } else {
                at += 1;
            }
        }
        granted
    }

    /// Neither a holder nor one of the first `before` that wait stands against it.
    fn is_free(&self, wants: &[Want], before: usize) -> bool {
        let waiting = self.waiting.iter().take(before).map(|(_, wants)| wants);
        let mut others = self.held.values().chain(waiting).flatten();
        !others.any(|other| wants.iter().any(|want| against(want, other)))
    }
}

/// Whether two cannot be held at the same time: the same path, or one below the other, and not both shared.
fn against(one: &Want, other: &Want) -> bool {
    let below = |a: &Path, b: &Path| a.starts_with(b);
    (below(&one.path, &other.path) || below(&other.path, &one.path))
        && !(one.shared && other.shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_model::{TaskId, TaskKey, Workspace};

    fn key(task: &str) -> AttemptKey {
        let task = TaskId::parse(task).unwrap();
        AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 1 }
    }

    /// `r/a` shares, `w/a` does not.
    fn wants(text: &str) -> Vec<Want> {
        let want = |word: &str| {
            let (mode, path) = word.split_at(1);
            Want { path: path.into(), shared: mode == "r" }
        };
        text.split(' ').map(want).collect()
    }

    /// Each line: who, then what: `+` takes, `-` gives back; then who holds from that on.
    fn run(script: &str) {
        let mut locks = Locks::default();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (step, expected) = line.split_once(" => ").unwrap();
            let (who, what) = step.split_once(' ').unwrap();
            let got = match what.strip_prefix("+ ") {
                Some(text) => {
                    if locks.take(&key(who), wants(text)) {
                        vec![who.to_owned()]
                    } else {
                        Vec::new()
                    }
                }
                None => {
                    let granted = locks.release(&key(who));
                    granted.iter().map(|key| key.task.task.to_string()).collect()
                }
            };
            let expected = expected.trim_matches('.').split_whitespace().collect::<Vec<_>>();
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn writers_are_alone_and_readers_together() {
        run("a + w/x => a
             b + w/x => .
             c + w/y => c
             a - => b
             b - => .
             d + r/x => d
             e + r/x => e
             f + w/x => .
             d - => .
             e - => f");
    }

    #[test]
    fn nobody_waits_for_ever_behind_others_that_share() {
        run("a + r/x => a
             b + w/x => .
             c + r/x => .
             d + r/y => d
             a - => b
             b - => c");
    }

    #[test]
    fn a_directory_stands_against_what_is_below_it_and_names_alike_do_not() {
        run("a + w/x => a
             b + w/x/y => .
             c + r/xy => c
             d + w/ => .
             a - => b
             b - => .
             c - => d");
    }

    #[test]
    fn all_or_none_so_that_no_two_wait_for_each_other() {
        run("a + w/1 => a
             b + w/2 w/1 => .
             c + w/2 => .
             a - => b
             b - => c
             c - => .");
        // Who gives up while it waits is in nobody's way.
        run("a + w/1 => a
             b + w/1 w/2 => .
             c + w/2 => .
             b - => c
             a - => .");
    }
}
