//! Commits: the only thing that changes what the scheduler believes about tasks.

use crate::scheduler::{RecordedCommit, Scheduler};
use crate::state::{Entry, Live, NodeIx, TaskIx, Ws, WsIx};
use crate::task::{TaskView, Violation};
use cortex_model::limits::{BROKEN_TASKS_KEPT, CONFIRM_AFTER_MS};
use cortex_model::{Event, UnixMillis, Workspace};

impl Scheduler {
    /// Applies the next commit of a shard. A commit that was applied before is ignored, so a tail may begin anywhere before.
    ///
    /// # Errors
    /// When the commit does not continue its task's history. The task is then left alone for good; the caller should say so.
    pub fn apply(&mut self, r: &RecordedCommit) -> Result<(), Violation> {
        let Some(ix) = self.by_key.get(&r.task).copied() else {
            return self.begin(r);
        };
        let Some(entry) = self.tasks.get_mut(ix) else { return Ok(()) };
        if entry.broken.is_some() || r.revision <= entry.view.revision {
            return Ok(());
        }
        let before = (entry.view.concerns_node(), entry.view.attempt);
        let result = entry.view.advance(r.revision, r.at, &r.commit);
        if let Err(violation) = &result {
            entry.broken = Some(violation.clone());
            self.remember_broken(r, violation.clone());
            self.refresh(ix);
            return result;
        }
        self.moved(ix, before);
        Ok(())
    }

    fn begin(&mut self, r: &RecordedCommit) -> Result<(), Violation> {
        if self.broken.contains_key(&r.task) {
            return Ok(());
        }
        // Tasks that are over are not kept; these may still follow.
        if let Some(Event::LateOutcome(_) | Event::Archived(_)) = r.commit.events.first() {
            return Ok(());
        }
        let view = match TaskView::begin(&r.task, r.revision, r.at, &r.commit) {
            Ok(view) => view,
            Err(violation) => {
                self.remember_broken(r, violation.clone());
                return Err(violation);
            }
        };
        if view.state.is_over() {
            return Ok(());
        }
        let ws = self.workspace(&r.task.workspace);
        let before = (false, 0);
        let ix = self.tasks.insert(Entry {
            view,
            shard: r.shard,
            broken: None,
            ws,
            class: None,
            queued: false,
            timer: None,
            live: Live::default(),
        });
        self.by_key.insert(r.task.clone(), ix);
        self.moved(ix, before);
        Ok(())
    }

    fn remember_broken(&mut self, r: &RecordedCommit, violation: Violation) {
        if self.broken.len() < BROKEN_TASKS_KEPT {
            self.broken.insert(r.task.clone(), violation);
        }
    }

    /// The number of a workspace, which begins to exist by being named.
    pub(crate) fn workspace(&mut self, name: &Workspace) -> WsIx {
        if let Some(ix) = self.ws_by_name.get(name) {
            return *ix;
        }
        let ix = self.ws.insert(Ws::default());
        self.ws_by_name.insert(name.clone(), ix);
        ix
    }

    /// Brings everything around a task in line with its new state.
    fn moved(&mut self, ix: TaskIx, before: (bool, u32)) {
        let mut touched: Vec<NodeIx> = Vec::new();
        touched.extend(self.drop_offer(ix));
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        let (ran, runs) = (before.0, entry.view.concerns_node());
        let same_attempt = before.1 == entry.view.attempt;
        let cleared = Live {
            query_at: entry.live.query_at.filter(|_| same_attempt),
            query: entry.live.query.filter(|_| same_attempt),
            unaccounted: entry.live.unaccounted.filter(|_| same_attempt),
            refused: if same_attempt {
                std::mem::take(&mut entry.live.refused)
            } else {
                Vec::new()
            },
            ..Live::default()
        };
        entry.live = cleared;
        if ran && !(runs && same_attempt) {
            touched.extend(self.leaves_node(ix));
        }
        if runs && !(ran && same_attempt) {
            touched.extend(self.enters_node(ix));
        }
        let over = self.tasks.get(ix).is_some_and(|e| e.view.state.is_over());
        if over {
            self.forget(ix);
        } else {
            self.refresh(ix);
        }
        touched.dedup();
        for node in touched {
            self.reindex(node);
            self.forget_node_if_idle(node);
        }
    }

    fn leaves_node(&mut self, ix: TaskIx) -> Option<NodeIx> {
        let entry = self.tasks.get_mut(ix)?;
        if let Some(query) = entry.live.query.take() {
            self.queries.remove(&query);
        }
        let started = entry.view.started.as_ref()?;
        let node_ix = self.ws.get(entry.ws)?.nodes.get(&started.node).copied()?;
        let n = self.nodes.get_mut(node_ix)?;
        if n.running.remove(&ix) && n.in_session(&started.session) {
            n.used = n.used.saturating_sub(1);
            n.cooling.take_if(|c| c.full);
        }
        Some(node_ix)
    }

    fn enters_node(&mut self, ix: TaskIx) -> Option<NodeIx> {
        let entry = self.tasks.get(ix)?;
        let started = entry.view.started.clone()?;
        let node_ix = self.node_record(entry.ws, &started.node);
        let n = self.nodes.get_mut(node_ix)?;
        n.running.insert(ix);
        n.refusals = 0;
        let on_this_connection = n.in_session(&started.session);
        n.used += u32::from(on_this_connection);
        let query_at =
            if on_this_connection { started.at + CONFIRM_AFTER_MS } else { UnixMillis(0) };
        if let Some(entry) = self.tasks.get_mut(ix) {
            entry.live.query_at = Some(query_at);
        }
        Some(node_ix)
    }

    /// Takes back the open offer, and says whose slot that was.
    pub(crate) fn drop_offer(&mut self, ix: TaskIx) -> Option<NodeIx> {
        let offer = self.tasks.get_mut(ix)?.live.offer.take()?;
        self.offers.remove(&offer.id);
        let node = self.nodes.get_mut(offer.node)?;
        node.offers = node.offers.saturating_sub(1);
        Some(offer.node)
    }

    /// The task is over: nothing of it is kept.
    fn forget(&mut self, ix: TaskIx) {
        self.unqueue(ix);
        self.leave_class(ix);
        let Some(entry) = self.tasks.remove(ix) else { return };
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, ix));
        }
        if let Some(query) = entry.live.query {
            self.queries.remove(&query);
        }
        self.by_key.remove(&entry.view.key);
    }
}
