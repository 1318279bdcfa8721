//! Which system calls a task may make. Everything is allowed but what reaches around the other layers: other
//! processes' memory, new namespaces, mounts, the kernel itself, families of sockets that nothing else confines.
//!
//! Three filters, because one filter knows one answer: the kernel takes the strictest. Calls of a foreign
//! architecture kill the process, so there are no 32-bit programs.

use super::Failure;
use crate::sandbox::message::Armour;
use libc::{
    AF_INET, AF_INET6, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS,
    CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

const STAGE: &str = "seccomp";

/// Has this number on every architecture; libc does not name it.
const QUOTACTL_FD: i64 = 443;

/// Refused with EPERM, whatever the arguments.
const REFUSED: &[i64] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    // Ways around the rules for paths.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Large parts of the kernel that no build needs.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_vhangup,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_quotactl,
    QUOTACTL_FD,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Pushes a byte into a terminal's input, as if it had been typed.
const TIOCSTI: u64 = 0x5412;
/// The same, and more, on the console.
const TIOCLINUX: u64 = 0x541c;

const NAMESPACES: [i32; 7] = [
    CLONE_NEWUSER,
    CLONE_NEWNS,
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWIPC,
    CLONE_NEWUTS,
    CLONE_NEWCGROUP,
];

/// The filters for every kind of task, built once.
pub(super) struct Filters {
    missing: BpfProgram,
    missing_to_files: BpfProgram,
    numbers: BpfProgram,
    full: BpfProgram,
    landlock: BpfProgram,
    landlock_offline: BpfProgram,
}

impl Filters {
    /// Builds them for this processor.
    pub(super) fn build() -> Result<Self, seccompiler::Error> {
        let inet: &[i32] = &[AF_UNIX, AF_INET, AF_INET6];
        Ok(Self {
            missing: missing(&[libc::SYS_clone3, libc::SYS_openat2])?,
            missing_to_files: missing(&[libc::SYS_clone3])?,
            numbers: numbers(),
            full: refused(inet)?,
            // Without a mount namespace every socket file of the machine is in reach.
            landlock: refused(&[AF_INET, AF_INET6])?,
            landlock_offline: refused(&[])?,
        })
    }

    /// Puts the filters on this process, for good. `files`: it is the agent's own worker for files, which needs `openat2`.
    pub(super) fn apply(
        &self,
        armour: Armour,
        host_network: bool,
        files: bool,
    ) -> Result<(), Failure> {
        let refused = match armour {
            Armour::None => return Ok(()),
            Armour::Full => &self.full,
            Armour::Landlock if host_network => &self.landlock,
            Armour::Landlock => &self.landlock_offline,
        };
        let missing = if files { &self.missing_to_files } else { &self.missing };
        for program in [missing, &self.numbers, refused] {
            if !program.is_empty() {
                seccompiler::apply_filter(program)
                    .map_err(|err| Failure::new(STAGE, err.to_string()))?;
            }
        }
        Ok(())
    }
}

/// `clone3` and `openat2` hide their flags in memory, which no filter can read. "Not there" sends programs to the older
/// calls.
fn missing(calls: &[i64]) -> Result<BpfProgram, seccompiler::Error> {
    let rules = calls.iter().map(|number| (*number, Vec::new()));
    program(rules.collect(), libc::ENOSYS)
}

/// Calls that give a file its mode, with the argument that says it, and the one with the flags that say whether there
/// is a mode at all.
fn modes() -> Vec<(i64, u8, Option<u8>)> {
    const FCHMODAT2: i64 = 452;
    let mut all = vec![
        (libc::SYS_fchmod, 1, None),
        (libc::SYS_fchmodat, 2, None),
        (FCHMODAT2, 2, None),
        (libc::SYS_openat, 3, Some(2)),
        (libc::SYS_mknodat, 2, None),
    ];
    #[cfg(target_arch = "x86_64")]
    all.extend([
        (libc::SYS_chmod, 1, None),
        (libc::SYS_open, 2, Some(1)),
        (libc::SYS_creat, 1, None),
        (libc::SYS_mknod, 1, None),
    ]);
    all
}

/// Whether a call gives one of these bits.
fn lending(mode: u8, flags: Option<u8>) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    const TMPFILE: u64 = 0o20_000_000;
    let mut rules = Vec::new();
    for bit in [libc::S_ISUID, libc::S_ISGID].map(u64::from) {
        let lends = when(mode, SeccompCmpOp::MaskedEq(bit), bit)?;
        let Some(flags) = flags else {
            rules.push(SeccompRule::new(vec![lends])?);
            continue;
        };
        for flag in [libc::O_CREAT as u64, TMPFILE] {
            let makes = when(flags, SeccompCmpOp::MaskedEq(flag), flag)?;
            rules.push(SeccompRule::new(vec![makes, lends.clone()])?);
        }
    }
    Ok(rules)
}

/// Numbers of the x32 flavour count as the same architecture and would pass by every rule.
#[cfg(target_arch = "x86_64")]
fn numbers() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000;
    const ERRNO: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let step = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    vec![
        step(LOAD, 0, 0),
        step(AT_LEAST, 1, X32),
        step(RETURN, 0, ALLOW),
        step(RETURN, 0, ERRNO | libc::ENOSYS as u32),
    ]
}

/// There is no second flavour.
#[cfg(not(target_arch = "x86_64"))]
fn numbers() -> BpfProgram {
    BpfProgram::new()
}

fn refused(families: &[i32]) -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    let mut clones = Vec::new();
    for flag in NAMESPACES {
        let flag = flag as u64;
        clones.push(SeccompRule::new(vec![when(0, SeccompCmpOp::MaskedEq(flag), flag)?])?);
    }
    rules.insert(libc::SYS_clone, clones);
    let mut ioctls = Vec::new();
    for request in [TIOCSTI, TIOCLINUX] {
        ioctls.push(SeccompRule::new(vec![when(1, SeccompCmpOp::Eq, request)?])?);
    }
    rules.insert(libc::SYS_ioctl, ioctls);
    // A program that lends the rights of its owner, left in a directory of the machine, would lend them outside.
    for (number, mode, flags) in modes() {
        rules.insert(number, lending(mode, flags)?);
    }
    let mut others = Vec::new();
    for family in families {
        others.push(when(0, SeccompCmpOp::Ne, *family as u64)?);
    }
    let socket = if others.is_empty() { Vec::new() } else { vec![SeccompRule::new(others)?] };
    rules.insert(libc::SYS_socket, socket);
    program(rules, libc::EPERM)
}

/// A condition on the lower half of an argument: the kernel looks at no more of these.
fn when(
    argument: u8,
    how: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)?)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
) -> Result<BpfProgram, seccompiler::Error> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let answer = SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program of comparisons and answers says to a number; the kernel's other steps are not in it.
    #[cfg(target_arch = "x86_64")]
    fn answer(program: &[sock_filter], number: u32) -> u32 {
        let mut at = 0;
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                0x20 => assert_eq!(k, 0, "it is the number that is loaded"),
                0x35 => at += usize::from(if number >= k { jt } else { jf }),
                0x06 => return k,
                other => panic!("code {other:#x}"),
            }
        }
    }

    // A kernel without these numbers says the same by itself, so that nothing is to be seen from inside a task.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn numbers_of_the_second_flavour_do_not_exist() {
        let (allow, missing) = (0x7fff_0000, 0x0005_0000 | 38);
        for number in [0, 39, 462, 0x3fff_ffff] {
            assert_eq!(answer(&numbers(), number), allow, "{number:#x}");
        }
        for number in [0x4000_0000, 0x4000_0027, u32::MAX] {
            assert_eq!(answer(&numbers(), number), missing, "{number:#x}");
        }
    }
}
