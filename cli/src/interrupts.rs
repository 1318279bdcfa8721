//! Ctrl-C and SIGTERM as things to wait for. From the moment this exists they no longer end the
//! process by themselves.

use crate::error::CliError;

/// Listens for both signals.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    int: tokio::signal::unix::Signal,
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Interrupts {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen() -> Result<Interrupts, CliError> {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind| {
            signal(kind).map_err(|e| CliError::internal(format!("cannot listen for signals: {e}")))
        };
        Ok(Interrupts { int: on(SignalKind::interrupt())?, term: on(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Interrupts {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Interrupts, CliError> {
        Ok(Interrupts {})
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
