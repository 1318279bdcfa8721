//! A task's terminal in ours: raw, so that every key is the task's, until its end or until whoever types leaves. Leaving never
//! ends the task. However this program ends, short of being killed, our terminal is as it was before.

mod keys;
mod local;

use crate::client::{Client, Target};
use crate::error::CliError;
use crate::follow::Follower;
use crate::render;
use crate::words;
use cortex_model::Code;
use cortex_model::proto as pb;
use cortex_tunnel::{News, Typist};
use keys::{Command, Keys};
pub(crate) use local::wanted;
use local::{Here, Local, Raw};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Pause before something that was not taken is said again; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is typed in one attachment.
pub(crate) struct Attach {
    pub(crate) target: Target,
    pub(crate) task_id: String,
    pub(crate) actor: Option<pb::Actor>,
    /// What was typed before counts for nothing: our terminal may have answered to old output that was shown again.
    pub(crate) anew: bool,
}

/// Whether a task has a terminal.
pub(crate) fn has_one(task: &pb::Task) -> bool {
    let action = task.spec.as_ref().and_then(|spec| spec.action.as_ref()?.kind.as_ref());
    matches!(action, Some(pb::action::Kind::Shell(shell)) if shell.terminal.is_some())
}

/// How it ended.
pub(crate) enum End {
    /// The task is over, or INDETERMINATE.
    Over(Box<pb::Task>),
    /// Somebody left it on purpose.
    Detached,
    /// Our terminal is gone, or a signal told us to go.
    Gone,
}

type Call = Pin<Box<dyn Future<Output = (Option<Client>, Answer)>>>;
type Answer = Result<pb::TypeTerminalResponse, CliError>;

/// Shows the task's output and types, until either is over. `cancel` is begun when somebody asks for it: before there is a
/// terminal by Ctrl-C, as without one; then by a key of ours.
///
/// # Errors
/// What waiting cannot change.
pub(crate) async fn attend(
    attach: Attach,
    follower: &mut Follower,
    mut live: watch::Receiver<bool>,
    cancel: impl Future<Output = Result<(), CliError>>,
) -> Result<End, CliError> {
    let mut local = Local::open()?;
    let mut hand = Hand::new(attach, &local);
    let (mut over, mut cancel) = (std::pin::pin!(follower.until_over()), std::pin::pin!(cancel));
    let (mut cancelling, mut cancelled) = (false, false);
    loop {
        hand.speak(*live.borrow_and_update());
        let room = hand.room();
        tokio::select! {
            task = &mut over => return task.map(|task| End::Over(Box::new(task))),
            done = done(&mut hand.call) => hand.answered(done, &mut local)?,
            () = tokio::time::sleep_until(hand.again), if hand.waits() => hand.paused = false,
            _ = live.changed() => {}
            here = local.next(room) => match here {
                Here::Resized(size) => hand.typist.resized(size),
                Here::Typed(bytes) => match hand.keys(&bytes) {
                    Some(Command::Detach) => return Ok(End::Detached),
                    Some(Command::Cancel) if !cancelling => {
                        cancelling = true;
                        render::note("cancelling");
                    }
                    Some(Command::Help) => render::note(keys::HELP),
                    Some(Command::Cancel) | None => {}
                },
                Here::Told if hand.raw.is_none() && !hand.attach.anew && !cancelling => {
                    cancelling = true;
                    render::note("cancelling; once more leaves the task as it is");
                }
                Here::Told | Here::Gone => return Ok(End::Gone),
            },
            refused = &mut cancel, if cancelling && !cancelled => {
                cancelled = true;
                if let Err(e) = refused {
                    render::note(&format!("{}: {}", e.code, e.message));
                }
            }
        }
    }
}

/// Whoever types, and what they are saying.
struct Hand {
    attach: Attach,
    typist: Typist,
    keys: Keys,
    call: Option<Call>,
    client: Option<Client>,
    raw: Option<Raw>,
    paused: bool,
    again: Instant,
    pause: Duration,
}

impl Hand {
    fn new(attach: Attach, local: &Local) -> Self {
        let name = uuid::Uuid::new_v4().to_string();
        Self {
            attach,
            typist: Typist::new(name, local.size()),
            keys: Keys::default(),
            call: None,
            client: None,
            raw: None,
            paused: false,
            again: Instant::now(),
            pause: PAUSE,
        }
    }

    fn waits(&self) -> bool {
        self.paused && self.call.is_none()
    }

    fn room(&self) -> bool {
        self.typist.room() >= local::PIECE
    }

    /// Says the next thing, if there is one and the task runs.
    fn speak(&mut self, live: bool) {
        if !live || self.paused || self.call.is_some() {
            return;
        }
        let Some(mut request) = self.typist.say() else { return };
        request.task_id.clone_from(&self.attach.task_id);
        request.actor.clone_from(&self.attach.actor);
        let (target, client) = (self.attach.target.clone(), self.client.take());
        self.call = Some(Box::pin(async move {
            let client = match client {
                Some(client) => Ok(client),
                None => target.connect().await,
            };
            match client {
                Ok(client) => {
                    let answer = client.type_terminal(request).await;
                    (answer.is_ok().then_some(client), answer)
                }
                Err(e) => (None, Err(e)),
            }
        }));
    }

    fn answered(
        &mut self,
        (client, answer): (Option<Client>, Answer),
        local: &mut Local,
    ) -> Result<(), CliError> {
        self.call = None;
        self.client = client;
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) if e.is_final() || e.is(Code::NoTerminal) => return Err(e),
            Err(_) => {
                self.typist.unanswered();
                self.pause();
                return Ok(());
            }
        };
        match self.typist.answered(&answer) {
            News::Attached => {
                self.raw = Some(local.take(self.attach.anew)?);
                let id = &self.attach.task_id;
                render::note(&format!("attached to task {id}; {}", keys::HELP));
            }
            News::Taken => self.pause = PAUSE,
            News::Full | News::NoTerminal => self.pause(),
            News::Lost => {
                let who = words::actor(answer.holder.as_ref());
                render::note(&format!("{who} has the keyboard now; you still see everything"));
            }
            News::TooMany => {
                render::note("too many have attached to this terminal; you see it only")
            }
        }
        Ok(())
    }

    fn pause(&mut self) {
        self.paused = true;
        self.again = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn keys(&mut self, bytes: &[u8]) -> Option<Command> {
        let (typed, command) = self.keys.press(bytes);
        self.typist.typed(&typed);
        command
    }
}

async fn done(call: &mut Option<Call>) -> (Option<Client>, Answer) {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}
