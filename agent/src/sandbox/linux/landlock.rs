//! The Landlock layer: which files a task may touch, by the kernel's own rules and independent of namespaces. At
//! level `full` it repeats what the view says; at level `landlock` it is what there is.

use super::super::message::{Armour, Spec};
use super::view::{open_plain, path_of};
use super::{Failure, sys};
use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

const STAGE: &str = "landlock";

/// Below this version files can be emptied that may only be read.
const LEAST_ABI: u32 = 3;

/// The newest version whose rights are known here.
const KNOWN: ABI = ABI::V6;

/// Devices that hold nothing.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];

/// Restricts this process and all that it starts, for good. At level `landlock` a kernel without it is an error.
pub(super) fn restrict(spec: &Spec) -> Result<(), Failure> {
    let armour = Armour::of(spec.armour);
    let abi = sys::landlock_abi();
    match armour {
        Armour::None => return Ok(()),
        Armour::Full if abi == 0 => return Ok(()),
        Armour::Landlock if abi < LEAST_ABI => {
            let what = format!("the kernel offers version {abi}, at least {LEAST_ABI} is needed");
            return Err(Failure::new(STAGE, what));
        }
        Armour::Full | Armour::Landlock => {}
    }
    rules(spec, armour).map_err(|err| Failure::new(STAGE, err.to_string()))
}

type Error = Box<dyn std::error::Error>;

fn rules(spec: &Spec, armour: Armour) -> Result<(), Error> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?;
    if armour == Armour::Landlock && !spec.host_network {
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
    }
    let mut created = ruleset.create()?;
    match armour {
        // The view has nothing in it that may not be read.
        Armour::Full => {
            created = add(created, b"/", reading())?;
            for path in [&b"/tmp"[..], b"/dev"] {
                created = add(created, path, writing())?;
            }
        }
        Armour::Landlock | Armour::None => {
            for path in &spec.read {
                created = if_there(created, path, reading())?;
            }
            created = if_there(created, b"/proc", reading())?;
            for path in DEVICES {
                created = if_there(created, path.as_bytes(), writing())?;
            }
        }
    }
    for path in &spec.write {
        created = add(created, path, writing())?;
    }
    created.restrict_self()?;
    Ok(())
}

/// What is not there needs no rule: a list for many systems names what some do not have.
fn if_there(
    created: RulesetCreated,
    path: &[u8],
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Error> {
    match open_plain(path_of(path)) {
        Err(Errno::NOENT) => Ok(created),
        Ok(_) | Err(_) => add(created, path, rights),
    }
}

/// A symbolic link on the way is an error: whoever may write below a root could put one there.
fn add(
    created: RulesetCreated,
    path: &[u8],
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Error> {
    let path = path_of(path);
    let place = open_plain(path).map_err(|err| format!("{}: {err}", path.display()))?;
    let directory = FileType::from_raw_mode(fstat(&place)?.st_mode).is_dir();
    let rights = if directory { rights } else { rights & AccessFs::from_file(KNOWN) };
    Ok(created.add_rule(PathBeneath::new(place, rights))?)
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::from_read(KNOWN)
}

/// Everything but new device files.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(KNOWN) & !(AccessFs::MakeChar | AccessFs::MakeBlock)
}
