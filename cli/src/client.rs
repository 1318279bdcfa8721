//! Finds the server through its data directory and calls it. It never retries by itself and knows no
//! command; who wants to try again connects again, because a restarted server may listen elsewhere.

use crate::context::Context;
use crate::error::CliError;
use cortex_agent::dial::{self, Trust};
use cortex_model::credential::TokenText;
use cortex_model::limits::REQUEST_MAX;
use cortex_model::proto as pb;
use cortex_model::registry::Digest;
use cortex_model::{Code, TaskId};
use cortex_proto::v1::access_client::AccessClient;
use cortex_proto::v1::audit_client::AuditClient;
use cortex_proto::v1::cortex_client::CortexClient;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

/// File in the data directory that says where the server listens.
pub(crate) const ENDPOINT_FILE: &str = "endpoint.json";
/// File in the data directory with the clients' token.
pub(crate) const TOKEN_FILE: &str = "client.token";
const ENDPOINT_VERSION: u32 = 1;
/// Longest wait for the answer of a call that is answered at once.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a server says it is.
#[derive(Debug, Deserialize)]
struct EndpointFile {
    version: u32,
    url: String,
    #[serde(default)]
    pid: u32,
}

/// The data directory: as given, or the user's own.
///
/// # Errors
/// `CX-0803` when there is no home to derive it from.
pub(crate) fn data_dir(given: Option<&Path>) -> Result<PathBuf, CliError> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = given.filter(|d| !d.as_os_str().is_empty()) {
        return Ok(dir.to_owned());
    }
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("cortex"))
        .ok_or_else(|| {
            CliError::new(Code::Usage, "no data directory: neither HOME nor XDG_DATA_HOME is set")
                .with_hint("pass --data-dir DIR or set CORTEX_DATA_DIR")
        })
}

/// A server that may or may not run: the one of a data directory, or one that was logged in to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// It says in its data directory where it is, and its token lies beside that.
    Local(PathBuf),
    /// A context.
    Context(Box<Context>),
}

impl Target {
    pub(crate) fn new(data_dir: PathBuf) -> Target {
        Target::Local(data_dir)
    }

    /// Whether the caller may name whom they like as the author of a request: who holds a server's data directory may.
    pub(crate) fn names_anybody(&self) -> bool {
        matches!(self, Target::Local(_))
    }

    /// Reads where the server is and connects. Nothing secret is sent before the server showed that it is the right one.
    ///
    /// # Errors
    /// `CX-0801` when there is none, `CX-0706` when the token can be read by others, `CX-0523` when it is another server.
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        match self {
            Target::Local(dir) => Local { data_dir: dir.clone() }.connect().await,
            Target::Context(context) => reach(&context.url, context.ca, &context.token).await,
        }
    }
}

/// Connects to a server that is known by its CA, with a token.
///
/// # Errors
/// As [`Target::connect`].
pub(crate) async fn reach(url: &str, ca: Digest, token: &str) -> Result<Client, CliError> {
    let channel = dial::connect(url, Trust::Pinned(ca)).await?;
    let mut token: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
        CliError::new(Code::BadTokenText, "the token has characters it cannot have")
    })?;
    token.set_sensitive(true);
    let rpc = CortexClient::new(channel.clone())
        .max_decoding_message_size(REQUEST_MAX)
        .max_encoding_message_size(REQUEST_MAX);
    let audit = AuditClient::new(channel.clone())
        .max_decoding_message_size(REQUEST_MAX)
        .max_encoding_message_size(REQUEST_MAX);
    Ok(Client { rpc, audit, access: AccessClient::new(channel), token })
}

/// The server of a data directory.
#[derive(Clone, Debug)]
struct Local {
    data_dir: PathBuf,
}

impl Local {
    async fn connect(&self) -> Result<Client, CliError> {
        let at = self.endpoint()?;
        let text = self.token()?;
        let token = TokenText::parse(&text).map_err(|f| {
            CliError::from(f).at(&self.data_dir.join(TOKEN_FILE).display().to_string())
        })?;
        reach(&at.url, token.ca, &text).await.map_err(|e| {
            if !e.is(Code::CannotConnect) {
                return e;
            }
            let pid =
                if at.pid == 0 { String::new() } else { format!(" (it was process {})", at.pid) };
            CliError::new(
                Code::CannotConnect,
                format!(
                    "the server of {} does not answer at {}{pid}",
                    self.data_dir.display(),
                    at.url
                ),
            )
        })
    }

    fn endpoint(&self) -> Result<EndpointFile, CliError> {
        let path = self.data_dir.join(ENDPOINT_FILE);
        let text = fs::read_to_string(&path).map_err(|e| {
            let what = if e.kind() == std::io::ErrorKind::NotFound {
                format!("no server was started in {}", self.data_dir.display())
            } else {
                format!("{} cannot be read: {e}", path.display())
            };
            CliError::new(Code::CannotConnect, what)
        })?;
        let at: EndpointFile =
            serde_json::from_str(&text).map_err(|e| self.damaged(&e.to_string()))?;
        if at.version != ENDPOINT_VERSION {
            return Err(CliError::new(
                Code::DataDirNewer,
                format!(
                    "{} has version {}, this program knows {ENDPOINT_VERSION}",
                    path.display(),
                    at.version
                ),
            ));
        }
        Ok(at)
    }

    fn token(&self) -> Result<String, CliError> {
        let path = self.data_dir.join(TOKEN_FILE);
        let text = read_private(&path)?;
        Ok(text.trim().to_owned())
    }

    fn damaged(&self, why: &str) -> CliError {
        let path = self.data_dir.join(ENDPOINT_FILE);
        CliError::new(Code::CannotConnect, format!("{} is damaged: {why}", path.display()))
            .with_hint("restart the server: 'cortex up' writes the file anew")
    }
}

/// Reads a file that nobody else may use.
///
/// # Errors
/// `CX-0706` when others can, `CX-0501` when it cannot be read.
pub(crate) fn read_private(path: &Path) -> Result<String, CliError> {
    let unreadable = |e: std::io::Error| {
        CliError::new(Code::Unauthenticated, format!("{} cannot be read: {e}", path.display()))
    };
    check_private(path, &fs::metadata(path).map_err(unreadable)?)?;
    fs::read_to_string(path).map_err(unreadable)
}

#[cfg(unix)]
fn check_private(path: &Path, meta: &fs::Metadata) -> Result<(), CliError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{} can be used by others (mode {mode:o})", path.display());
    Err(CliError::new(Code::InsecureFile, text)
        .with_hint(format!("run: chmod 600 {}", path.display())))
}

#[cfg(not(unix))]
fn check_private(_: &Path, _: &fs::Metadata) -> Result<(), CliError> {
    Ok(())
}

/// Checks a task id before anybody is asked.
///
/// # Errors
/// `CX-0102`.
pub(crate) fn task_id(text: &str) -> Result<String, CliError> {
    let bad = |f| CliError::from(f).with_hint("copy the id from 'cortex task list'");
    Ok(TaskId::parse(text).map_err(bad)?.to_string())
}

/// A connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    rpc: CortexClient<Channel>,
    audit: AuditClient<Channel>,
    access: AccessClient<Channel>,
    token: MetadataValue<Ascii>,
}

/// One call that is answered at once; each returns the server's error as [`CliError`].
macro_rules! calls {
    ($service:ident: $($name:ident($request:ident) -> $response:ident;)*) => {
        impl Client {
            $(pub(crate) async fn $name(&self, m: pb::$request) -> Result<pb::$response, CliError> {
                let mut request = self.request(m);
                request.set_timeout(CALL_TIMEOUT);
                Ok(self.$service.clone().$name(request).await?.into_inner())
            })*
        }
    };
}

calls! { audit:
    list_audit_logs(ListAuditLogsRequest) -> ListAuditLogsResponse;
    prove_audit_record(ProveAuditRecordRequest) -> ProveAuditRecordResponse;
    list_audit_findings(ListAuditFindingsRequest) -> ListAuditFindingsResponse;
    get_task_audit(GetTaskAuditRequest) -> GetTaskAuditResponse;
    settle_node_audit(SettleNodeAuditRequest) -> SettleNodeAuditResponse;
    list_mirror_keys(ListMirrorKeysRequest) -> ListMirrorKeysResponse;
}

calls! { access:
    who_am_i(WhoAmIRequest) -> WhoAmIResponse;
    create_token(CreateTokenRequest) -> CreateTokenResponse;
    list_tokens(ListTokensRequest) -> ListTokensResponse;
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse;
    approve_node(ApproveNodeRequest) -> ApproveNodeResponse;
    reject_node(RejectNodeRequest) -> RejectNodeResponse;
    quarantine_node(QuarantineNodeRequest) -> QuarantineNodeResponse;
    revoke_node(RevokeNodeRequest) -> RevokeNodeResponse;
    narrow_node(NarrowNodeRequest) -> NarrowNodeResponse;
}

calls! { rpc:
    submit_task(SubmitTaskRequest) -> SubmitTaskResponse;
    type_terminal(TypeTerminalRequest) -> TypeTerminalResponse;
    list_tasks(ListTasksRequest) -> ListTasksResponse;
    cancel_task(CancelTaskRequest) -> CancelTaskResponse;
    resolve_task(ResolveTaskRequest) -> ResolveTaskResponse;
    explain_task(ExplainTaskRequest) -> ExplainTaskResponse;
    get_task_history(GetTaskHistoryRequest) -> GetTaskHistoryResponse;
    list_nodes(ListNodesRequest) -> ListNodesResponse;
    get_node(GetNodeRequest) -> GetNodeResponse;
    get_task(GetTaskRequest) -> GetTaskResponse;
    get_server_info(GetServerInfoRequest) -> GetServerInfoResponse;
    create_backup(CreateBackupRequest) -> CreateBackupResponse;
}

impl Client {
    /// A task as it stands.
    pub(crate) async fn task(&self, id: &str) -> Result<pb::Task, CliError> {
        let answer = self.get_task(pb::GetTaskRequest { task_id: id.to_owned() }).await?;
        required(answer.task)
    }

    /// Follows a task.
    pub(crate) async fn watch(
        &self,
        m: pb::WatchTaskRequest,
    ) -> Result<tonic::Streaming<pb::WatchTaskResponse>, CliError> {
        Ok(self.rpc.clone().watch_task(self.request(m)).await?.into_inner())
    }

    /// A journal's records.
    pub(crate) async fn read_audit_records(
        &self,
        m: pb::ReadAuditRecordsRequest,
    ) -> Result<tonic::Streaming<pb::ReadAuditRecordsResponse>, CliError> {
        Ok(self.audit.clone().read_audit_records(self.request(m)).await?.into_inner())
    }

    /// Openings of a journal's records.
    pub(crate) async fn read_audit_openings(
        &self,
        m: pb::ReadAuditOpeningsRequest,
    ) -> Result<tonic::Streaming<pb::ReadAuditOpeningsResponse>, CliError> {
        Ok(self.audit.clone().read_audit_openings(self.request(m)).await?.into_inner())
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

/// A part of an answer that the contract promises.
pub(crate) fn required<T>(part: Option<T>) -> Result<T, CliError> {
    part.ok_or_else(|| CliError::internal("the server's answer lacks a part that it must have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(files: &[(&str, &str, u32)]) -> (tempfile::TempDir, Local) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for (name, text, mode) in files {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        let target = Local { data_dir: dir.path().to_owned() };
        (dir, target)
    }

    #[test]
    fn a_directory_without_a_server_is_said_so() {
        let (_dir, t) = target(&[]);
        let e = t.endpoint().unwrap_err();
        assert!(e.is(Code::CannotConnect) && e.message.contains("no server was started"), "{e:?}");
    }

    #[test]
    fn a_damaged_or_newer_endpoint_file_is_refused() {
        let (_dir, t) = target(&[(ENDPOINT_FILE, "{", 0o600)]);
        assert!(t.endpoint().unwrap_err().message.contains("is damaged"));
        let (_dir, t) = target(&[(ENDPOINT_FILE, r#"{"version":2,"url":"https://x"}"#, 0o600)]);
        assert!(t.endpoint().unwrap_err().is(Code::DataDirNewer));
    }

    #[test]
    fn a_token_that_others_can_use_is_refused() {
        for mode in [0o640, 0o604, 0o620, 0o666] {
            let (_dir, t) = target(&[(TOKEN_FILE, "secret", mode)]);
            let e = t.token().unwrap_err();
            assert!(e.is(Code::InsecureFile), "{mode:o}");
            assert!(e.hint.contains("chmod 600") && e.hint.contains(TOKEN_FILE), "{}", e.hint);
            assert!(!e.message.contains("secret"));
        }
        let (_dir, t) = target(&[(TOKEN_FILE, "secret\n", 0o600)]);
        assert_eq!(t.token().unwrap(), "secret");
    }

    #[test]
    fn a_given_directory_wins() {
        assert_eq!(data_dir(Some(Path::new("/x"))).unwrap(), Path::new("/x"));
        assert!(data_dir(None).unwrap().ends_with("cortex"));
    }
}
