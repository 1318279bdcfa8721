//! The owner's own line to a running agent: one socket in its data directory, which needs no server and no network. One line of
//! JSON asks, one answers. It believes nobody who cannot be the owner: see [`peer`], and the token beside the socket.

mod peer;

use crate::consent::{Act, Consent};
use cortex_model::limits::{CONSENT_PEERS_MAX, LOCAL_REQUEST_MAX};
use cortex_model::{Code, Fault};
use peer::Peer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "owner.sock";
/// Name of the file that holds its token, new with every start.
const TOKEN: &str = "owner.token";

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take: whoever stops everything waits for the proof.
const ANSWER: Duration = Duration::from_secs(60);
/// Questions that wait for the agent's loop; more wait in the socket.
const WAITING: usize = 16;

/// What the owner wants of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Take no more work. What runs goes on. Holds across restarts.
    Pause,
    /// Take work again.
    Resume,
    /// End everything that runs, and take no more work.
    StopAll,
    /// How it stands.
    Status,
    /// The newest entries of the journal.
    History {
        /// At most so many.
        count: usize,
    },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How it stands now.
    Status {
        /// It takes no work, because its owner said so.
        paused: bool,
        /// Attempts that run.
        running: Vec<String>,
        /// Attempts that were ended by this request, each with all its processes.
        stopped: Vec<String>,
    },
    /// Entries of the journal, oldest first, each the stored text.
    History {
        /// The texts.
        entries: Vec<String>,
    },
    /// It cannot be done.
    Error {
        /// Stable code.
        code: String,
        /// What went wrong.
        message: String,
    },
}

/// A request with the way back.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) ask: Ask,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// One line of a client.
enum Wish {
    Agent(Ask),
    Consent(Act),
}

/// What everybody who speaks to the socket shares.
struct Desk {
    token: String,
    mark: String,
    questions: mpsc::Sender<Question>,
    consent: Arc<Consent>,
}

/// Listens until the receiver is dropped. `mark` is that of this agent's tasks.
///
/// # Errors
/// The socket or its token cannot be made.
pub(crate) fn listen(
    data_dir: &Path,
    mark: &str,
    consent: Arc<Consent>,
) -> io::Result<mpsc::Receiver<Question>> {
    let token = new_token(&data_dir.join(TOKEN))?;
    let path = data_dir.join(SOCKET);
    // The data directory's lock says that nobody else listens there.
    remove(&path)?;
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (questions, asked) = mpsc::channel(WAITING);
    let desk = Arc::new(Desk { token, mark: mark.to_owned(), questions, consent });
    tokio::spawn(async move {
        let peers = Arc::new(Semaphore::new(CONSENT_PEERS_MAX));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if desk.questions.is_closed() {
                return;
            }
            // One too many is closed at once.
            let Ok(place) = Arc::clone(&peers).try_acquire_owned() else { continue };
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                if let Err(error) = desk.serve(stream).await {
                    tracing::debug!(%error, "a connection of the owner ended");
                }
                drop(place);
            });
        }
    });
    Ok(asked)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a token that only the owner can read.
fn new_token(path: &Path) -> io::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let token = cortex_audit::leaf::hex(&bytes);
    // Another file of this name may have other permissions.
    remove(path)?;
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(path)?;
    out.write_all(token.as_bytes())?;
    Ok(token)
}

impl Desk {
    async fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let admitted = Peer::admit(&stream, &self.mark);
        let (read, mut write) = stream.into_split();
        let (peer, wish) = match self.read(admitted, read).await {
            Ok(wish) => wish,
            Err(fault) => return say(&mut write, &refusal(&fault)).await,
        };
        match wish {
            Wish::Consent(act) => {
                let by = format!("pid {} ({}), by its {}", peer.pid, peer.exe, peer.known_by());
                self.consent.serve(act, &by, &mut write).await
            }
            Wish::Agent(ask) => {
                let (reply, answer) = oneshot::channel();
                let sent = self.questions.send(Question { ask, reply }).await;
                let answer = match (sent, timeout(ANSWER, answer).await) {
                    (Ok(()), Ok(Ok(answer))) => answer,
                    (Ok(()) | Err(_), _) => error(Code::AgentUnable, "the agent is going away"),
                };
                say(&mut write, &serde_json::to_value(&answer)?).await
            }
        }
    }

    /// Reads what somebody wants who may want it.
    async fn read(
        &self,
        admitted: Result<Peer, String>,
        read: tokio::net::unix::OwnedReadHalf,
    ) -> Result<(Peer, Wish), Fault> {
        let not_yours = |why: &str| {
            Fault::new(Code::ConsentNotYours, format!("whoever asks may not answer here: {why}"))
        };
        let malformed = |why: String| Fault::new(Code::Malformed, why);
        let mut line = String::new();
        let mut bounded = tokio::io::BufReader::new(read.take(LOCAL_REQUEST_MAX as u64));
        match timeout(PATIENCE, bounded.read_line(&mut line)).await {
            Ok(Ok(_)) => {}
            Ok(Err(err)) => return Err(malformed(err.to_string())),
            Err(_) => return Err(malformed("nothing was asked for too long".to_owned())),
        }
        // Only now: whoever may not ask has said all of it, and hears why not.
        let peer = admitted.map_err(|why| {
            tracing::warn!(why, "somebody else spoke to the owner's socket");
            not_yours(&why)
        })?;
        let mut value: Value = serde_json::from_str(&line)
            .map_err(|err| malformed(format!("no such request: {err}")))?;
        let given = value.as_object_mut().and_then(|map| map.remove("token"));
        let given = given.as_ref().and_then(Value::as_str).unwrap_or_default();
        if !same(given.as_bytes(), self.token.as_bytes()) {
            return Err(not_yours("it does not know the token"));
        }
        let wish = if value.get("ask").is_some() {
            serde_json::from_value(value).map(Wish::Agent)
        } else {
            serde_json::from_value(value).map(Wish::Consent)
        };
        let wish = wish.map_err(|err| malformed(format!("no such request: {err}")))?;
        if peer.is_still_there() { Ok((peer, wish)) } else { Err(not_yours("it is gone")) }
    }
}

/// Takes the same time wherever they differ.
fn same(given: &[u8], own: &[u8]) -> bool {
    given.len() == own.len() && given.iter().zip(own).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

pub(crate) async fn say(
    write: &mut tokio::net::unix::OwnedWriteHalf,
    value: &Value,
) -> io::Result<()> {
    write.write_all(format!("{value}\n").as_bytes()).await
}

/// A fault for whoever asked, in the words of both kinds of requests.
pub(crate) fn refusal(fault: &Fault) -> Value {
    json!({
        "answer": "error",
        "code": fault.code.as_str(),
        "message": fault.message,
        "error": {"code": fault.code.as_str(), "message": fault.message, "hint": fault.hint},
    })
}

pub(crate) fn error(code: Code, message: &str) -> Answer {
    Answer::Error { code: code.as_str().to_owned(), message: message.to_owned() }
}

/// Sends a line to the agent of a data directory; its answers are the lines that can be read.
///
/// # Errors
/// No agent runs there, or the line cannot be sent.
pub(crate) fn connect(
    data_dir: &Path,
    line: &impl Serialize,
) -> Result<BufReader<std::os::unix::net::UnixStream>, Fault> {
    let path: PathBuf = data_dir.join(SOCKET);
    let exchange = || -> io::Result<_> {
        let mut stream = std::os::unix::net::UnixStream::connect(&path)?;
        let mut line = serde_json::to_value(line).map_err(io::Error::other)?;
        line["token"] = std::fs::read_to_string(data_dir.join(TOKEN))?.into();
        stream.write_all(format!("{line}\n").as_bytes())?;
        Ok(BufReader::new(stream))
    };
    exchange().map_err(|err| unreachable(&path, &err))
}

fn unreachable(path: &Path, err: &io::Error) -> Fault {
    Fault::new(Code::AgentUnable, format!("{}: {err}", path.display()))
        .with_hint("is an agent running with this data directory? name it with --data-dir")
}

/// Asks the agent of a data directory.
///
/// # Errors
/// No agent runs there, or it cannot do it.
pub fn ask(data_dir: &Path, ask: &Ask) -> Result<Answer, Fault> {
    let answers = connect(data_dir, ask)?;
    let read = || -> io::Result<Answer> {
        answers.get_ref().set_read_timeout(Some(ANSWER + PATIENCE))?;
        let mut answer = String::new();
        let most = LOCAL_REQUEST_MAX as u64 * 1024;
        answers.take(most).read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(io::Error::other)
    };
    match read().map_err(|err| unreachable(&data_dir.join(SOCKET), &err))? {
        Answer::Error { code, message } => {
            let found = Code::ALL.iter().copied().find(|known| known.as_str() == code);
            Err(Fault::new(found.unwrap_or(Code::AgentUnable), message))
        }
        answer @ (Answer::Status { .. } | Answer::History { .. }) => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_agent_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(dir.path(), &Ask::Pause).unwrap_err().code, Code::AgentUnable);
    }
}
