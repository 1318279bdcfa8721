//! The owner's socket: one line of JSON asks, one answers. It believes nobody who cannot be the owner.

use super::Consent;
use super::peer::Peer;
use super::store::random;
use cortex_agent_core::consent::Scope;
use cortex_model::limits::{CONSENT_LINE_MAX, CONSENT_PEERS_MAX};
use cortex_model::{Code, Fault};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// How long somebody may take to say what they want.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// What is asked of the agent.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    pub(super) token: String,
    #[serde(flatten)]
    pub(super) act: Act,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(super) enum Act {
    List,
    Show {
        id: u64,
        all: bool,
    },
    Allow {
        id: u64,
        code: String,
        remember: String,
        until_ms: u64,
    },
    Deny {
        id: u64,
    },
    Grants,
    Revoke {
        id: u64,
    },
    /// Answers with the list again whenever it changed.
    Watch,
}

/// Where the socket is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("consent.sock")
}

/// Where its token is.
pub(super) fn token(dir: &Path) -> PathBuf {
    dir.join("token")
}

/// Makes the directory, a new token and the socket, for the owner alone.
pub(super) fn open(dir: &Path) -> Result<(UnixListener, String), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", dir.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let only_owner = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, only_owner).map_err(failed)?;
    let token = random::<32>().map_err(failed)?;
    let token = cortex_audit::leaf::hex(&token);
    let file = self::token(dir);
    // Another file of this name may have other permissions.
    std::fs::remove_file(&file)
        .or_else(|err| if err.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(err) })
        .map_err(failed)?;
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(&file).map_err(failed)?;
    std::io::Write::write_all(&mut out, token.as_bytes()).map_err(failed)?;
    let socket = path(dir);
    // The data directory is locked by this agent: what is there is of a former one.
    drop(std::fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket).map_err(failed)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok((listener, token))
}

/// Answers until the agent ends.
pub(super) async fn serve(listener: UnixListener, token: String, consent: Arc<Consent>) {
    let peers = Arc::new(Semaphore::new(CONSENT_PEERS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        // One too many is closed at once.
        let Ok(place) = Arc::clone(&peers).try_acquire_owned() else { continue };
        let (token, consent) = (token.clone(), Arc::clone(&consent));
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &token, &consent).await {
                tracing::debug!(%error, "a connection of the owner ended");
            }
            drop(place);
        });
    }
}

async fn answer(stream: UnixStream, token: &str, consent: &Consent) -> std::io::Result<()> {
    let credentials = stream.peer_cred()?;
    let (read, mut write) = stream.into_split();
    let admitted = Peer::admit(credentials.uid(), credentials.pid(), &consent.mark);
    let mut line = String::new();
    if admitted.is_ok() {
        let mut lines = BufReader::new(read.take(CONSENT_LINE_MAX as u64));
        tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await??;
    }
    let not_yours = |why: &str| {
        Fault::new(Code::ConsentNotYours, format!("whoever asks may not answer here: {why}"))
    };
    let asked = match (admitted, serde_json::from_str::<Ask>(&line)) {
        (Err(why), _) => {
            tracing::warn!(
                uid = credentials.uid(),
                pid = credentials.pid(),
                why,
                "somebody else spoke to the owner's socket"
            );
            Err(not_yours(&why))
        }
        (Ok(_), Err(err)) => {
            Err(Fault::new(Code::ConsentBadAnswer, format!("the line is not understood: {err}")))
        }
        (Ok(_), Ok(ask)) if !same(ask.token.as_bytes(), token.as_bytes()) => {
            Err(not_yours("it does not know the token"))
        }
        (Ok(peer), Ok(_)) if !peer.is_still_there() => Err(not_yours("it is gone")),
        (Ok(peer), Ok(ask)) => Ok((peer, ask.act)),
    };
    let (peer, act) = match asked {
        Ok(asked) => asked,
        Err(fault) => return say(&mut write, &failure(&fault)).await,
    };
    if !matches!(act, Act::Watch) {
        let by = format!("pid {} ({})", peer.pid, peer.exe);
        let said = consent.act(act, &by).unwrap_or_else(|fault| failure(&fault));
        return say(&mut write, &said).await;
    }
    loop {
        let changed = consent.changed.notified();
        say(&mut write, &consent.list()).await?;
        changed.await;
    }
}

async fn say(write: &mut tokio::net::unix::OwnedWriteHalf, value: &Value) -> std::io::Result<()> {
    write.write_all(format!("{value}\n").as_bytes()).await
}

fn failure(fault: &Fault) -> Value {
    json!({"error": {"code": fault.code.as_str(), "message": fault.message, "hint": fault.hint}})
}

/// Takes the same time wherever they differ.
fn same(given: &[u8], own: &[u8]) -> bool {
    given.len() == own.len() && given.iter().zip(own).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

impl Consent {
    fn act(&self, act: Act, by: &str) -> Result<Value, Fault> {
        match act {
            Act::List | Act::Watch => Ok(self.list()),
            Act::Show { id, all } => self.show(id, all),
            Act::Allow { id, code, remember, until_ms } => {
                let scope = match remember.as_str() {
                    "" | "once" => Scope::Once,
                    "task" => Scope::Task,
                    "session" => Scope::Session,
                    "until" => Scope::Until(until_ms),
                    other => {
                        let message = format!("{other:?} is not once, task, session or until");
                        return Err(Fault::new(Code::ConsentBadAnswer, message));
                    }
                };
                self.allow(id, &code, scope, by)?;
                Ok(json!({"ok": true, "id": id}))
            }
            Act::Deny { id } => {
                self.refuse(id, by)?;
                Ok(json!({"ok": true, "id": id}))
            }
            Act::Grants => Ok(self.remembered()),
            Act::Revoke { id } => {
                self.revoke(id)?;
                Ok(json!({"ok": true, "id": id}))
            }
        }
    }

    fn list(&self) -> Value {
        let inner = self.lock();
        let waiting = inner.desk.waiting().map(|(id, waiting)| {
            let question = &waiting.question;
            let classes: Vec<&str> = question.classes.iter().map(|class| class.word()).collect();
            json!({
                "id": id,
                "attempt": question.key.to_string(),
                "title": question.shown.lines.first(),
                "classes": classes,
                "rule": question.rule,
                "asked_ms": waiting.asked_ms,
                "until_ms": question.until_ms,
            })
        });
        json!({"waiting": waiting.collect::<Vec<_>>()})
    }

    fn show(&self, id: u64, all: bool) -> Result<Value, Fault> {
        let mut inner = self.lock();
        let (lines, more) = inner.desk.look(id, all)?;
        let Some((_, waiting)) = inner.desk.waiting().find(|(other, _)| *other == id) else {
            return Err(Fault::new(Code::ConsentNotFound, format!("no question {id} waits")));
        };
        // Who has not seen all of it does not see the code either.
        let code = waiting.code.as_ref().filter(|_| more == 0);
        let question = &waiting.question;
        Ok(json!({
            "id": id,
            "lines": lines,
            "more": more,
            "code": code,
            "rememberable": question.rememberable,
            "fingerprint": question.fingerprint.hex(),
            "shown_sha256": cortex_audit::leaf::hex(&question.shown.sha256),
            "until_ms": question.until_ms,
        }))
    }

    fn remembered(&self) -> Value {
        let inner = self.lock();
        let grants = inner.desk.grants().map(|(id, grant)| {
            json!({
                "id": id,
                "title": grant.title,
                "task": grant.task,
                "until_ms": grant.until_ms,
                "used": grant.used,
                "fingerprint": grant.fingerprint.hex(),
            })
        });
        json!({"grants": grants.collect::<Vec<_>>()})
    }
}
