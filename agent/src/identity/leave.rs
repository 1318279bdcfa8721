//! Leaving: at once on this machine, whatever the server says. The key is forgotten first; it is told to the server from
//! memory, as long as that answers. Journal and waiting output are kept, set aside.

use super::calls;
use super::key::NodeKey;
use super::store::{Enrolled, Store};
use super::tls::{Trust, connect};
use crate::clock::unix_now;
use crate::lock;
use cortex_model::limits::enrol::LEAVE_PATIENCE_MS;
use cortex_model::{Code, Fault};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What became of a leave.
#[derive(Debug)]
pub(crate) struct Left {
    /// The node it was; none if nothing usable was found.
    pub(crate) enrolled: Option<Enrolled>,
    /// Why the server does not know of it.
    pub(crate) untold: Option<Fault>,
    /// Where journal and output lie now.
    pub(crate) aside: Option<PathBuf>,
    /// The agent that did not end in time.
    pub(crate) still_running: Option<u32>,
}

/// Leaves.
///
/// # Errors
/// `CX-0540` when there is nothing to leave; when the files cannot be removed.
pub(crate) async fn leave(data_dir: &Path, reason: &str) -> Result<Left, Fault> {
    let store = Store::of(data_dir);
    if !store.exists() {
        return Err(Fault::new(
            Code::NotEnrolled,
            "this machine is no node, there is nothing to leave",
        ));
    }
    // A damaged identity can be left too.
    let known = store.load().and_then(|enrolled| store.key().map(|key| (enrolled, key)));
    store.remove()?;
    let patience = Duration::from_millis(LEAVE_PATIENCE_MS);
    // A running agent sees that the file is gone and ends.
    let still_running = lock::until_free(data_dir, patience).await?;
    let aside = match still_running {
        None => set_aside(data_dir)?,
        Some(_) => None,
    };
    let untold = match &known {
        Ok((enrolled, key)) => {
            let told = tokio::time::timeout(patience, tell(enrolled, key, reason)).await;
            let late =
                |_| Err(Fault::new(Code::CannotConnect, "the server did not answer in time"));
            told.unwrap_or_else(late).err()
        }
        Err(fault) => Some(fault.clone()),
    };
    Ok(Left { enrolled: known.ok().map(|(enrolled, _)| enrolled), untold, aside, still_running })
}

async fn tell(enrolled: &Enrolled, key: &NodeKey, reason: &str) -> Result<(), Fault> {
    let certificate = enrolled.certificate()?;
    let (roots, chain) = (certificate.roots()?, certificate.chain()?);
    let channel = connect(&enrolled.server, Trust::Roots(roots), Some((chain, key))).await?;
    calls::leave(channel, reason).await
}

/// Another node of this data directory begins a journal of its own.
fn set_aside(data_dir: &Path) -> Result<Option<PathBuf>, Fault> {
    let aside = data_dir.join(format!("left-{}", unix_now()));
    let mut moved = false;
    for name in ["journal", "spool"] {
        let from = data_dir.join(name);
        let failed =
            |err: &io::Error| Fault::new(Code::AgentUnable, format!("{}: {err}", from.display()));
        match fs::read_dir(&from).map(|mut entries| entries.next().is_some()) {
            Ok(true) => {
                fs::create_dir_all(&aside).map_err(|err| failed(&err))?;
                fs::rename(&from, aside.join(name)).map_err(|err| failed(&err))?;
                moved = true;
            }
            Ok(false) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(failed(&err)),
        }
    }
    Ok(moved.then_some(aside))
}
