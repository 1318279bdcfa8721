//! A scripted gateway on a real socket and agents as real processes. The gateway keeps no rules: each test
//! sends the frames it wants and looks at what comes back.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::agent_gateway_server::{AgentGateway, AgentGatewayServer};
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::node_identity_server::{NodeIdentity, NodeIdentityServer};
use cortex_model::proto::*;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

mod tls;

/// Far beyond what anything takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Waits, or fails the test with what was waited for.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Waits until a condition holds that nobody announces.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// One agent's connection, as the gateway sees it.
pub(crate) struct Connection {
    pub(crate) hello: Hello,
    up: mpsc::Receiver<AgentFrame>,
    down: mpsc::Sender<Result<GatewayFrame, Status>>,
}

/// Listens and hands connections to the test.
pub(crate) struct Gateway {
    pub(crate) url: String,
    connections: mpsc::Receiver<Connection>,
    authority: tls::Authority,
}

struct Service(mpsc::Sender<Connection>);

#[tonic::async_trait]
impl AgentGateway for Service {
    type ConnectStream = ReceiverStream<Result<GatewayFrame, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let token = request.metadata().get("authorization").map(|token| token.as_bytes().to_vec());
        if token.as_deref() != Some(b"Bearer test-token") {
            return Err(Status::unauthenticated("wrong token"));
        }
        let mut frames = request.into_inner();
        let (up, up_rx) = mpsc::channel(10_000);
        let (down, down_rx) = mpsc::channel(10_000);
        let connections = self.0.clone();
        tokio::spawn(async move {
            let first = frames.message().await.ok().flatten().and_then(|frame| frame.body);
            let Some(Up::Hello(hello)) = first else { return };
            let connection = Connection { hello, up: up_rx, down };
            if connections.send(connection).await.is_err() {
                return;
            }
            while let Ok(Some(frame)) = frames.message().await {
                if up.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(down_rx)))
    }
}

/// Gives every node the same token, and nothing else.
struct Registrar;

#[tonic::async_trait]
impl NodeIdentity for Registrar {
    async fn mint_tunnel_token(
        &self,
        _: Request<MintTunnelTokenRequest>,
    ) -> Result<Response<MintTunnelTokenResponse>, Status> {
        let now_ms = cortex_agent::clock::unix_now().0;
        let (token, expires_at_ms) = ("test-token".into(), now_ms + 300_000);
        Ok(Response::new(MintTunnelTokenResponse { token, expires_at_ms, now_ms }))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unimplemented("join"))
    }

    async fn renew_certificate(
        &self,
        _: Request<RenewCertificateRequest>,
    ) -> Result<Response<RenewCertificateResponse>, Status> {
        Err(Status::unimplemented("renew"))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        Err(Status::unimplemented("leave"))
    }
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (sender, connections) = mpsc::channel(64);
        let authority = tls::Authority::new();
        let server = tonic::transport::Server::builder()
            .add_service(AgentGatewayServer::new(Service(sender)))
            .add_service(NodeIdentityServer::new(Registrar));
        tokio::spawn(server.serve_with_incoming(authority.accept(listener)));
        Self { url, connections, authority }
    }

    /// The next agent that says hello, welcomed with plenty of credit.
    pub(crate) async fn welcome(&mut self) -> Connection {
        self.welcome_with(1 << 20).await
    }

    /// Welcomed with a token that ends after so long and that no newer one replaces.
    pub(crate) async fn welcome_for(&mut self, token_ms: u64) -> Connection {
        self.welcome_as(1 << 20, 1 + token_ms).await
    }

    pub(crate) async fn welcome_with(&mut self, output_credit: u64) -> Connection {
        self.welcome_as(output_credit, 0).await
    }

    async fn welcome_as(&mut self, output_credit: u64, token_expires_at_ms: u64) -> Connection {
        let connection = within("a hello", self.connections.recv()).await.unwrap();
        connection
            .send(Down::Welcome(Welcome {
                version: 1,
                gateway: "test".into(),
                heartbeat_ms: 1_000,
                dead_after_ms: 60_000,
                output_credit,
                min_backoff_ms: 0,
                workspace: "default".into(),
                now_ms: 1,
                token_expires_at_ms,
            }))
            .await;
        // A gateway that lives says so, however long a test takes.
        let down = connection.down.downgrade();
        tokio::spawn(async move {
            for seq in 1.. {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let beat = Down::Heartbeat(GatewayHeartbeat { seq, now_ms: 1 });
                // Whoever drops the connection closes it.
                let Some(down) = down.upgrade() else { return };
                if down.send(Ok(GatewayFrame { body: Some(beat) })).await.is_err() {
                    return;
                }
            }
        });
        connection
    }
}

impl Connection {
    pub(crate) async fn send(&self, body: Down) {
        // A test may talk to an agent that it has just killed.
        drop(self.down.send(Ok(GatewayFrame { body: Some(body) })).await);
    }

    /// The next frame that is neither a heartbeat nor about the journal or the owner's consent.
    pub(crate) async fn next(&mut self) -> Up {
        within("a frame", async {
            loop {
                let frame = self.up.recv().await.expect("the connection is open");
                match frame.body.unwrap() {
                    Up::Heartbeat(_)
                    | Up::Consent(_)
                    | Up::TokenShown(_)
                    | Up::AuditHello(_)
                    | Up::AuditBatch(_)
                    | Up::AuditOpenings(_)
                    | Up::AuditEvidence(_) => {}
                    body => return body,
                }
            }
        })
        .await
    }

    /// The next frame about the journal; what else comes meanwhile is dropped.
    pub(crate) async fn audit(&mut self) -> Up {
        within("a frame about the journal", async {
            loop {
                let frame = self.up.recv().await.expect("the connection is open");
                if let body @ (Up::AuditHello(_)
                | Up::AuditBatch(_)
                | Up::AuditOpenings(_)
                | Up::AuditEvidence(_)) = frame.body.unwrap()
                {
                    return body;
                }
            }
        })
        .await
    }

    /// Offers, and says Go when the agent claims.
    pub(crate) async fn dispatch(&mut self, task: &str, id: u64, spec: TaskSpec) {
        self.send(Down::Offer(offer(task, id, spec))).await;
        loop {
            match self.next().await {
                Up::Claim(claim) => break assert_eq!((claim.offer_id, claim.fence), (id, 41)),
                // Of a task that runs already.
                Up::Output(_) => {}
                other => panic!("no claim: {other:?}"),
            }
        }
        self.go(&self.hello.session.clone(), task, id).await;
    }

    pub(crate) async fn go(&self, session: &str, task: &str, id: u64) {
        self.send(Down::Go(Go {
            offer_id: id,
            workspace: "default".into(),
            task_id: task.into(),
            attempt: 1,
            fence: 42,
            session: session.into(),
            ..Go::default()
        }))
        .await;
    }

    pub(crate) async fn ack_outcome(&self, task: &str) {
        let (workspace, task_id) = ("default".into(), task.into());
        self.send(Down::OutcomeAck(OutcomeAck { workspace, task_id, attempt: 1 })).await;
    }

    pub(crate) async fn ack_output(&self, task: &str, offset: u64) {
        let ack = OutputAck {
            workspace: "default".into(),
            task_id: task.into(),
            attempt: 1,
            offset,
            ..OutputAck::default()
        };
        self.send(Down::OutputAck(ack)).await;
    }

    /// The next outcome.
    pub(crate) async fn outcome(&mut self) -> OutcomeReport {
        self.outcome_and_output().await.0
    }

    /// The next outcome with all output: inside it, or sent before when the machine was slow.
    pub(crate) async fn outcome_and_output(&mut self) -> (OutcomeReport, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            match self.next().await {
                Up::Outcome(report) => {
                    for chunk in &report.outcome.as_ref().unwrap().inline_output {
                        bytes.extend_from_slice(&chunk.data);
                    }
                    return (report, bytes);
                }
                Up::Output(output) => {
                    let data = output.chunk.unwrap().data;
                    bytes.extend_from_slice(&data);
                    self.send(Down::Credit(Credit { output_bytes: data.len() as u64 })).await;
                }
                other => panic!("no outcome: {other:?}"),
            }
        }
    }

    pub(crate) async fn query(&mut self, task: &str) -> QueryAnswer {
        self.send(Down::Query(Query {
            query_id: 7,
            workspace: "default".into(),
            task_id: task.into(),
            attempt: 1,
        }))
        .await;
        match self.next().await {
            Up::QueryAnswer(answer) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }
}

pub(crate) fn ending(report: &OutcomeReport) -> ending::Kind {
    report.outcome.clone().unwrap().ending.unwrap().kind.unwrap()
}

pub(crate) fn offer(task: &str, id: u64, spec: TaskSpec) -> Offer {
    Offer {
        workspace: "default".into(),
        task_id: task.into(),
        idempotency_key: task.into(),
        attempt: 1,
        fence: 41,
        spec: Some(spec),
        offer_id: id,
        actor: Some(Actor {
            kind: ActorKind::Human.into(),
            id: "tester".into(),
            ..Actor::default()
        }),
        ..Offer::default()
    }
}

pub(crate) fn echo(text: &str) -> TaskSpec {
    let payload = text.as_bytes().to_vec();
    spec(action::Kind::Echo(EchoAction { payload }))
}

/// `sh -c script`.
pub(crate) fn sh(script: &str) -> TaskSpec {
    shell(&["sh", "-c", script])
}

pub(crate) fn shell(argv: &[&str]) -> TaskSpec {
    let argv = argv.iter().map(|part| part.as_bytes().to_vec()).collect();
    spec(action::Kind::Shell(ShellAction { argv, ..ShellAction::default() }))
}

fn spec(kind: action::Kind) -> TaskSpec {
    TaskSpec { action: Some(Action { kind: Some(kind) }), ..TaskSpec::default() }
}

/// The agent, where whoever runs the test can get at it.
pub(crate) fn agent_program() -> PathBuf {
    match std::env::var_os("CORTEX_TEST_PROGRAMS") {
        Some(programs) => Path::new(&programs).join("cortex-agent"),
        None => env!("CARGO_BIN_EXE_cortex-agent").into(),
    }
}

/// A machine: a data directory in which agents come and go. `sh` may run there.
pub(crate) struct Machine {
    pub(crate) dir: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let policy = "version = 0\n[shell]\nallow = [\"/usr/bin/sh\", \"/bin/sh\"]\n";
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, policy).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Builds what can be preloaded into an agent, from the file of this name beside this one.
    pub(crate) fn library(&self, name: &str) -> PathBuf {
        let library = self.path(&format!("{name}.so"));
        let source = format!("{}/tests/support/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = std::process::Command::new(compiler)
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .args([&source, "-ldl"])
            .status();
        assert!(built.unwrap().success(), "the C compiler");
        library
    }

    pub(crate) fn command(&self, gateway: &Gateway) -> Command {
        gateway.authority.enrol(self.dir.path(), &gateway.url);
        self.dressed(Command::new(agent_program()))
    }

    /// An agent behind a program that takes abilities away from it: `wrapper` is that program with its arguments.
    pub(crate) fn start_behind(&self, gateway: &Gateway, wrapper: &[&str]) -> Child {
        gateway.authority.enrol(self.dir.path(), &gateway.url);
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(agent_program());
        self.dressed(command).spawn().unwrap()
    }

    fn dressed(&self, mut command: Command) -> Command {
        command
            .args(["run", "--data-dir"])
            .arg(self.dir.path())
            .env("CORTEX_LOG", "debug,h2=info,hyper=info,tower=info")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) fn start(&self, gateway: &Gateway) -> Child {
        self.command(gateway).spawn().unwrap()
    }
}

/// Ends a process the hard way and waits until it is gone.
pub(crate) async fn kill(mut child: Child) {
    child.start_kill().unwrap();
    within("the killed process", child.wait()).await.unwrap();
}

/// Waits until a file, written by a task, has a whole line.
pub(crate) async fn appears(path: &Path) -> String {
    let read = || std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'));
    until(&format!("{}", path.display()), || read().is_some()).await;
    read().unwrap()
}

/// Waits until a process is gone.
pub(crate) async fn is_gone(pid: &str) {
    let stat = format!("/proc/{}/stat", pid.trim());
    // A zombie is gone: nobody here can wait for it.
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    until(&format!("the end of process {pid}"), || !alive()).await;
}
