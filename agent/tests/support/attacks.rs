//! Programs that do what a task must not be able to, and that take abilities away from what they start.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A directory for programs that every user may run, with the attacks and the agent in it.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        // Who runs as somebody else may not get at the sources.
        if let Some(made) = std::env::var_os("CORTEX_TEST_PROGRAMS") {
            return made.into();
        }
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/attack.c");
        let agent = env!("CARGO_BIN_EXE_cortex-agent");
        let stamp = |path: &str| std::fs::metadata(path).unwrap().mtime_nsec();
        let name = format!(
            "cortex-attacks-{}-{:x}-{:x}",
            rustix::process::geteuid().as_raw(),
            stamp(source),
            stamp(agent)
        );
        let dir = std::env::temp_dir().join(name);
        if dir.join("attack").exists() {
            return dir;
        }
        let fresh = tempfile::tempdir().unwrap().keep();
        let attack = fresh.join("attack");
        let made = std::process::Command::new("cc")
            .args(["-O1", "-o"])
            .args([attack.as_path(), Path::new(source)])
            .status();
        assert!(made.unwrap().success(), "the attacks do not compile");
        std::fs::copy(agent, fresh.join("cortex-agent")).unwrap();
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another test process may have been quicker.
        if std::fs::rename(&fresh, &dir).is_err() {
            std::fs::remove_dir_all(&fresh).unwrap();
        }
        dir
    })
}

/// The program with the attacks.
pub(crate) fn attacks() -> PathBuf {
    programs().join("attack")
}
