//! The repositories that came into being below some directories since a moment. A program that writes there may leave one behind
//! whose settings run programs for whoever next says `git` in it. It reads names and times only, opens no file, follows no link,
//! and stops at its bounds; that it stopped is part of what it tells.
//!
//! Times are the kernel's own: a process can set every other time of a file, but not the one of its last change (`ctime`). A
//! directory in which nothing was made, renamed or removed since, and which itself was not, holds nothing new.

use cortex_model::limits::{
    REPOSITORIES_BYTES_MAX, REPOSITORIES_MAX, REPOSITORY_LOOK_MS, REPOSITORY_WAITING_MAX,
};
use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, accessat, fstat,
    openat2, statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const PLAIN: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// What makes a directory a repository. Two of the three are taken for one: the third can come later.
const PARTS: [&CStr; 3] = [c"HEAD", c"objects", c"refs"];
const ENOUGH: usize = 2;

/// A file system's clock may be a tick behind.
const TICK: Duration = Duration::from_millis(10);

/// Names that are read before the time is looked at again.
const NAMES: u64 = 4096;

/// What there was before.
#[derive(Debug)]
pub(crate) struct Before {
    since: (SystemTime, Instant),
    known: BTreeSet<(u64, u64)>,
    /// Paths that are hidden from the task.
    hidden: BTreeSet<PathBuf>,
}

/// What is told when it is over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Directories of repositories, those that are less deep first.
    pub(crate) found: Vec<Vec<u8>>,
    /// Why there may be more.
    pub(crate) gaps: Vec<String>,
}

impl Before {
    /// Now. The repositories at the directories themselves, and those around `cwd`, are known: in them a task works, and what it
    /// does there changes them. All others are told apart by their times.
    pub(crate) fn now(roots: &[&Path], cwd: &Path, hidden: &[&Path]) -> Self {
        let around = cwd.ancestors().filter(|dir| roots.iter().any(|root| dir.starts_with(root)));
        let mut known = BTreeSet::new();
        for dir in roots.iter().copied().chain(around) {
            let Ok(dir) = openat2(CWD, dir, DIRECTORY, Mode::empty(), PLAIN) else { continue };
            let inner = openat2(&dir, c".git", DIRECTORY, Mode::empty(), BENEATH);
            for place in [Some(dir), inner.ok()].into_iter().flatten() {
                if parts(place.as_fd(), None) >= ENOUGH
                    && let Ok(stat) = fstat(&place)
                {
                    known.insert(id(&stat));
                }
            }
        }
        let hidden = hidden.iter().map(|path| (*path).to_owned()).collect();
        Self { since: (SystemTime::now(), Instant::now()), known, hidden }
    }

    /// Looks below the directories for what came since. Should the clock have been set back meanwhile, it begins as much earlier.
    pub(crate) fn look(&self, roots: &[&Path]) -> Look {
        let (wall, started) = self.since;
        let earliest = SystemTime::now().checked_sub(started.elapsed());
        let since = earliest.map_or(wall, |earliest| earliest.min(wall));
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let most = Duration::from_millis(REPOSITORY_LOOK_MS);
        self.look_within(roots, since.saturating_sub(TICK), most)
    }

    fn look_within(&self, roots: &[&Path], since: Duration, most: Duration) -> Look {
        let mut walk = Walk {
            before: self,
            since,
            until: Instant::now() + most,
            waiting: VecDeque::new(),
            look: Look::default(),
            bytes: 0,
            unread: 0,
            left_out: false,
            late: false,
        };
        walk.run(roots, most);
        walk.look
    }
}

struct Walk<'a> {
    before: &'a Before,
    since: Duration,
    until: Instant,
    /// Which of the roots, and where below it.
    waiting: VecDeque<(usize, PathBuf)>,
    look: Look,
    bytes: usize,
    unread: u64,
    left_out: bool,
    late: bool,
}

impl Walk<'_> {
    fn run(&mut self, roots: &[&Path], most: Duration) {
        let mut opened = Vec::new();
        for root in roots {
            match openat2(CWD, *root, DIRECTORY, Mode::empty(), PLAIN) {
                Ok(fd) => {
                    self.waiting.push_back((opened.len(), PathBuf::new()));
                    opened.push((*root, fd));
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => self.unread += 1,
            }
        }
        while let Some((root, below)) = self.waiting.pop_front() {
            self.late |= Instant::now() > self.until;
            if self.late || self.full() {
                break;
            }
            let (path, fd) = &opened[root];
            self.directory(root, path, fd, &below);
        }
        let gaps = [
            (self.late, format!("the look was cut short after {} ms", most.as_millis())),
            (self.full(), "more are not named".to_owned()),
            (self.left_out, "there are too many directories".to_owned()),
            (self.unread > 0, format!("{} directories could not be looked into", self.unread)),
        ];
        self.look.gaps.extend(gaps.into_iter().filter(|(is, _)| *is).map(|(_, text)| text));
    }

    fn full(&self) -> bool {
        self.look.found.len() >= REPOSITORIES_MAX || self.bytes >= REPOSITORIES_BYTES_MAX
    }

    fn directory(&mut self, root: usize, path: &Path, fd: &OwnedFd, below: &Path) {
        let opened = if below.as_os_str().is_empty() {
            openat2(fd, c".", DIRECTORY, Mode::empty(), BENEATH)
        } else {
            openat2(fd, below, DIRECTORY, Mode::empty(), BENEATH)
        };
        let dir = match opened {
            Ok(dir) => dir,
            // Somebody else took it away, or put another thing there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return,
            Err(Errno::ACCESS) => return self.shut(path, fd, below),
            Err(_) => return self.unread += 1,
        };
        let Ok(mut dir) = Dir::new(dir) else { return self.unread += 1 };
        let (mut has, mut read, mut git) = (0, 0, false);
        while let Some(entry) = dir.read() {
            let Ok(entry) = entry else { return self.unread += 1 };
            read += 1;
            if read % NAMES == 0 && Instant::now() > self.until {
                self.late = true;
                break;
            }
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            has += usize::from(PARTS.contains(&name));
            if name == c".git" {
                git = true;
                continue;
            }
            let told = entry.file_type();
            let kind = match told == FileType::Unknown {
                true => dir.fd().map_or(told, |dir| kind(dir, name)),
                false => told,
            };
            if kind == FileType::Directory {
                self.wait(root, below.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
        let Ok(dir) = dir.fd() else { return self.unread += 1 };
        let bare = || has >= ENOUGH && fstat(dir).is_ok_and(|stat| self.came(dir, &stat));
        if git && self.inner_came(dir) || bare() {
            self.tell(path.join(below));
        }
    }

    /// A directory that cannot be opened. It counts where the task could have written: what is hidden from it and what belongs to
    /// somebody else it could not.
    fn shut(&mut self, path: &Path, fd: &OwnedFd, below: &Path) {
        let stat = statat(fd, below, AtFlags::SYMLINK_NOFOLLOW);
        let own = stat.is_ok_and(|stat| stat.st_uid == geteuid().as_raw());
        let write = Access::WRITE_OK | Access::EXEC_OK;
        let open = || accessat(fd, below, write, AtFlags::EACCESS).is_ok();
        if !self.before.hidden.contains(&path.join(below)) && (own || open()) {
            self.unread += 1;
        }
    }

    fn wait(&mut self, root: usize, below: PathBuf) {
        if self.waiting.len() < REPOSITORY_WAITING_MAX {
            self.waiting.push_back((root, below));
        } else {
            self.left_out = true;
        }
    }

    fn tell(&mut self, path: PathBuf) {
        let path = path.as_os_str().as_bytes();
        // Of the root itself, joined with nothing.
        let path = path.strip_suffix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(path);
        self.bytes += path.len();
        if self.bytes <= REPOSITORIES_BYTES_MAX {
            self.look.found.push(path.to_vec());
        }
    }

    /// Whether the `.git` in a directory is new.
    fn inner_came(&self, dir: BorrowedFd<'_>) -> bool {
        let Ok(stat) = statat(dir, c".git", AtFlags::SYMLINK_NOFOLLOW) else { return false };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match openat2(dir, c".git", DIRECTORY, Mode::empty(), BENEATH) {
                // What is empty is no repository, but perhaps what holds the place of one.
                Ok(inner) => !empty(&inner) && self.came(inner.as_fd(), &stat),
                Err(_) => self.changed(&stat),
            },
            // It says where the repository is; an empty one says nothing.
            FileType::RegularFile => stat.st_size > 0 && self.changed(&stat),
            FileType::Symlink => self.changed(&stat),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => false,
        }
    }

    /// Whether a directory became a repository since: it changed, and what makes one was not all there before.
    fn came(&self, dir: BorrowedFd<'_>, stat: &Stat) -> bool {
        let known = self.before.known.contains(&id(stat));
        !known && self.changed(stat) && parts(dir, Some(self)) < ENOUGH
    }

    fn changed(&self, stat: &Stat) -> bool {
        let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
        let nanos = u32::try_from(stat.st_ctime_nsec).unwrap_or(0);
        Duration::new(seconds, nanos) >= self.since
    }
}

/// How many parts of a repository a directory has; with a walk, of those that did not change since.
fn parts(dir: BorrowedFd<'_>, old: Option<&Walk<'_>>) -> usize {
    let is = |name: &&&CStr| match statat(dir, **name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => old.is_none_or(|walk| !walk.changed(&stat)),
        Err(_) => false,
    };
    PARTS.iter().filter(is).count()
}

fn empty(dir: &OwnedFd) -> bool {
    let Ok(mut entries) = Dir::read_from(dir) else { return false };
    let own = |name: &CStr| name == c"." || name == c"..";
    entries.all(|entry| entry.is_ok_and(|entry| own(entry.file_name())))
}

fn kind(dir: BorrowedFd<'_>, name: &CStr) -> FileType {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}

fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
#[path = "repositories/tests.rs"]
mod tests;
