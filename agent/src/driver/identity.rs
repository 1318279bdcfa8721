//! Staying who the node is while it works: a newer token before the old one ends, a new certificate in time, and the end of
//! everything when the owner made the node leave. What is shown to whom is decided in `crate::identity`.

use super::Driver;
use crate::clock::unix_now;
use crate::config::Config;
use crate::identity::{self, Standing, Store, TunnelToken};
use crate::tunnel::{Dial, Holds};
use cortex_model::limits::enrol::{LEFT_LOOK_MS, TOKEN_RETRY_MS};
use cortex_model::limits::identity::PENDING_RETRY_MS;
use cortex_model::{Code, Fault, UnixMillis, Workspace};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Something that was asked of the server beside the tunnel.
pub(super) enum Errand {
    /// A newer token for this connection.
    Minted(Result<TunnelToken, Fault>),
    /// A new certificate.
    Renewed(Result<(), Fault>),
}

/// What is kept up while the node is connected.
#[derive(Default)]
pub(super) struct Keeping {
    errand: Option<JoinHandle<Errand>>,
    refresh_at: Option<Instant>,
    renew_at: Option<UnixMillis>,
    look_at: Option<Instant>,
    left: bool,
}

impl Keeping {
    /// Tokens belong to a connection. What was asked for it does not matter any more.
    pub(super) fn connection_lost(&mut self) {
        self.refresh_at = None;
        self.renew_at = None;
        if let Some(errand) = self.errand.take() {
            errand.abort();
        }
    }
}

/// The end of an errand.
pub(super) async fn done(keeping: &mut Keeping) -> Errand {
    match &mut keeping.errand {
        Some(handle) => match handle.await {
            Ok(errand) => errand,
            Err(err) => Errand::Renewed(Err(Fault::new(Code::Internal, err.to_string()))),
        },
        None => std::future::pending().await,
    }
}

/// Takes over what the identity says about this node, and waits for an administrator where one must decide first: the journal
/// begins with the node's final id. False when `stop` came before.
pub(super) async fn settle(config: &mut Config, stop: &CancellationToken) -> Result<bool, Fault> {
    let store = Store::of(&config.data_dir);
    let mut enrolled = store.load()?;
    if let Standing::Pending { .. } = enrolled.standing {
        let key = store.key()?;
        tracing::info!(
            node = enrolled.node,
            "this node waits for an administrator: cortex node approve {}",
            enrolled.node
        );
        let asked = async {
            let retry = Duration::from_millis(PENDING_RETRY_MS.into());
            loop {
                match identity::ask(&store, &mut enrolled, &key).await {
                    Ok(()) => return Ok(()),
                    Err(fault) if fault.code.retryable() => {
                        tracing::debug!(error = %fault, "not decided yet");
                        tokio::time::sleep(retry).await;
                    }
                    Err(fault) => return Err(fault),
                }
            }
        };
        tokio::select! {
            joined = asked => joined?,
            () = stop.cancelled() => return Ok(false),
        }
    }
    config.workspace = Workspace::parse(&enrolled.workspace)?;
    config.named_mirror = enrolled.certificate()?.mirror();
    config.node = enrolled.node;
    Ok(true)
}

pub(super) fn dial(config: &Config) -> Dial {
    Dial { data_dir: config.data_dir.clone(), server: config.server.clone() }
}

impl Driver {
    /// A connection stands.
    pub(super) fn connected_as(&mut self, holds: Holds) {
        self.keeping.refresh_at = Some(Instant::now() + holds.token * 2 / 3);
        self.keeping.renew_at = Some(UnixMillis(holds.renew_at_ms));
    }

    /// The authority changed. Everybody is asked at once, so each waits a while of its own.
    pub(super) fn renew_within(&mut self, within_ms: u32) {
        tracing::info!(within_ms, "the gateway asks for a new certificate");
        let pause = fastrand::u64(..=u64::from(within_ms));
        self.keeping.renew_at = Some(unix_now() + pause);
    }

    /// When `keep` has something to do next. The wall clock may jump, and the heartbeats wake this loop often enough for that.
    pub(super) fn keep_at(&self) -> Option<Instant> {
        let keeping = &self.keeping;
        let free = keeping.errand.is_none() && self.link.is_some();
        let renew =
            keeping.renew_at.map(|at| Instant::now() + Duration::from_millis(at.since(unix_now())));
        let look = keeping.look_at.filter(|_| !keeping.left);
        [keeping.refresh_at.filter(|_| free), renew.filter(|_| free), look]
            .into_iter()
            .flatten()
            .min()
    }

    /// Begins what is due. True once when the owner made the node leave.
    pub(super) fn keep(&mut self) -> bool {
        let now = Instant::now();
        if self.has_left(now) {
            tracing::warn!("this node has left: work is ended, nothing more is taken");
            self.drop_link();
            return true;
        }
        let Some(link) = &self.link else { return false };
        if self.keeping.errand.is_some() {
            return false;
        }
        if self.keeping.refresh_at.is_some_and(|at| at <= now) {
            let channel = link.channel();
            self.keeping.errand =
                Some(tokio::spawn(async move { Errand::Minted(identity::mint(&channel).await) }));
        } else if self.keeping.renew_at.is_some_and(|at| at <= unix_now()) {
            let dial = dial(&self.config);
            self.keeping.errand = Some(tokio::spawn(async move {
                let renewed = async { identity::renew(&dial.data_dir, &dial.url()?).await };
                Errand::Renewed(renewed.await)
            }));
        }
        false
    }

    fn has_left(&mut self, now: Instant) -> bool {
        if self.keeping.left || self.keeping.look_at.is_some_and(|at| now < at) {
            return false;
        }
        self.keeping.look_at = Some(now + Duration::from_millis(LEFT_LOOK_MS));
        self.keeping.left = !Store::of(&self.config.data_dir).exists();
        self.keeping.left
    }

    pub(super) fn errand_done(&mut self, errand: Errand) {
        self.keeping.errand = None;
        match errand {
            Errand::Minted(Ok(token)) => {
                self.keeping.refresh_at = Some(Instant::now() + token.life * 2 / 3);
                self.end.show_token(token.text);
            }
            Errand::Minted(Err(fault)) => {
                tracing::warn!(error = %fault, hint = fault.hint, "no newer token");
                self.keeping.refresh_at =
                    Some(Instant::now() + Duration::from_millis(TOKEN_RETRY_MS));
            }
            Errand::Renewed(Ok(())) => {
                tracing::info!("the certificate was renewed; connecting anew with it");
                self.drop_link();
            }
            Errand::Renewed(Err(fault)) => {
                let not_after = identity::not_after(&self.config.data_dir);
                let pause = identity::pause(unix_now(), not_after);
                tracing::warn!(error = %fault, hint = fault.hint, again_in_s = pause.as_secs(), "the certificate was not renewed");
                let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                self.keeping.renew_at = Some(unix_now() + pause);
            }
        }
    }

    /// How the agent's run ends.
    pub(super) fn farewell(&self) -> Result<(), Fault> {
        if self.keeping.left {
            return Err(Fault::new(Code::NotEnrolled, "this node has left"));
        }
        Ok(())
    }
}
