//! What an attempt holds while it runs: the paths that its task asks for and those of the files it works on. It waits for them
//! without a slot, and is decided on again afterwards.

use crate::asking::{No, stopped};
use crate::attempt::{Event, Job, tell};
use crate::exec::Stop;
use crate::journal::{JournalError, Receipt};
use cortex_agent_core::ExecPlan;
use cortex_agent_core::locks::Want;
use cortex_agent_core::plan::Operation;
use cortex_model::{Code, Fault, FileAction, FileOp, HeldLock, PathLock};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Whether an attempt can go on with its locks.
pub(crate) enum Holds {
    /// It can.
    Now,
    /// It has to be decided on anew first.
    Anew,
}

impl Job {
    /// Records why it does not start. `None`: nothing of it is recorded, it never started and is offered again.
    pub(crate) async fn given_up(
        self,
        rule: String,
        no: No,
    ) -> Option<Result<Receipt, JournalError>> {
        match no {
            No::Fault(fault) => Some(self.refuse(rule, Some(fault)).await),
            No::Journal(error) => Some(Err(error)),
            No::Stopped(Stop::Cancelled | Stop::Timeout) => Some(self.cancelled(rule).await),
            No::Stopped(Stop::Shutdown) => None,
        }
    }

    /// Takes the locks that the task asks for and those of the files it works on; waits for them without a slot.
    pub(crate) async fn hold(&mut self, plan: &ExecPlan) -> Result<Holds, No> {
        if self.held.is_some() {
            return Ok(Holds::Now);
        }
        let own = self.own_locks();
        let mut wants = own.clone();
        if let Operation::Process(process) = plan.operation() {
            let file = process.work.as_ref().and_then(|work| work.file());
            wants.extend(file.into_iter().flat_map(|work| locks_of(&work.action)));
        }
        if wants.is_empty() {
            return Ok(Holds::Now);
        }
        let (held, waits) = self.locks.take(&self.key, wants);
        let waited = waits.is_some();
        if let Some(granted) = waits {
            self.wait(granted).await?;
        }
        self.held = Some(held);
        if own.is_empty() {
            return Ok(if waited { Holds::Anew } else { Holds::Now });
        }
        let table = Arc::clone(&self.locks);
        let numbered = tokio::task::spawn_blocking(move || {
            let number = |want: &Want| if want.shared { Ok(0) } else { table.fence(&want.path) };
            let lock = |want: &Want| {
                let path = want.path.as_os_str().as_bytes().to_vec();
                Ok(HeldLock { path, shared: want.shared, fence: number(want)? })
            };
            own.iter().map(lock).collect::<Result<Vec<_>, Fault>>()
        });
        let lost = |_| Fault::new(Code::Internal, "the numbers of its locks were not written down");
        self.holding = numbered.await.map_err(lost).flatten().map_err(No::Fault)?;
        Ok(Holds::Anew)
    }

    /// Waits for locks without a slot, then for a slot.
    async fn wait(&mut self, granted: oneshot::Receiver<()>) -> Result<(), No> {
        let key = self.key.clone();
        tell(&self.events, Event::Waiting { key }).await;
        let patience = match self.lock_timeout_ms {
            0 => None,
            ms => Some(tokio::time::Instant::now() + std::time::Duration::from_millis(ms)),
        };
        let over = async {
            match patience {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            granted = granted => if granted.is_err() {
                return Err(No::Stopped(Stop::Shutdown));
            },
            () = over => {
                let message = format!("a path was not free within {} ms", self.lock_timeout_ms);
                return Err(No::Fault(Fault::new(Code::LockTimeout, message)));
            }
            stop = stopped(&mut self.stop) => return Err(No::Stopped(stop)),
        }
        self.resume().await
    }

    /// What the task itself asks for, links followed, in its order.
    fn own_locks(&self) -> Vec<Want> {
        let root = self.policy.roots().first().cloned().unwrap_or_else(|| "/".into());
        let want = |lock: &PathLock| {
            let path = root.join(std::ffi::OsStr::from_bytes(&lock.path));
            Want { path: crate::facts::follow(&path), shared: lock.shared }
        };
        self.own.iter().map(want).collect()
    }
}

/// The paths that an operation on files holds: what it changes alone, what it reads together with others. A piece of a file that is
/// being received goes into a part that nobody else knows.
fn locks_of(action: &FileAction) -> Vec<Want> {
    let want =
        |path: &[u8], shared| Want { path: std::ffi::OsStr::from_bytes(path).into(), shared };
    match &action.op {
        FileOp::Read(_) | FileOp::Stat(_) => vec![want(&action.path, true)],
        FileOp::Write(_) | FileOp::Edit(_) | FileOp::Delete(_) | FileOp::Finish(_) => {
            vec![want(&action.path, false)]
        }
        FileOp::Receive(_) => vec![want(&action.path, false)],
        FileOp::Move(m) => vec![want(&action.path, false), want(&m.to, false)],
        FileOp::List(_) | FileOp::Glob(_) | FileOp::Search(_) | FileOp::Chunk(_) => Vec::new(),
    }
}
