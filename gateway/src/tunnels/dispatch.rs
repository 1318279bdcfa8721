//! Offers, questions and cancellations on their way from schedulers to the agent, and claims on their way to the log.

use super::connection::{Connection, Done};
use super::offers::{self, Waiting};
use cortex_log::Message;
use cortex_model::AttemptKey;
use cortex_model::proto as pb;
use cortex_scheduler_core::decide::{self, Claimant};
use futures::FutureExt;
use pb::dispatch_reply::Body as Reply;
use prost::Message as _;

impl Connection {
    /// A scheduler's message for this node.
    pub(super) fn request(&mut self, mut m: Message) {
        let Ok(request) = pb::DispatchRequest::decode(std::mem::take(&mut m.body)) else {
            tracing::warn!(subject = m.subject, "a scheduler's message cannot be read");
            return;
        };
        use pb::dispatch_request::Body;
        self.next_id += 1;
        let id = self.next_id;
        match request.body {
            Some(Body::Offer(offer)) if self.relay.barred().is_some() => {
                let error = self.relay.barred().as_ref().map(Into::into);
                let task_id = offer.offer.map_or(String::new(), |offer| offer.task_id);
                let reason = pb::BusyReason::Unable.into();
                self.reply(
                    m,
                    Reply::Busy(pb::Busy { offer_id: 0, task_id, reason, slots_free: 0, error }),
                );
            }
            Some(Body::Offer(mut offer)) => {
                let mut to_agent = offer.offer.take().unwrap_or_default();
                let attempt = to_agent.attempt;
                to_agent.offer_id = id;
                match self.end.offer(to_agent) {
                    Ok(()) => {
                        let since = tokio::time::Instant::now();
                        let scheduler = request.scheduler;
                        let waiting = Waiting { message: m, scheduler, attempt, offer, since };
                        self.offers.insert(id, waiting);
                    }
                    Err(_) => self.reply(m, Reply::Gone(pb::SessionGone {})),
                }
            }
            Some(Body::Query(q)) => {
                let sent = self.end.query(pb::Query { query_id: id, ..q });
                self.ask(id, m, sent.is_ok());
            }
            Some(Body::Cancel(c)) => {
                let sent = self.end.cancel(pb::Cancel { query_id: id, ..c });
                self.ask(id, m, sent.is_ok());
            }
            Some(Body::Terminal(input)) => {
                let sent = self.end.terminal(pb::TerminalInput { query_id: id, ..input });
                self.ask(id, m, sent.is_ok());
            }
            None => {}
        }
    }

    pub(super) fn ask(&mut self, id: u64, m: Message, sent: bool) {
        if sent {
            self.asked.insert(id, m);
        } else {
            self.reply(m, Reply::Gone(pb::SessionGone {}));
        }
    }

    pub(super) fn reply(&mut self, to: Message, body: Reply) {
        let shared = self.shared.clone();
        self.work.push(
            async move {
                offers::reply(shared, to, body).await;
                Done::Replied
            }
            .boxed(),
        );
    }

    /// The agent takes an offer: the log decides whether it gets the task.
    pub(super) fn claim(&mut self, offer_id: u64, key: AttemptKey, fence: u64, slots_free: u32) {
        if self.principal.ended().is_cancelled() {
            // The tunnel is being cut; the scheduler learns that the session is gone.
            self.end.no_go(offer_id, None);
            return;
        }
        let (Some(waiting), Some(peer)) = (self.offers.remove(&offer_id), &self.peer) else {
            self.end.no_go(offer_id, None);
            return;
        };
        if let Some(fault) = self.relay.barred() {
            self.end.no_go(offer_id, Some((&fault).into()));
            return;
        }
        let by = Claimant {
            node: peer.node.clone(),
            incarnation: peer.incarnation.clone(),
            session: peer.session.clone(),
            gateway: self.shared.config.name.clone(),
        };
        let commit = match waiting.offered() {
            Ok(offered) => decide::started(offered, by, crate::clock::now()),
            Err(fault) => {
                self.end.no_go(offer_id, Some((&fault).into()));
                return;
            }
        };
        let claim = pb::Claim {
            offer_id,
            workspace: key.task.workspace.to_string(),
            task_id: key.task.task.to_string(),
            attempt: key.attempt,
            fence,
            slots_free,
        };
        self.reply(waiting.message, Reply::Claim(claim));
        let shared = self.shared.clone();
        self.work.push(
            async move {
                shared.seats.may_act().await;
                let result = offers::append(&shared.tasks, &key, fence, &commit).await;
                // The append may have taken long: the node is not told to go if it went elsewhere meanwhile.
                shared.seats.may_act().await;
                Done::Started { offer_id, result }
            }
            .boxed(),
        );
    }
}
