//! What the kernel holds each process of a task to by itself, and the control groups that the first one joins.

use super::super::message::{Armour, Spec};
use super::init::Place;
use super::{At, Failure, sys};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::OwnedFd;

const STAGE: &str = "limits";

/// Open files of a process.
const OPEN_FILES: u64 = 4096;

/// Enters control groups, before anything else of the task exists. Whoever opened the doors had the right to.
pub(super) fn enter(doors: Vec<OwnedFd>) -> Result<(), Failure> {
    for door in doors {
        rustix::io::write(&door, b"0").at("control group")?;
    }
    Ok(())
}

/// Limits this process and all that it starts.
pub(super) fn apply(spec: &Spec, place: Place) -> Result<(), Failure> {
    if Armour::of(spec.armour) != Armour::None {
        lower(Resource::Core, 0)?;
        lower(Resource::Nofile, OPEN_FILES)?;
    }
    if spec.file_size > 0 {
        lower(Resource::Fsize, spec.file_size)?;
    }
    if spec.memory > 0 {
        lower(Resource::Data, spec.memory)?;
    }
    // Outside a user namespace the kernel would count all that the user runs.
    if spec.pids > 0 && place.in_namespaces {
        // Process 1 of the namespace is one more.
        lower(Resource::Nproc, u64::from(spec.pids) + 1)?;
    }
    if spec.cpu_percent > 0 {
        sys::become_a_batch_process();
    }
    Ok(())
}

/// Never raises a limit that is lower already.
fn lower(resource: Resource, most: u64) -> Result<(), Failure> {
    let now = getrlimit(resource);
    let most = now.maximum.map_or(most, |maximum| maximum.min(most));
    match setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }) {
        Err(Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error).at(STAGE),
    }
}
