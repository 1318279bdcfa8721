//! A machine made of text: files, links and programs, so that decisions can be checked without one. It answers the
//! questions of the policy as the agent does on a real disk.

use cortex_agent_core::plan::{FileId, Level};
use cortex_agent_core::policy::{
    Draft, Facts, Machine, PathFact, PathKind, Place, Policy, PolicyError, Program, Secret,
};
use cortex_model::Action;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

pub(crate) const HOME: &str = "/home/ada";
pub(crate) const ROOT: &str = "/home/ada/src/shop";

#[derive(Clone)]
enum Entry {
    File,
    Dir,
    Device,
    Link(&'static str),
}

#[derive(Clone)]
pub(crate) struct World {
    entries: BTreeMap<PathBuf, Entry>,
    pub(crate) level: Level,
    pub(crate) exact: Vec<&'static str>,
    /// Inode of every program, so that a test can replace one.
    pub(crate) inode: u64,
}

const PROGRAMS: &str = "sh dash bash zsh ls cat head tail rg grep git cargo npm node rm rmdir mv cp tee sed awk find xargs env timeout nice \
    nohup setsid stdbuf sudo su ssh scp curl wget busybox python3.11 make docker kubectl systemctl chmod dd tar sort uniq touch \
    mkdir printf echo test psql redis-cli terraform rsync kill shutdown cortex cortex-agent gdb watch script parallel time";

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            entries: BTreeMap::new(),
            level: Level::Full,
            exact: vec!["cpu", "memory", "pids"],
            inode: 1,
        };
        for name in PROGRAMS.split_whitespace() {
            world.add(&format!("/usr/bin/{name}"), Entry::File);
        }
        world.add("/usr/bin/python3", Entry::Link("python3.11"));
        world.add("/usr/bin/vi", Entry::Link("/etc/alternatives/vi"));
        world.add("/etc/alternatives/vi", Entry::Link("/usr/bin/env"));
        world.add("/usr/bin/planted", Entry::Link("/home/ada/src/shop/planted"));
        world.add("/bin", Entry::Link("usr/bin"));
        world.add("/etc/passwd", Entry::File);
        world.add("/usr/lib/chromium/chromium", Entry::File);
        world.add("/etc/fonts/fonts.conf", Entry::File);
        world.add("/dev/null", Entry::Device);
        for file in [
            "Cargo.toml",
            "src/main.rs",
            "src/lib.rs",
            "planted",
            "git",
            "tool.sh",
            "-rf",
            "notes.txt",
            ".git/config",
            ".git/HEAD",
        ] {
            world.add(&format!("{ROOT}/{file}"), Entry::File);
        }
        for dir in ["api/src", "target/debug", ".git/hooks"] {
            world.add(&format!("{ROOT}/{dir}"), Entry::Dir);
        }
        for file in [".ssh/id_ed25519", ".gitconfig", ".env", "src/shop-evil/x", "src/other/x"] {
            world.add(&format!("{HOME}/{file}"), Entry::File);
        }
        world.add(&format!("{ROOT}/keys"), Entry::Link("/home/ada/.ssh"));
        world.add(&format!("{ROOT}/out"), Entry::Link("/home/ada/src/other"));
        world.add(&format!("{ROOT}/app.env"), Entry::File);
        world.add(&format!("{ROOT}/.env"), Entry::File);
        world.add("/tmp/git", Entry::File);
        world.add("/run/docker.sock", Entry::Device);
        world.add("/proc/self/root", Entry::Link("/"));
        world.add("/proc/self/cwd", Entry::Link(ROOT));
        world.add("/var/lib/cortex/tmp/t1", Entry::Dir);
        world
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = PathBuf::from(path);
        let parents: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        for parent in parents {
            self.entries.entry(parent).or_insert(Entry::Dir);
        }
        self.entries.insert(path, entry);
    }

    /// As the kernel does it: links are followed on the way, `..` is the parent of what was reached.
    fn resolve(&self, path: &Path) -> PathFact {
        let mut done = PathBuf::from("/");
        let mut todo: Vec<String> = parts(path);
        let mut missing = false;
        let mut budget = 100;
        while !todo.is_empty() && budget > 0 {
            budget -= 1;
            let part = todo.remove(0);
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match self.entries.get(&next) {
                Some(Entry::Link(target)) => {
                    if target.starts_with('/') {
                        done = PathBuf::from("/");
                    }
                    let mut rest = parts(Path::new(target));
                    rest.append(&mut todo);
                    todo = rest;
                    continue;
                }
                Some(Entry::File | Entry::Dir | Entry::Device) => {}
                None => missing = true,
            }
            done = next;
        }
        let kind = match self.entries.get(&done) {
            _ if missing => PathKind::Missing,
            Some(Entry::File) => PathKind::File,
            Some(Entry::Dir) => PathKind::Dir,
            Some(Entry::Device) => PathKind::Other,
            Some(Entry::Link(_)) | None => PathKind::Missing,
        };
        PathFact { canonical: done, kind }
    }

    fn find(&self, search: &[PathBuf], name: &str) -> Result<Program, String> {
        let tries: Vec<PathBuf> = if name.contains('/') {
            vec![Path::new(ROOT).join(name)]
        } else {
            search.iter().map(|dir| dir.join(name)).collect()
        };
        for path in tries {
            let target = self.resolve(&path);
            if target.kind == PathKind::File {
                let dir = self.resolve(path.parent().unwrap()).canonical;
                let path = dir.join(path.file_name().unwrap());
                return Ok(Program {
                    path,
                    target: target.canonical,
                    id: FileId { dev: 1, ino: self.inode },
                    setuid: false,
                });
            }
        }
        Err("no such program".to_owned())
    }

    fn glob(&self, dir: &Path, pattern: &str) -> Vec<String> {
        let (base, last) =
            pattern.rsplit_once('/').map_or(("", pattern), |(base, last)| (base, last));
        let at = self.resolve(&dir.join(base)).canonical;
        let names = self.entries.keys().filter(|path| path.parent() == Some(&at));
        let names = names
            .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        let (before, after) = last.split_once('*').unwrap_or((last, ""));
        let fits = |name: &String| {
            name.len() >= before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
                && !name.starts_with('.')
        };
        let full = |name: String| if base.is_empty() { name } else { format!("{base}/{name}") };
        names.filter(fits).map(full).collect()
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            home: HOME.into(),
            runtime: Some("/run/user/1000".into()),
            workspace: Some(ROOT.into()),
            state: vec!["/var/lib/cortex".into()],
            resolved: BTreeMap::new(),
        }
    }

    pub(crate) fn policy(&self, text: &str) -> Result<Policy, PolicyError> {
        let draft = Draft::parse(text, "digest".to_owned())?;
        let mut place = self.place();
        for path in draft.named(&place) {
            let canonical = self.resolve(&path).canonical;
            place.resolved.insert(path, canonical);
        }
        draft.compile(&place)
    }

    /// Answers until nothing is open.
    pub(crate) fn facts(&self, policy: &Policy, action: &Action, cwd: &str) -> Facts {
        let mut facts = Facts {
            cwd: Some(Ok(self.resolve(&Path::new(ROOT).join(cwd)).canonical)),
            home: HOME.to_owned(),
            tmpdir: "/var/lib/cortex/tmp/t1".to_owned(),
            user: "ada".to_owned(),
            agent: "mark".to_owned(),
            env: vec![
                ("LANG".to_owned(), b"de_DE.UTF-8".to_vec()),
                ("LD_PRELOAD".to_owned(), b"/x".to_vec()),
            ],
            machine: Machine {
                level: self.level,
                exact_limits: self.exact.clone(),
                cpus: 4,
                features: [("terminal".to_owned(), 0)].into(),
            },
            protected: Ok(vec![PathBuf::from(ROOT).join(".git/hooks")]),
            ..Facts::default()
        };
        for _ in 0..4 {
            let needs = policy.needs(action, &facts);
            if needs.is_empty() {
                break;
            }
            for name in needs.programs {
                facts.programs.insert(name.clone(), self.find(&policy.search(), &name));
            }
            for path in needs.paths {
                let fact = self.resolve(&path);
                facts.paths.insert(path, fact);
            }
            for (dir, pattern) in needs.globs {
                let found = self.glob(&dir, &pattern);
                facts.globs.insert((dir, pattern), Ok(found));
            }
            for secret in needs.secrets {
                facts.secrets.insert(secret, Ok(Secret(b"s3cret-value".to_vec())));
            }
        }
        facts
    }
}

fn parts(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}
