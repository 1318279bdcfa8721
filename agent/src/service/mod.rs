//! `cortex-agent service`: has systemd run the agent. It writes one unit file, asks `systemctl` for the rest, and never
//! touches a service it did not write.

mod unit;

pub use unit::{Scope, UNIT, text};

use clap::{Args, Subcommand};
use cortex_model::{Code, Fault};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The command's arguments.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// Write the unit, enable and start it; prints it.
    Install(Install),
    /// Stop and disable it, and remove the unit. The node's identity and journal stay.
    Uninstall(Which),
    /// Say whether it is installed and running.
    Status(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The machine's manager instead of your own; needs root.
    #[arg(long)]
    system: bool,
}

#[derive(Debug, Args)]
struct Install {
    #[command(flatten)]
    which: Which,
    /// Only print the unit.
    #[arg(long)]
    dry_run: bool,
    /// The agent's data directory.
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// With --system: the account the agent runs as [default: the owner of the data directory].
    #[arg(long, value_name = "USER", requires = "system")]
    account: Option<String>,
}

/// Does what was asked. `inside` are the arguments by which the present program reaches the agent's command line.
pub(crate) fn run(args: ServiceArgs, inside: &[&str]) -> Result<(), Fault> {
    match args.command {
        ServiceCommand::Install(install) => self::install(&install, inside),
        ServiceCommand::Uninstall(which) => uninstall(&which),
        ServiceCommand::Status(which) => status(&which),
    }
}

fn install(args: &Install, inside: &[&str]) -> Result<(), Fault> {
    let data_dir = match &args.data_dir {
        Some(dir) => std::path::absolute(dir).map_err(|err| failed(dir, &err))?,
        None if args.which.system => PathBuf::from(crate::config::SYSTEM_DATA_DIR),
        None => crate::config::default_data_dir()?,
    };
    let command = command(&data_dir, inside)?;
    let words: Vec<&OsStr> = command.iter().map(OsString::as_os_str).collect();
    let scope = scope(args, &data_dir)?;
    let unit = text(&words, &scope)?;
    if args.dry_run {
        return say(&unit);
    }
    let manager = Manager::find(&args.which, &words)?;
    let path = manager.unit_path()?;
    write(&path, &unit)?;
    manager.systemctl(&["daemon-reload"])?;
    manager.systemctl(&["enable", "--now", UNIT])?;
    say(&unit)?;
    say(&format!("installed as {}, enabled and started\n", path.display()))?;
    match scope {
        Scope::User => {
            say("it runs while you are logged in; to have it run always: loginctl enable-linger\n")
        }
        Scope::System { account } if matches!(account.as_str(), "" | "0" | "root") => say(
            "it runs as root, and so do its tasks; for another account: --account USER, who must own the data directory\n",
        ),
        Scope::System { .. } => Ok(()),
    }
}

/// What the unit runs.
fn command(data_dir: &Path, inside: &[&str]) -> Result<Vec<OsString>, Fault> {
    let program = std::env::current_exe()
        .map_err(|err| Fault::new(Code::AgentUnable, format!("this program's path: {err}")))?;
    let mut command = vec![program.into_os_string()];
    command.extend(inside.iter().map(OsString::from));
    command.extend(["run".into(), "--data-dir".into(), data_dir.as_os_str().to_owned()]);
    Ok(command)
}

fn scope(args: &Install, data_dir: &Path) -> Result<Scope, Fault> {
    if !args.which.system {
        return Ok(Scope::User);
    }
    let account = match (&args.account, fs::metadata(data_dir)) {
        (Some(account), _) => account.clone(),
        (None, Ok(meta)) => meta.uid().to_string(),
        // It is made when the service starts, by root.
        (None, Err(err)) if err.kind() == io::ErrorKind::NotFound => String::new(),
        (None, Err(err)) => return Err(failed(data_dir, &err)),
    };
    Ok(Scope::System { account })
}

fn uninstall(which: &Which) -> Result<(), Fault> {
    let manager = Manager::find(which, &[])?;
    let path = manager.unit_path()?;
    if !path.exists() {
        return say(&format!("nothing to do: there is no {}\n", path.display()));
    }
    manager.systemctl(&["disable", "--now", UNIT])?;
    fs::remove_file(&path).map_err(|err| failed(&path, &err))?;
    manager.systemctl(&["daemon-reload"])?;
    say(&format!("removed {}; identity and journal stay in the data directory\n", path.display()))
}

fn status(which: &Which) -> Result<(), Fault> {
    let manager = Manager::find(which, &[])?;
    let path = manager.unit_path()?;
    if !path.exists() {
        return say(&format!("not installed: there is no {}\n", path.display()));
    }
    // Both commands also tell by their exit code what they print.
    let asked = |verb: &str| manager.ask(&[verb, UNIT]);
    let (active, enabled) = (asked("is-active")?, asked("is-enabled")?);
    say(&format!("{UNIT}: {active}, {enabled}\nunit: {}\n", path.display()))
}

/// The systemd that is meant.
struct Manager {
    system: bool,
}

impl Manager {
    /// # Errors
    /// `CX-0543` when there is none, with the command to run by other means.
    fn find(which: &Which, command: &[&OsStr]) -> Result<Manager, Fault> {
        let running = if which.system {
            Path::new("/run/systemd/system").is_dir()
        } else {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            runtime.is_some_and(|dir| dir.join("systemd").exists())
        };
        if running {
            return Ok(Manager { system: which.system });
        }
        let manager = if which.system { "the system's" } else { "your user's" };
        let mut message = format!("{manager} systemd does not run here");
        if !command.is_empty() {
            let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
            message.push_str("; have your supervisor run: ");
            message.push_str(&words.join(" "));
        }
        Err(Fault::new(Code::NoServiceManager, message).with_hint(
            "start it again whenever it ends, after 5 seconds; end it with SIGTERM and 30 seconds of patience",
        ))
    }

    /// Where its units lie that an administrator or a user wrote.
    fn unit_path(&self) -> Result<PathBuf, Fault> {
        if self.system {
            return Ok(Path::new("/etc/systemd/system").join(UNIT));
        }
        let config = crate::config::xdg("XDG_CONFIG_HOME", ".config")?;
        Ok(config.join("systemd/user").join(UNIT))
    }

    fn systemctl(&self, args: &[&str]) -> Result<(), Fault> {
        let done =
            self.command(args).output().map_err(|err| failed(Path::new("systemctl"), &err))?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        let message = format!("systemctl {}: {}", args.join(" "), said.trim());
        Err(Fault::new(Code::AgentUnable, message))
    }

    fn ask(&self, args: &[&str]) -> Result<String, Fault> {
        let done =
            self.command(args).output().map_err(|err| failed(Path::new("systemctl"), &err))?;
        let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        Ok(if said.is_empty() { "unknown".to_owned() } else { said })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        if !self.system {
            command.arg("--user");
        }
        command.args(args);
        command
    }
}

/// Writes the unit, whole or not at all; one of somebody else's making is left alone.
fn write(path: &Path, unit: &str) -> Result<(), Fault> {
    let first = unit.lines().next().unwrap_or_default();
    match fs::read_to_string(path) {
        Ok(there) if !there.starts_with(first) => {
            return Err(Fault::new(
                Code::Usage,
                format!("{} was not written by this command", path.display()),
            )
            .with_hint("move it aside, or change it yourself"));
        }
        Ok(_) => {}
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(failed(path, &err)),
    }
    let part = path.with_extension("service.part");
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|err| failed(folder, &err))?;
    fs::write(&part, unit).map_err(|err| failed(&part, &err))?;
    fs::rename(&part, path).map_err(|err| failed(path, &err))
}

fn say(text: &str) -> Result<(), Fault> {
    let written = crate::out::out().write_all(text.as_bytes());
    written.map_err(|err| Fault::new(Code::AgentUnable, format!("standard output: {err}")))
}

fn failed(path: &Path, err: &io::Error) -> Fault {
    let fault = Fault::new(Code::AgentUnable, format!("{}: {err}", path.display()));
    if err.kind() == io::ErrorKind::PermissionDenied {
        return fault.with_hint("run it as root, or leave --system out");
    }
    fault
}
