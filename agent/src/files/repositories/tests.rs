//! What is taken for a new repository and what is not, and that no bound is passed in silence.

use super::*;
use std::fs::{create_dir, create_dir_all, remove_file, rename, write};
use std::os::unix::fs::{MetadataExt as _, symlink};

/// A directory, and what was there before: everything that is made in it by `with`.
struct Place {
    dir: tempfile::TempDir,
    before: Before,
}

fn changed(path: &Path) -> Duration {
    let meta = std::fs::metadata(path).unwrap();
    Duration::new(u64::try_from(meta.ctime()).unwrap(), u32::try_from(meta.ctime_nsec()).unwrap())
}

impl Place {
    fn with(make: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        // The clock of the file system goes in ticks: what comes now must be told from what was made.
        let (probe, made) = (dir.path().join("probe"), SystemTime::now());
        let made = made.duration_since(SystemTime::UNIX_EPOCH).unwrap() + TICK + TICK;
        loop {
            write(&probe, "x").unwrap();
            if changed(&probe) > made {
                break;
            }
        }
        remove_file(&probe).unwrap();
        let before = Before::now(&[dir.path()], dir.path(), &[]);
        Self { dir, before }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn look(&self) -> Look {
        self.before.look(&[self.dir.path()])
    }

    /// The names of what is new; everything was looked at.
    #[track_caller]
    fn names(&self) -> Vec<String> {
        let look = self.look();
        assert_eq!(look.gaps, Vec::<String>::new());
        let root = self.dir.path().as_os_str().as_bytes();
        let below = |path: &Vec<u8>| String::from_utf8(path[root.len()..].to_vec()).unwrap();
        let mut names: Vec<String> = look.found.iter().map(below).collect();
        names.sort();
        names
    }
}

fn repository(at: &Path) {
    create_dir_all(at.join("objects")).unwrap();
    create_dir_all(at.join("refs")).unwrap();
    write(at.join("HEAD"), "ref: refs/heads/main\n").unwrap();
}

#[test]
fn repositories_that_came_are_found_in_every_form() {
    let place = Place::with(|dir| create_dir_all(dir.join("deep/er/est")).unwrap());
    repository(&place.at("deep/er/est/.git"));
    repository(&place.at("bare.git"));
    create_dir(place.at("tree")).unwrap();
    write(place.at("tree/.git"), "gitdir: /elsewhere\n").unwrap();
    create_dir(place.at("link")).unwrap();
    symlink("/elsewhere", place.at("link/.git")).unwrap();
    // Not whole, and so no repository yet; it can become one by one more name.
    create_dir_all(place.at("half/objects")).unwrap();
    create_dir_all(place.at("half/refs")).unwrap();
    repository(&place.at(".git"));
    assert_eq!(
        place.names(),
        ["", "/bare.git", "/deep/er/est", "/half", "/link", "/tree"].map(str::to_owned)
    );
}

#[test]
fn what_is_no_repository_and_what_was_there_is_not_named() {
    let place = Place::with(|dir| {
        repository(&dir.join(".git"));
        repository(&dir.join("old/.git"));
        repository(&dir.join("bare"));
    });
    create_dir_all(place.at("empty/.git")).unwrap();
    create_dir_all(place.at("words/HEAD")).unwrap();
    write(place.at("objects"), "").unwrap();
    symlink(place.at("old"), place.at("alias")).unwrap();
    // Work in those that are there: a commit in one, a switch and a commit around the task itself.
    for old in ["old/.git", "bare", ".git"] {
        create_dir(place.at(old).join("objects/ab")).unwrap();
        write(place.at(old).join("index"), "x").unwrap();
    }
    write(place.at(".git/HEAD.lock"), "ref: refs/heads/other\n").unwrap();
    rename(place.at(".git/HEAD.lock"), place.at(".git/HEAD")).unwrap();
    // It is the same under its new name.
    rename(place.at("old"), place.at("moved")).unwrap();
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn a_repository_that_is_put_together_of_old_parts_is_new() {
    let place = Place::with(|dir| {
        for name in ["a", "b", "c", "d/objects", "d/info", "e/.git"] {
            create_dir_all(dir.join(name)).unwrap();
        }
        write(dir.join("h"), "ref: refs/heads/main\n").unwrap();
        write(dir.join("tree"), "gitdir: /there\n").unwrap();
    });
    // Each directory is old, and so is the file; only their names are new.
    rename(place.at("a"), place.at("c/objects")).unwrap();
    rename(place.at("b"), place.at("c/refs")).unwrap();
    rename(place.at("h"), place.at("c/HEAD")).unwrap();
    create_dir(place.at("x")).unwrap();
    rename(place.at("c"), place.at("x/.git")).unwrap();
    // One part is old and stays where it was.
    write(place.at("d/HEAD"), "ref: refs/heads/main\n").unwrap();
    // The place of one was empty before.
    repository(&place.at("e/.git"));
    create_dir(place.at("y")).unwrap();
    rename(place.at("tree"), place.at("y/.git")).unwrap();
    assert_eq!(place.names(), ["/d", "/e", "/x", "/y"].map(str::to_owned));
}

#[test]
fn a_repository_whose_times_were_set_back_is_new() {
    use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, utimensat};
    let place = Place::with(|_| {});
    repository(&place.at("r/.git"));
    let ago = Timespec { tv_sec: 1, tv_nsec: 0 };
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access, last_modification: ago };
    for name in ["r", "r/.git", "r/.git/HEAD", "r/.git/objects", "r/.git/refs"] {
        utimensat(CWD, place.at(name), &times, AtFlags::empty()).unwrap();
    }
    assert_eq!(place.names(), ["/r"].map(str::to_owned));
}

#[test]
fn a_clock_that_was_set_back_hides_nothing() {
    let mut place = Place::with(|_| {});
    // An hour ago it was an hour later than the clock says now.
    let hour = Duration::from_secs(3600);
    place.before.since.0 += hour;
    repository(&place.at("new/.git"));
    assert_eq!(place.names(), ["/new"].map(str::to_owned));
}

#[test]
fn every_bound_that_is_reached_is_said() {
    let place = Place::with(|_| {});
    for n in 0..REPOSITORIES_MAX + 3 {
        repository(&place.at(&format!("r{n}/.git")));
    }
    let look = place.look();
    assert_eq!(look.found.len(), REPOSITORIES_MAX);
    assert_eq!(look.gaps, ["more are not named"]);

    let place = Place::with(|_| {});
    let long = "x".repeat(250);
    let deep = (0..12).map(|_| long.as_str()).collect::<Vec<_>>().join("/");
    for n in 0..4 {
        repository(&place.at(&format!("{deep}/{n}/.git")));
    }
    let look = place.look();
    assert_eq!((look.found.len(), look.gaps.as_slice()), (2, &["more are not named".into()][..]));

    let place = Place::with(|_| {});
    repository(&place.at("r/.git"));
    let look = place.before.look_within(&[place.dir.path()], Duration::ZERO, Duration::ZERO);
    assert_eq!(look.found, Vec::<Vec<u8>>::new());
    assert_eq!(look.gaps, ["the look was cut short after 0 ms"]);
}

#[test]
fn a_way_that_is_too_long_to_be_followed_is_said() {
    let place = Place::with(|_| {});
    let name = "x".repeat(250);
    let mut at = std::fs::File::open(place.dir.path()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, &name, DIRECTORY, Mode::empty()).unwrap().into();
    }
    assert_eq!(place.look().gaps, ["1 directories could not be looked into"]);
}
