//! `cortex-agent service` with the real program: the unit it writes, whether systemd reads it, and whether the program takes
//! the command line that the unit holds. No service manager is started or changed.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A home directory of its own, so that nothing of the person who runs the tests is touched.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        Home { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn agent(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cortex-agent"));
        command.env_clear().env("HOME", self.dir.path()).args(args);
        command.env("XDG_RUNTIME_DIR", self.path("runtime"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command.output().unwrap()
    }

    /// A user's manager, as far as `service` can see: the place of its socket, and a `systemctl` that writes down what it is
    /// asked.
    fn with_manager(self) -> Home {
        std::fs::create_dir_all(self.path("runtime/systemd")).unwrap();
        std::fs::create_dir_all(self.path("bin")).unwrap();
        let script =
            format!("#!/bin/sh\necho \"$@\" >> '{}'\necho active\n", self.path("asked").display());
        std::fs::write(self.path("bin/systemctl"), script).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path("bin/systemctl"), mode).unwrap();
        self
    }

    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn unit(&self) -> PathBuf {
        self.path(".config/systemd/user/cortex-agent.service")
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Whether systemd itself reads a unit, where its checker is installed.
fn verify(home: &Home, file: &Path, scope: &[&str]) {
    let mut command = Command::new("systemd-analyze");
    // Without the variable it gives up before it reads anything.
    command.env("XDG_RUNTIME_DIR", home.dir.path());
    let done = command.args(scope).arg("verify").arg("--man=no").arg(file).output();
    let Ok(done) = done else {
        eprintln!("systemd-analyze is not installed here; the text was checked");
        return;
    };
    let said = String::from_utf8_lossy(&done.stderr);
    let ours = said.lines().any(|line| line.contains("cortex-agent"));
    assert!(done.status.success() && !ours, "{said}");
}

#[test]
fn the_unit_is_printed_read_by_systemd_and_starts_the_program_with_arguments_it_takes() {
    let home = Home::new();
    let data = home.path("data of 100% $x");
    for scope in [&[][..], &["--system", "--account", "1000"], &["--system", "--account", "root"]] {
        let mut args =
            vec!["service", "install", "--dry-run", "--data-dir", data.to_str().unwrap()];
        args.extend(scope);
        let unit = stdout(&home.agent(&args));
        let file = home.path("cortex-agent.service");
        std::fs::write(&file, &unit).unwrap();
        verify(&home, &file, if scope.is_empty() { &["--user"] } else { &[] });
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let program = env!("CARGO_BIN_EXE_cortex-agent");
        let arguments = start.strip_prefix(program).unwrap();
        let quoted = format!(" run --data-dir \"{}\"", data.display());
        assert_eq!(arguments, quoted.replace('%', "%%").replace('$', "$$"));
        let started = home.agent(&["run", "--data-dir", data.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(!started.status.success() && started.status.code() != Some(2), "{said}");
    }
}

#[test]
fn installing_writes_enables_and_starts_and_uninstalling_undoes_it() {
    let home = Home::new().with_manager();
    let shown = stdout(&home.agent(&["service", "install"]));
    let unit = std::fs::read_to_string(home.unit()).unwrap();
    assert!(shown.starts_with(&unit) && shown.contains("enabled and started"), "{shown}");
    assert!(unit.contains(".local/share/cortex-agent"), "{unit}");
    let installed = ["--user daemon-reload", "--user enable --now cortex-agent.service"];
    assert_eq!(home.asked(), installed);
    assert!(stdout(&home.agent(&["service", "status"])).contains("active"));
    // Twice is as good as once.
    stdout(&home.agent(&["service", "install"]));
    assert!(stdout(&home.agent(&["service", "uninstall"])).contains("removed"));
    assert!(!home.unit().exists());
    let asked = home.asked();
    let undone = ["--user disable --now cortex-agent.service", "--user daemon-reload"];
    assert_eq!(asked[asked.len() - 2..], undone);
    assert!(stdout(&home.agent(&["service", "uninstall"])).contains("nothing to do"));
    assert!(stdout(&home.agent(&["service", "status"])).contains("not installed"));
}

#[test]
fn a_unit_of_somebody_elses_making_is_left_alone() {
    let home = Home::new().with_manager();
    std::fs::create_dir_all(home.unit().parent().unwrap()).unwrap();
    std::fs::write(home.unit(), "[Service]\nExecStart=/bin/true\n").unwrap();
    let refused = home.agent(&["service", "install"]);
    assert!(!refused.status.success() && home.asked().is_empty());
    assert!(std::fs::read_to_string(home.unit()).unwrap().contains("/bin/true"));
}

#[test]
fn without_systemd_it_says_what_to_run_instead() {
    let home = Home::new();
    for verb in ["install", "uninstall", "status"] {
        let refused = home.agent(&["service", verb]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("CX-0543"), "{said}");
        assert!(verb != "install" || said.contains("cortex-agent run --data-dir"), "{said}");
        assert!(said.contains("hint: start it again"), "{said}");
    }
    assert!(!home.unit().exists());
}
