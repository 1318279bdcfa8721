//! Against a real disk.

use super::paths::{expand, resolve};
use super::*;
use cortex_agent_core::policy::PathKind;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn names_are_found_in_the_search_path_and_links_in_the_last_place_stay() {
    let found = resolve_program(b"sh").unwrap();
    let sh = &found.path;
    assert_eq!(sh.file_name(), Some(OsStr::new("sh")));
    assert_eq!(resolve_program(sh.as_os_str().as_bytes()), Ok(found.clone()));
    assert_eq!(resolve_dir(Path::new("/bin/sh")), resolve_dir(sh));
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("renamed");
    symlink(sh, &link).unwrap();
    let renamed = resolve_program(link.as_os_str().as_bytes()).unwrap();
    assert_eq!((renamed.id, &renamed.target), (found.id, &found.target));
    assert_eq!(renamed.path.file_name(), Some(OsStr::new("renamed")));
}

#[test]
fn what_is_no_program_is_said() {
    for name in [&b"./sh"[..], b"../bin/sh", b"", b"no-such-program", b"/", b"/etc", b"/etc/passwd"]
    {
        assert!(resolve_program(name).is_err(), "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn paths_are_followed_through_links_also_where_they_end_in_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(base.join("root/sub")).unwrap();
    std::fs::create_dir(base.join("other")).unwrap();
    symlink(base.join("other"), base.join("root/out")).unwrap();
    symlink("../other/new", base.join("root/dangling")).unwrap();
    symlink("loop", base.join("root/loop")).unwrap();
    for (path, canonical, kind) in [
        ("root/sub/../x", "root/x", PathKind::Missing),
        ("root/out", "other", PathKind::Dir),
        ("root/out/../y", "y", PathKind::Missing),
        ("root/out/deep/er", "other/deep/er", PathKind::Missing),
        ("root/dangling", "other/new", PathKind::Missing),
        ("root/nothing/../../z", "z", PathKind::Missing),
    ] {
        let fact = resolve(&base.join(path));
        assert_eq!((fact.canonical, fact.kind), (base.join(canonical), kind), "{path}");
    }
    assert_eq!(resolve(&base.join("root/loop")).kind, PathKind::Missing);
    assert_eq!(resolve(Path::new("/dev/null")).kind, PathKind::Other);
}

#[test]
fn patterns_stand_for_what_a_shell_says_they_do() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.rs", "b.rs", ".c.rs", "-rf", "d/e.rs", "d/f.txt", "g/h.rs"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    for pattern in
        ["*.rs", "?.rs", "*/*.rs", ".*.rs", "*", "d/*", "*/", "x*", "d/../*.rs", "*/e.rs"]
    {
        let script = format!("for f in {pattern}; do [ -e \"$f\" ] && printf '%s\\n' \"$f\"; done");
        let shell = std::process::Command::new("sh")
            .arg("-c")
            .arg(script)
            .current_dir(dir.path())
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let shell: Vec<String> =
            String::from_utf8(shell.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(expand(dir.path(), pattern).unwrap(), shell, "{pattern}");
    }
}

#[test]
fn hidden_and_protected_names_are_found_and_missing_ones_are_named_at_the_top() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a/.env", "a/b/.git/hooks/x", "c.pem", "d/e"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let names = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (env, pem, hooks, envrc) =
        (names(&[".env"]), names(&["*.pem"]), names(&[".git", "hooks"]), names(&[".envrc"]));
    let roots = [dir.path().to_owned()];
    let found = walk::look(&roots, &[&env, &pem], &[&hooks, &envrc]).unwrap();
    assert_eq!(found.hidden, [dir.path().join("a/.env"), dir.path().join("c.pem")]);
    let protected = [".envrc", ".git/hooks", "a/b/.git/hooks"].map(|name| dir.path().join(name));
    assert_eq!(found.protected, protected);
}

#[test]
fn a_secret_that_others_can_read_is_none() {
    use cortex_agent_core::policy::SecretRef;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "hush-hush\n").unwrap();
    let mode =
        |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(secrets::read(&SecretRef::File(path.clone())).unwrap_err().contains("chmod"));
    mode(0o600);
    assert_eq!(secrets::read(&SecretRef::File(path.clone())).unwrap().0, b"hush-hush");
    std::fs::write(&path, "\n").unwrap();
    assert!(secrets::read(&SecretRef::File(path)).is_err());
    assert!(secrets::read(&SecretRef::File(dir.path().join("none"))).is_err());
}
