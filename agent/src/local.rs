//! The owner's own line to a running agent: a socket in its data directory, which needs no server and no network. One
//! request per connection, one JSON object per line. Whoever can open the socket is the user that the agent runs as.

use cortex_model::limits::LOCAL_REQUEST_MAX;
use cortex_model::{Code, Fault};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "owner.sock";

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take: whoever stops everything waits for the proof.
const ANSWER: Duration = Duration::from_secs(60);
/// Questions that wait for the agent's loop; more wait in the socket.
const WAITING: usize = 16;

/// What the owner wants.
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

/// Listens until the receiver is dropped.
///
/// # Errors
/// The socket cannot be made.
pub(crate) fn listen(data_dir: &Path) -> io::Result<mpsc::Receiver<Question>> {
    let path = data_dir.join(SOCKET);
    // The data directory's lock says that nobody else listens there.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (questions, asked) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if questions.is_closed() {
                return;
            }
            tokio::spawn(serve(stream, questions.clone()));
        }
    });
    Ok(asked)
}

async fn serve(mut stream: UnixStream, questions: mpsc::Sender<Question>) {
    let own = rustix::process::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
        return;
    }
    let answer = match timeout(PATIENCE, read(&mut stream)).await {
        Ok(Some(ask)) => {
            let (reply, answer) = oneshot::channel();
            let sent = questions.send(Question { ask, reply }).await;
            match (sent, timeout(ANSWER, answer).await) {
                (Ok(()), Ok(Ok(answer))) => answer,
                (Ok(()) | Err(_), _) => error(Code::AgentUnable, "the agent is going away"),
            }
        }
        Ok(None) | Err(_) => error(Code::Malformed, "no such request"),
    };
    if let Ok(mut line) = serde_json::to_vec(&answer) {
        line.push(b'\n');
        // Whoever asked may be gone.
        stream.write_all(&line).await.ok();
    }
}

async fn read(stream: &mut UnixStream) -> Option<Ask> {
    let mut line = String::new();
    let mut bounded = tokio::io::BufReader::new(stream.take(LOCAL_REQUEST_MAX as u64));
    bounded.read_line(&mut line).await.ok()?;
    serde_json::from_str(&line).ok()
}

pub(crate) fn error(code: Code, message: &str) -> Answer {
    Answer::Error { code: code.as_str().to_owned(), message: message.to_owned() }
}

/// Asks the agent of a data directory.
///
/// # Errors
/// No agent runs there, or it cannot do it.
pub fn ask(data_dir: &Path, ask: &Ask) -> Result<Answer, Fault> {
    let path: PathBuf = data_dir.join(SOCKET);
    let failed = |err: io::Error| {
        Fault::new(Code::AgentUnable, format!("{}: {err}", path.display()))
            .with_hint("is an agent running with this data directory? name it with --data-dir")
    };
    let exchange = || -> io::Result<Answer> {
        let mut stream = std::os::unix::net::UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(ANSWER + PATIENCE))?;
        let mut line = serde_json::to_vec(ask).map_err(io::Error::other)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        let most = LOCAL_REQUEST_MAX as u64 * 1024;
        BufReader::new(stream.take(most)).read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(io::Error::other)
    };
    match exchange().map_err(failed)? {
        Answer::Error { message, .. } => Err(Fault::new(Code::AgentUnable, message)),
        answer @ (Answer::Status { .. } | Answer::History { .. }) => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_gets_its_answer_and_nonsense_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut asked = listen(dir.path()).unwrap();
        let mode = std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let path = dir.path().to_owned();
        let client = tokio::task::spawn_blocking(move || ask(&path, &Ask::History { count: 3 }));
        let question = asked.recv().await.unwrap();
        assert_eq!(question.ask, Ask::History { count: 3 });
        let answer = Answer::History { entries: vec!["{}".to_owned()] };
        question.reply.send(answer.clone()).unwrap();
        assert_eq!(client.await.unwrap().unwrap(), answer);
        for line in ["{}\n", "{\"ask\":\"widen\"}\n", "\n"] {
            let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert!(said.contains("CX-0101"), "{line}: {said}");
        }
    }

    #[test]
    fn without_an_agent_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(dir.path(), &Ask::Pause).unwrap_err().code, Code::AgentUnable);
    }
}
