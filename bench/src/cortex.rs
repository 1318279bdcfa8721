//! The product as its user runs it: `cortex up` without an agent of its own, one agent beside it, both as processes, and a
//! warm channel to the server.

use crate::Bench;
use crate::procs::Proc;
use anyhow::{Context as _, bail};
use cortex_agent::dial::{self, Trust};
use cortex_model::credential::TokenText;
use cortex_model::proto as pb;
use cortex_proto::v1::access_client::AccessClient;
use cortex_proto::v1::audit_client::AuditClient;
use cortex_proto::v1::cortex_client::CortexClient;
use futures::future::BoxFuture;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

/// How long a process may take to be there.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server.
pub(crate) struct Server {
    /// Its process: gateway, scheduler and log.
    pub(crate) process: Proc,
    data: PathBuf,
    programs: PathBuf,
    url: String,
    token: MetadataValue<Ascii>,
    channel: Channel,
}

impl Server {
    /// Starts one on a new data directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start(bench: &Bench, name: &str) -> anyhow::Result<Server> {
        Self::on(bench, name, "embedded").await
    }

    /// Starts one on a new data directory, with its log where `log` says.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn on(bench: &Bench, name: &str, log: &str) -> anyhow::Result<Server> {
        let data = bench.directory.path().join(name);
        let mut command = Command::new(bench.programs.join("cortex"));
        command
            .args(["up", "--no-agent", "--calls-per-second", "1000000", "--data-dir"])
            .arg(&data)
            .args(["--log", log]);
        // Contexts of whoever measures are none of its business.
        command.env("XDG_CONFIG_HOME", bench.directory.path().join("config"));
        let mut process = Proc::spawn("cortex up", &mut command)?;
        process.drain();
        let begun = Instant::now();
        let (url, token) = loop {
            match endpoint(&data) {
                Ok(found) => break found,
                Err(e) if !process.alive() || begun.elapsed() > START_TIMEOUT => {
                    return Err(e.context(
                        "cortex up did not come up (CORTEX_BENCH_VERBOSE=1 shows what it says)",
                    ));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let known = TokenText::parse(&token)?;
        let token = format!("Bearer {token}").parse()?;
        let channel = dial::connect(&url, Trust::Pinned(known.ca)).await?;
        let programs = bench.programs.clone();
        Ok(Server { process, data, programs, url, token, channel })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A join token for so many nodes.
    ///
    /// # Errors
    /// When the server does not make one.
    pub(crate) async fn join_token(&self, uses: u32) -> anyhow::Result<String> {
        let grant = pb::JoinGrant { uses, ..Default::default() };
        let request = pb::CreateTokenRequest {
            grant: Some(pb::create_token_request::Grant::Join(grant)),
            ..Default::default()
        };
        let mut client = AccessClient::new(self.channel.clone());
        Ok(client.create_token(self.authorised(request)).await?.into_inner().text)
    }

    /// Starts an agent and waits until the server sees it. A policy, if given, is the agent's whole policy file.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn agent(
        &self,
        program: &str,
        slots: u32,
        policy: Option<&str>,
    ) -> anyhow::Result<Proc> {
        let data = self.agent_dir();
        if let Some(text) = policy {
            std::fs::create_dir_all(&data)?;
            private(&data, 0o700)?;
            std::fs::write(data.join("policy.toml"), text)?;
            private(&data.join("policy.toml"), 0o600)?;
        }
        let mut join = self.agent_command(program);
        join.args(["join", &self.url, &self.join_token(1).await?, "--data-dir"]).arg(&data);
        anyhow::ensure!(join.output()?.status.success(), "the agent cannot join");
        self.agent_again(program, slots).await
    }

    /// Starts the agent that has joined before.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn agent_again(&self, program: &str, slots: u32) -> anyhow::Result<Proc> {
        let mut command = self.agent_command(program);
        command.args(["run", "--starter-policy", "--slots", &slots.to_string(), "--data-dir"]);
        command.arg(self.agent_dir()).arg("--endpoint-file").arg(self.data.join("endpoint.json"));
        let mut process = Proc::spawn("the agent", &mut command)?;
        process.drain();
        self.wait_for_nodes(1, &mut process).await?;
        Ok(process)
    }

    fn agent_command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if program == "cortex" {
            command.arg("__agent");
        }
        command
    }

    /// The agent's data directory.
    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.data.join("agent")
    }

    /// The journals that the mirror has.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn audit_logs(&self) -> anyhow::Result<Vec<pb::AuditLog>> {
        let mut client = AuditClient::new(self.channel.clone());
        let request = self.authorised(pb::ListAuditLogsRequest::default());
        Ok(client.list_audit_logs(request).await?.into_inner().logs)
    }

    /// Waits until so many nodes are connected.
    ///
    /// # Errors
    /// When they do not come, or the process ends.
    pub(crate) async fn wait_for_nodes(
        &self,
        nodes: usize,
        process: &mut Proc,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let request = pb::ListNodesRequest { online_only: true, ..Default::default() };
            let answer = self.client().list_nodes(self.authorised(request)).await;
            let seen = answer.map_or(0, |a| a.into_inner().nodes.len());
            if seen >= nodes {
                return Ok(());
            }
            if !process.alive() || begun.elapsed() > START_TIMEOUT {
                bail!("{seen} of {nodes} nodes connected (CORTEX_BENCH_VERBOSE=1 shows why)");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is durable when this server says so, in its own words.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn durability(&self) -> anyhow::Result<String> {
        let request = self.authorised(pb::GetServerInfoRequest {});
        let info = self.client().get_server_info(request).await?.into_inner();
        Ok(format!("{} log, acknowledged: {}", info.log_backend, info.durability))
    }

    /// One task, from submit to its end. Refused for lack of room is an error: a figure with refusals is none.
    pub(crate) fn task(
        &self,
        make: fn() -> pb::SubmitTaskRequest,
    ) -> impl Fn() -> BoxFuture<'static, anyhow::Result<()>> + Clone + Send + use<> {
        let (client, token) = (self.client(), self.token.clone());
        move || {
            let (mut client, token) = (client.clone(), token.clone());
            Box::pin(async move {
                let mut request = Request::new(make());
                request.metadata_mut().insert("authorization", token);
                let answer = client.submit_task(request).await?.into_inner();
                let task = answer.task.unwrap_or_default();
                let state = task.state();
                if state != pb::TaskState::Succeeded {
                    bail!("the task is {state:?}: {:?}", task.outcome);
                }
                Ok(())
            })
        }
    }

    fn client(&self) -> CortexClient<Channel> {
        CortexClient::new(self.channel.clone())
    }

    fn authorised<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

/// The file is written last, when the server listens.
fn endpoint(data: &Path) -> anyhow::Result<(String, String)> {
    let text = std::fs::read(data.join("endpoint.json")).context("endpoint.json")?;
    let value: serde_json::Value = serde_json::from_slice(&text)?;
    let url = value["url"].as_str().context("endpoint.json has no url")?.to_owned();
    let token = std::fs::read_to_string(data.join("client.token")).context("client.token")?;
    Ok((url, token.trim().to_owned()))
}

fn private(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
