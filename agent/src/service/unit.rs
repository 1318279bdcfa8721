//! The text of the systemd unit. Pure: it looks at nothing and writes nothing.

use cortex_model::{Code, Fault};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

/// Name of the unit.
pub const UNIT: &str = "cortex-agent.service";

/// Who starts the agent, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The user's own manager.
    User,
    /// The machine's manager; the agent runs as this account (a name or a number).
    System {
        /// The account; empty and `0` mean root.
        account: String,
    },
}

/// What every unit has. User namespaces and mounts stay possible: without them a task's sandbox cannot be built.
const HARDENING: &str = "\
# What the agent and its tasks can never do. Left out on purpose, because the sandbox around each task is built from user
# namespaces, mounts and a fresh /proc: RestrictNamespaces, ProtectProc, ProcSubset, ProtectKernelTunables,
# ProtectKernelLogs, ProtectControlGroups, ProtectHostname, and @mount in the filter. MemoryDenyWriteExecute would stop
# every program with a just-in-time compiler.
NoNewPrivileges=yes
UMask=0077
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
";

/// What only the machine's manager can do.
const SYSTEM_HARDENING: &str = "\
# /usr, /boot and /etc are read-only. Where tasks are meant to change the system: 'systemctl edit cortex-agent' and there
# ProtectSystem=no.
ProtectSystem=full
";

/// What an account without privileges never needs; a user namespace of its own still has them all inside.
const NO_CAPABILITIES: &str = "\
CapabilityBoundingSet=
AmbientCapabilities=
";

/// Writes the unit that runs `command`.
///
/// # Errors
/// `CX-0803` for an argument or an account that a unit cannot hold.
pub fn text(command: &[&OsStr], scope: &Scope) -> Result<String, Fault> {
    let mut line = String::new();
    for argument in command {
        if !line.is_empty() {
            line.push(' ');
        }
        quote(argument, &mut line)?;
    }
    let mut unit = String::from(
        "# Written by 'cortex-agent service install', removed by 'cortex-agent service uninstall'.\n\
         # Change it with 'systemctl edit', which keeps your changes apart from this file.\n\
         [Unit]\nDescription=Cortex agent: runs tasks on this machine for its owner\n",
    );
    if let Scope::System { .. } = scope {
        unit.push_str("Wants=network-online.target\nAfter=network-online.target\n");
    }
    unit.push_str("# It tries again for ever: a server may be away for longer than systemd would be patient.\nStartLimitIntervalSec=0\n\n");
    let _infallible = write!(unit, "[Service]\nType=exec\nExecStart={line}\n");
    let root = match scope {
        Scope::User => false,
        Scope::System { account } => {
            let known = !account.is_empty() && account.bytes().all(is_account);
            if !known && !account.is_empty() {
                return Err(Fault::new(Code::Usage, format!("{account:?} is not an account")));
            }
            if known {
                let _infallible = writeln!(unit, "User={account}");
            }
            !known || account == "root" || account == "0"
        }
    };
    unit.push_str(
        "Restart=always\nRestartSec=5\n\
         # A machine that is no node has nothing to try again before it joined.\nRestartPreventExitStatus=78\n\
         # The agent ends its tasks itself and reports them; only what is left then is killed.\n\
         KillMode=mixed\nTimeoutStopSec=30\n\
         # A task that runs out of memory must not take the agent with it.\nOOMPolicy=continue\n\
         # So that limits of tasks can be enforced with control groups.\nDelegate=yes\n\
         LimitNOFILE=65536\n\n",
    );
    unit.push_str(HARDENING);
    if let Scope::System { .. } = scope {
        unit.push_str(SYSTEM_HARDENING);
    }
    if !root {
        unit.push_str(NO_CAPABILITIES);
    }
    let target = if *scope == Scope::User { "default.target" } else { "multi-user.target" };
    let _infallible = write!(unit, "\n[Install]\nWantedBy={target}\n");
    Ok(unit)
}

fn is_account(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// One word of a command line as systemd reads it: quoted, with its specifiers and variables doubled.
fn quote(word: &OsStr, line: &mut String) -> Result<(), Fault> {
    let text =
        word.to_str().filter(|text| !text.chars().any(char::is_control)).ok_or_else(|| {
            Fault::new(Code::Usage, format!("{} cannot stand in a unit", Path::new(word).display()))
                .with_hint("use a directory whose name is plain text")
        })?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(text);
        return Ok(());
    }
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '%' | '$' => line.extend([c, c]),
            _ => line.push(c),
        }
    }
    line.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(scope: &Scope) -> String {
        let command = ["/usr/bin/cortex-agent", "run", "--data-dir", "/var/lib/cortex-agent"];
        text(&command.map(OsStr::new), scope).unwrap()
    }

    fn system(account: &str) -> Scope {
        Scope::System { account: account.to_owned() }
    }

    #[test]
    fn a_unit_is_hardened_but_leaves_the_sandbox_what_it_is_built_from() {
        for scope in [Scope::User, system("cortex"), system("root")] {
            let text = unit(&scope);
            let set = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key}=")));
            for key in ["NoNewPrivileges", "RestrictSUIDSGID", "SystemCallFilter", "UMask"] {
                assert!(set(key), "{key} in {text}");
            }
            for key in [
                "RestrictNamespaces",
                "ProtectProc",
                "ProcSubset",
                "ProtectKernelTunables",
                "ProtectKernelLogs",
                "ProtectControlGroups",
                "ProtectHostname",
                "PrivateUsers",
                "MemoryDenyWriteExecute",
                "PrivateDevices",
            ] {
                assert!(!set(key), "{key} in {text}");
            }
            let filter = text.lines().find(|line| line.starts_with("SystemCallFilter=")).unwrap();
            assert!(filter.starts_with("SystemCallFilter=~") && !filter.contains("@mount"));
            assert!(set("OOMPolicy") && set("Delegate") && set("KillMode"));
        }
    }

    #[test]
    fn only_the_machines_manager_is_told_an_account_and_only_root_keeps_capabilities() {
        let user = unit(&Scope::User);
        assert!(user.contains("WantedBy=default.target") && !user.contains("User="));
        assert!(!user.contains("ProtectSystem=") && user.contains("\nCapabilityBoundingSet=\n"));
        let own = unit(&system("cortex"));
        assert!(own.contains("\nUser=cortex\n") && own.contains("WantedBy=multi-user.target"));
        assert!(own.contains("ProtectSystem=full") && own.contains("\nCapabilityBoundingSet=\n"));
        for root in ["", "root", "0"] {
            assert!(!unit(&system(root)).contains("CapabilityBoundingSet="), "{root}");
        }
        for odd in ["a b", "x\nExecStartPre=/bin/sh", "%u"] {
            assert_eq!(text(&[OsStr::new("/x")], &system(odd)).unwrap_err().code, Code::Usage);
        }
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        for (word, quoted) in [
            ("/usr/bin/x", "/usr/bin/x"),
            ("", "\"\""),
            ("/a b", "\"/a b\""),
            ("100%", "\"100%%\""),
            ("$HOME", "\"$$HOME\""),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("grün", "\"grün\""),
        ] {
            let mut line = String::new();
            quote(OsStr::new(word), &mut line).unwrap();
            assert_eq!(line, quoted);
        }
        assert!(quote(OsStr::new("a\nExecStart=/bin/sh"), &mut String::new()).is_err());
    }
}
