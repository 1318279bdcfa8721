//! Our own terminal: whether there is one, its size, what is typed, and how it was before.

use crate::error::CliError;
use crate::render;
use cortex_model::Code;
use cortex_model::proto as pb;
use cortex_tunnel::Size;
use std::io::IsTerminal as _;

/// Most that is read of what is typed at a time, bytes.
pub(super) const PIECE: usize = 4 * 1024;

/// The terminal that a task is to have: like ours.
///
/// # Errors
/// `CX-1313` when we type and there is no terminal here.
pub(crate) fn wanted(we_type: bool) -> Result<pb::Terminal, CliError> {
    if we_type {
        check()?;
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    let term = std::env::var("TERM").unwrap_or_default();
    let term = if term.bytes().all(plain) { term } else { String::new() };
    let (rows, columns) = system::size();
    Ok(pb::Terminal { term, rows, columns })
}

/// Whether there is a terminal here to type in and to see.
pub(super) fn check() -> Result<(), CliError> {
    let none = |what: &str| {
        let why = format!("our own standard {what} is no terminal");
        Err(CliError::new(Code::NoTerminal, why))
    };
    match (std::io::stdin().is_terminal(), std::io::stdout().is_terminal()) {
        (true, true) => system::check(),
        (false, _) => none("input"),
        (true, false) => none("output"),
    }
}

/// What happened here.
pub(super) enum Here {
    /// The window has another size.
    Resized(Size),
    /// Keys were pressed.
    Typed(Vec<u8>),
    /// A signal asks us to end. In a raw terminal no key sends one.
    Told,
    /// The terminal is gone.
    Gone,
}

pub(super) use system::{Local, Raw};

#[cfg(unix)]
mod system {
    use super::{CliError, Here, PIECE, Size, render};
    use rustix::termios::{
        OptionalActions, OutputModes, QueueSelector, Termios, tcflush, tcgetattr, tcgetwinsize,
        tcsetattr,
    };
    use tokio::signal::unix::{Signal, SignalKind, signal};
    use tokio::sync::mpsc;

    /// Pieces that were typed and nobody took yet.
    const TYPED: usize = 4;

    pub(super) fn check() -> Result<(), CliError> {
        Ok(())
    }

    pub(super) fn size() -> Size {
        let size = tcgetwinsize(std::io::stdout());
        size.map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()))
    }

    fn failed(error: impl std::fmt::Display) -> CliError {
        CliError::internal(format!("our terminal cannot be used: {error}"))
    }

    /// See the module.
    pub(crate) struct Local {
        window: Signal,
        interrupt: Signal,
        terminate: Signal,
        hangup: Signal,
        typed: Option<mpsc::Receiver<Vec<u8>>>,
        _exact: Exact,
    }

    /// What is shown is shown as it is for as long as this lives: the task's own terminal has ended its lines already.
    struct Exact {
        before: Termios,
    }

    impl Exact {
        fn new() -> Result<Exact, CliError> {
            let before = tcgetattr(std::io::stdout()).map_err(failed)?;
            let mut exact = before.clone();
            exact.output_modes.remove(OutputModes::OPOST);
            tcsetattr(std::io::stdout(), OptionalActions::Now, &exact).map_err(failed)?;
            render::lines_are_exact(true);
            Ok(Exact { before })
        }
    }

    impl Drop for Exact {
        fn drop(&mut self) {
            tcsetattr(std::io::stdout(), OptionalActions::Now, &self.before).ok();
            render::lines_are_exact(false);
        }
    }

    impl Local {
        /// From now on signals do not end this program by themselves, and lines end as the task ends them.
        ///
        /// # Errors
        /// `CX-1313` when there is no terminal here.
        pub(crate) fn open() -> Result<Local, CliError> {
            super::check()?;
            let on = |kind| signal(kind).map_err(failed);
            Ok(Local {
                window: on(SignalKind::window_change())?,
                interrupt: on(SignalKind::interrupt())?,
                terminate: on(SignalKind::terminate())?,
                hangup: on(SignalKind::hangup())?,
                typed: None,
                _exact: Exact::new()?,
            })
        }

        #[expect(clippy::unused_self, reason = "there is a size only where there is a terminal")]
        pub(crate) fn size(&self) -> Size {
            size()
        }

        /// What happens here next. What is typed, from [`Local::take`] on, only while there is `room` for it.
        pub(crate) async fn next(&mut self, room: bool) -> Here {
            tokio::select! {
                _ = self.window.recv() => Here::Resized(size()),
                _ = self.interrupt.recv() => Here::Told,
                _ = self.terminate.recv() => Here::Told,
                _ = self.hangup.recv() => Here::Gone,
                typed = typed(&mut self.typed), if room => typed.map_or(Here::Gone, Here::Typed),
            }
        }

        /// Every key is read as it is from now on. `anew`: what was typed before is forgotten.
        ///
        /// # Errors
        /// The terminal does not let itself be changed.
        pub(crate) fn take(&mut self, anew: bool) -> Result<Raw, CliError> {
            let raw = Raw::new()?;
            if anew {
                tcflush(std::io::stdin(), QueueSelector::IFlush).map_err(failed)?;
            }
            let (sender, typed) = mpsc::channel(TYPED);
            // A thread of its own: the program ends without waiting for what nobody types.
            std::thread::spawn(move || {
                let mut bytes = [0; PIECE];
                while let Ok(read) =
                    rustix::io::retry_on_intr(|| rustix::io::read(std::io::stdin(), &mut bytes))
                {
                    if read == 0 || sender.blocking_send(bytes[..read].to_vec()).is_err() {
                        break;
                    }
                }
            });
            self.typed = Some(typed);
            Ok(raw)
        }
    }

    async fn typed(from: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
        match from {
            Some(typed) => typed.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Our terminal is raw for as long as this lives.
    pub(crate) struct Raw {
        before: Termios,
    }

    impl Raw {
        fn new() -> Result<Raw, CliError> {
            let before = tcgetattr(std::io::stdin()).map_err(failed)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
            render::lines_are_raw(true);
            Ok(Raw { before })
        }
    }

    impl Drop for Raw {
        fn drop(&mut self) {
            tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before).ok();
            render::lines_are_raw(false);
        }
    }
}

#[cfg(not(unix))]
mod system {
    use super::{CliError, Code, Here, Size};

    pub(super) fn check() -> Result<(), CliError> {
        Err(CliError::new(
            Code::NoTerminal,
            "this version types into terminals from Unix systems only",
        ))
    }

    pub(super) fn size() -> Size {
        (0, 0)
    }

    /// Never exists here.
    pub(crate) enum Local {}

    /// Never exists here.
    pub(crate) enum Raw {}

    impl Local {
        pub(crate) fn open() -> Result<Local, CliError> {
            super::check()?;
            Err(CliError::internal("there is no terminal"))
        }

        pub(crate) fn size(&self) -> Size {
            match *self {}
        }

        #[expect(clippy::unused_async, reason = "the same function waits on Unix")]
        pub(crate) async fn next(&mut self, _room: bool) -> Here {
            match *self {}
        }

        pub(crate) fn take(&mut self, _anew: bool) -> Result<Raw, CliError> {
            match *self {}
        }
    }
}
