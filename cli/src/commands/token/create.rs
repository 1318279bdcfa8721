//! `cortex token create`.

use crate::client::required;
use crate::commands::Session;
use crate::error::CliError;
use crate::{duration, render, view, words};
use clap::{Args, Subcommand, ValueEnum};
use cortex_model::proto as pb;
use cortex_model::{Code, NodeId, Workspace};
use pb::create_token_request::Grant;
use std::collections::BTreeMap;

/// What the token is for.
#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// For machines that shall join
    Node(NodeArgs),
    /// For a person or program that shall use the API
    User(UserArgs),
}

/// Flags of every token.
#[derive(Debug, Args)]
struct Common {
    /// Workspace it is for [default: your own]
    #[arg(long, value_name = "W")]
    workspace: Option<String>,
    /// How long it is valid, for example 30m, 8h, 7d
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// What it is for, for people
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,
}

/// Flags of `token create node`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is printed once. On the machine: cortex-agent join https://HOST:PORT TOKEN

Examples:
  cortex token create node
  cortex token create node --workspace team-a --label site=berlin --ttl 24h --uses 20
  cortex token create node --node build-7 --require-approval")]
pub(crate) struct NodeArgs {
    /// A label that every node gets; repeat for more
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// How many machines may join with it
    #[arg(long, default_value_t = 1, value_name = "N")]
    uses: u32,
    /// Each machine waits until an admin approves it
    #[arg(long)]
    require_approval: bool,
    /// The only node id that may join with it
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Flags of `token create user`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is printed once. Its holder runs: cortex login https://HOST:PORT

Examples:
  cortex token create user --role operator --for anna
  cortex token create user --role viewer --for grafana --kind program --ttl 90d
  cortex token create user --role operator --for helper --kind ai --model vendor/model-1 --acts-for anna")]
pub(crate) struct UserArgs {
    /// What its holder may do
    #[arg(long, value_enum)]
    role: RoleArg,
    /// Who its holder is: a stable identifier
    #[arg(long = "for", value_name = "ID")]
    holder: String,
    /// What its holder is
    #[arg(long, value_enum, default_value_t = KindArg::Human)]
    kind: KindArg,
    /// The model, for an ai
    #[arg(long, default_value = "", value_name = "MODEL")]
    model: String,
    /// On whose behalf its holder acts
    #[arg(long, default_value = "", value_name = "ID")]
    acts_for: String,
    #[command(flatten)]
    common: Common,
}

/// Roles; docs/identity.md has the table.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// Reads
    Viewer,
    /// Reads, submits, cancels, resolves
    Operator,
    /// Reads, also the audit
    Auditor,
    /// Everything in the workspace
    Admin,
    /// Everything in every workspace
    Root,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Human,
    Ai,
    Program,
}

/// Makes a token and prints its text.
pub(crate) async fn run(session: &Session, command: CreateCommand) -> Result<(), CliError> {
    let (grant, common) = match command {
        CreateCommand::Node(args) => (Grant::Join(join(&args)?), args.common),
        CreateCommand::User(args) => (Grant::User(user(&args)), args.common),
    };
    let workspace = common.workspace.as_deref().map(Workspace::parse).transpose()?;
    let request = pb::CreateTokenRequest {
        workspace: workspace.map(|w| w.to_string()).unwrap_or_default(),
        grant: Some(grant),
        ttl_ms: common.ttl.as_deref().map(duration::parse).transpose()?.unwrap_or(0),
        note: common.note,
    };
    let answer = session.connect().await?.create_token(request).await?;
    let token = required(answer.token)?;
    if session.json() {
        let token = view::Token::from(&token);
        return render::json(&serde_json::json!({ "text": answer.text, "token": token }));
    }
    render::line(&answer.text)?;
    let until = words::time(token.expires_at_ms);
    render::note(&format!(
        "token {} is valid until {until}; its text is not shown again",
        token.token_id
    ));
    Ok(())
}

fn join(args: &NodeArgs) -> Result<pb::JoinGrant, CliError> {
    let mut labels = BTreeMap::new();
    for label in &args.labels {
        let (key, value) =
            label.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                CliError::new(Code::Usage, format!("{label:?} is no label"))
                    .with_hint("write KEY=VALUE")
            })?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let node = args.node.as_deref().map(NodeId::parse).transpose()?;
    Ok(pb::JoinGrant {
        uses: args.uses,
        require_approval: args.require_approval,
        labels,
        node: node.map(|n| n.to_string()).unwrap_or_default(),
    })
}

fn user(args: &UserArgs) -> pb::UserGrant {
    let role = match args.role {
        RoleArg::Viewer => pb::Role::Viewer,
        RoleArg::Operator => pb::Role::Operator,
        RoleArg::Auditor => pb::Role::Auditor,
        RoleArg::Admin => pb::Role::Admin,
        RoleArg::Root => pb::Role::Root,
    };
    let kind = match args.kind {
        KindArg::Human => pb::ActorKind::Human,
        KindArg::Ai => pb::ActorKind::Ai,
        KindArg::Program => pb::ActorKind::Program,
    };
    let holder = pb::Actor {
        kind: kind.into(),
        id: args.holder.clone(),
        model: args.model.clone(),
        on_behalf_of: args.acts_for.clone(),
    };
    pb::UserGrant { role: role.into(), holder: Some(holder) }
}
