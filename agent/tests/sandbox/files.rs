//! What a task can do to files that are not its own.

use crate::support::*;
use cortex_agent_core::plan::TmpDir;
use std::path::Path;

/// Each attack must work without the sandbox and fail inside.
async fn blocked(room: &Room, attacks: &[&[&str]]) {
    for words in attacks {
        // The control last: it may destroy what the attack aims at.
        let inside = room.inside(words).await;
        let outside = room.outside(words).await;
        let who = room.who;
        assert!(inside.starts_with("BLOCKED"), "{who:?} {words:?} inside: {inside}");
        assert!(outside.starts_with("ESCAPED"), "{who:?} {words:?} control: {outside}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn nothing_outside_the_view_can_be_read_found_or_changed() {
    for who in everybody() {
        let room = Room::new(who).await;
        let secret = text(&room.secret).to_owned();
        let outside = text(room.secret.parent().unwrap()).to_owned();
        let link = text(&room.root.join("link")).to_owned();
        let hard = text(&room.root.join("hard")).to_owned();
        let through = format!("{}/../outside/secret", text(&room.root));
        let own_root = format!("/proc/self/root{secret}");
        let by_cwd = "/proc/self/cwd/../outside/secret";
        let new = format!("{outside}/new");
        let s = secret.as_str();
        blocked(
            &room,
            &[
                &["read", s],
                &["read", &through],
                &["read", &own_root],
                &["read", by_cwd],
                &["symlink", s, &link],
                &["stat", s],
                &["list", &outside],
                &["write", s],
                &["chmod", s],
                &["utime", s],
                &["link", s, &hard],
                &["create", &new],
                &["truncate", s],
                &["unlink", s],
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn what_the_view_has_is_usable_and_only_the_root_is_writable() {
    for who in everybody() {
        let room = Room::new(who).await;
        let script = "echo hi > here && mv here there && cat there && mkdir -p a/b && touch a/b/c \
                      && ls /usr/bin >/dev/null && echo x > /tmp/mine && cat /tmp/mine && rm -r a there \
                      && echo gone > /dev/null && test -c /dev/urandom && test -r /proc/self/stat";
        let ran = room.run(&room.plan(&["sh", "-c", script])).await;
        assert_eq!((ran.code(), ran.out.as_str()), (0, "hi\nx\n"), "{who:?}: {}", ran.err);
        assert_eq!(std::fs::read_dir(&room.root).unwrap().count(), 0);
        for path in ["/usr/new", "/etc/new", "/new", "/proc/sys/kernel/core_pattern"] {
            let said = room.inside(&["create", path]).await;
            assert!(said.starts_with("BLOCKED"), "{who:?} {path}: {said}");
        }
        let pattern = room.inside(&["write", "/proc/sys/kernel/core_pattern"]).await;
        assert!(pattern.starts_with("BLOCKED"), "{who:?}: {pattern}");
    }
}

#[tokio::test]
async fn a_view_of_everything_is_read_only_but_for_the_root_and_hides_what_is_denied() {
    for who in everybody() {
        let room = Room::new(who).await;
        let secret = text(&room.secret).to_owned();
        let beside = format!("{secret}-beside");
        let run = async |denied: &[&Path]| {
            let script = format!(
                "cat {secret}; echo x > {beside}; echo x > file && cat file; ls /proc | wc -l"
            );
            let mut plan = room.plan(&["sh", "-c", &script]);
            plan.view.read = vec!["/".into()];
            plan.view.read.push(room.secret.parent().unwrap().to_owned());
            plan.view.deny = denied.iter().map(|path| path.to_path_buf()).collect();
            room.run(&plan).await
        };
        let ran = run(&[]).await;
        assert!(ran.out.starts_with("the secret\nx\n"), "{who:?}: {ran:?}");
        assert!(!Path::new(&beside).exists(), "{who:?}");
        let ran = run(&[&room.secret]).await;
        assert!(ran.out.starts_with("x\n"), "{who:?}: {ran:?}");
    }
}

#[tokio::test]
async fn a_view_that_is_read_only_is_read_only() {
    for who in everybody() {
        let room = Room::new(who).await;
        let file = room.root.join("file");
        std::fs::write(&file, "x").unwrap();
        let mut plan = room.plan(&["sh", "-c", "cat file && echo y > file"]);
        plan.view.read_only = true;
        let ran = room.run(&plan).await;
        assert_eq!((ran.code(), ran.out.as_str()), (2, "x"), "{who:?}: {ran:?}");
        assert!(ran.err.contains("Read-only"), "{}", ran.err);
    }
}

#[tokio::test]
async fn what_is_denied_is_hidden_below_a_root_too() {
    for who in everybody() {
        let room = Room::new(who).await;
        let (keys, env) = (room.root.join("keys"), room.root.join(".env"));
        std::fs::create_dir(&keys).unwrap();
        std::fs::write(keys.join("id"), "secret\n").unwrap();
        std::fs::write(&env, "TOKEN=secret\n").unwrap();
        std::fs::write(room.root.join("plain"), "plain\n").unwrap();
        let mut plan = room.plan(&[
            "sh",
            "-c",
            "cat plain; cat keys/id; cat .env; ls keys; ln .env e2; mv keys k2; cat k2/id",
        ]);
        plan.view.deny = vec![keys.clone(), env.clone(), room.root.join("not there")];
        let ran = room.run(&plan).await;
        assert_eq!(ran.out, "plain\n", "{who:?}: {ran:?}");
        assert!(!ran.err.contains("secret"));
        assert_eq!(std::fs::read_to_string(keys.join("id")).unwrap(), "secret\n");
        // The control: with nothing denied all of it can be read.
        let ran = room.run(&room.plan(&["sh", "-c", "cat plain keys/id .env"])).await;
        assert_eq!(ran.out, "plain\nsecret\nTOKEN=secret\n");
    }
}

#[tokio::test]
async fn protected_names_stay_as_they_are_however_one_goes_about_it() {
    for who in everybody() {
        let room = Room::new(who).await;
        let git = room.root.join(".git");
        std::fs::create_dir_all(git.join("hooks")).unwrap();
        std::fs::write(git.join("config"), "[core]\n").unwrap();
        std::fs::write(git.join("HEAD"), "x\n").unwrap();
        if who == Who::User {
            for path in [&git, &git.join("hooks"), &git.join("config"), &git.join("HEAD")] {
                room.give(path);
            }
        }
        let protect =
            [".git/hooks", ".git/config", ".envrc", ".vscode/tasks.json", ".git/info/attributes"];
        let ways = [
            "echo x > .git/hooks/pre-commit",
            "echo x > .git/config",
            "rm -f .git/config",
            "mv .git/config c2",
            "mv .git/hooks h2",
            "mv .git g2",
            "rm -rf .git/hooks",
            "echo x > .envrc",
            "rm -f .envrc && echo x > .envrc",
            "ln -sf /etc/passwd .envrc",
            "mkdir -p .vscode && echo x > .vscode/tasks.json",
            "mv .vscode v2 && mkdir .vscode",
            "mkdir -p .git/info && echo x > .git/info/attributes",
            "ln .git/config c2 && echo x > c2",
        ];
        for way in ways {
            let mut plan = room.plan(&["sh", "-c", way]);
            plan.view.protect = protect.iter().map(|name| room.root.join(name)).collect();
            let ran = room.run(&plan).await;
            assert_ne!(ran.code(), 0, "{who:?} {way}: {ran:?}");
            // The rest of the repository is as writable as ever.
            let mut plan =
                room.plan(&["sh", "-c", "echo y > .git/HEAD && cat .git/HEAD .git/config"]);
            plan.view.protect = protect.iter().map(|name| room.root.join(name)).collect();
            let ran = room.run(&plan).await;
            assert_eq!(
                (ran.code(), ran.out.as_str()),
                (0, "y\n[core]\n"),
                "{who:?} after {way}: {ran:?}"
            );
        }
        // Nothing is left of what had to stand in for names that were not there.
        for name in [".envrc", ".vscode", ".git/info"] {
            assert!(!room.root.join(name).exists(), "{who:?} {name} was left behind");
        }
        let ran = room
            .run(&room.plan(&[
                "sh",
                "-c",
                "mv .git g2 && mkdir -p .git/hooks && echo x > .git/hooks/y && echo x > .envrc",
            ]))
            .await;
        assert_eq!(ran.code(), 0, "the control: unprotected, all of it works: {ran:?}");
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_a_directory_of_the_view_starts_nothing() {
    for who in everybody() {
        let room = Room::new(who).await;
        let sub = room.root.join("sub");
        std::os::unix::fs::symlink(room.secret.parent().unwrap(), &sub).unwrap();
        let mut plan = room.plan(&["cat", "sub/secret"]);
        plan.view.roots = vec![sub.clone()];
        plan.cwd = sub;
        let ran = room.run(&plan).await;
        assert_eq!(ran.never().code, cortex_model::Code::SandboxFailed, "{ran:?}");
    }
}

#[tokio::test]
async fn another_file_in_the_place_of_the_program_is_not_started() {
    for who in everybody() {
        let room = Room::new(who).await;
        let mut plan = room.plan(&["true"]);
        plan.files[0].1.ino += 1;
        let ran = room.run(&plan).await;
        assert!(ran.never().message.contains("is not the file"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_temporary_directory_of_its_own_comes_and_goes_with_the_task() {
    for who in everybody() {
        let room = Room::new(who).await;
        let own = room.root.parent().unwrap().join("outside/tmp-1");
        let script = "stat -c %a $TMPDIR; mkdir -p $TMPDIR/a/b && echo x > $TMPDIR/a/b/c && chmod 000 $TMPDIR/a/b $TMPDIR/a";
        let mut plan = room.plan(&["sh", "-c", script]);
        plan.env.push(("TMPDIR".to_owned(), text(&own).as_bytes().to_vec()));
        plan.tmp = TmpDir::Own(own.clone());
        let ran = room.run(&plan).await;
        assert_eq!((ran.code(), ran.out.as_str()), (0, "700\n"), "{who:?}: {ran:?}");
        assert!(!own.exists(), "{who:?}: it is still there");
    }
}

#[tokio::test]
async fn a_protected_name_below_a_file_is_no_reason_not_to_start() {
    for who in everybody() {
        let room = Room::new(who).await;
        std::fs::write(room.root.join(".hg"), "a file, as the placeholder of another task is")
            .unwrap();
        room.give(&room.root.join(".hg"));
        let script = "mv .hg x || rm .hg || mkdir -p .hg/hgrc || echo held";
        let mut plan = room.plan(&["sh", "-c", script]);
        plan.view.protect = vec![room.root.join(".hg/hgrc")];
        let ran = room.run(&plan).await;
        assert_eq!((ran.code(), ran.out.as_str()), (0, "held\n"), "{who:?}: {ran:?}");
    }
}
