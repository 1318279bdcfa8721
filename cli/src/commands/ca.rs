//! `cortex ca`: a deployment's keys, in a directory on this machine. It talks to no server; servers follow the files.

use super::Session;
use crate::client::data_dir;
use crate::error::CliError;
use crate::render;
use crate::serve::access::now;
use clap::{Args, Subcommand, ValueEnum};
use cortex_gateway::authority::{self, Authority};
use std::path::{Path, PathBuf};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make the keys of a new deployment
    #[command(after_help = "\
Examples:
  cortex ca init /etc/cortex/authority
  cortex ca init /etc/cortex/authority --trust-domain cortex.example.org")]
    Init(InitArgs),
    /// Show fingerprint, trust domain and key ids
    Show(DirArgs),
    /// Make new keys; running gateways take them by themselves, nodes and tokens stay valid
    Rotate(RotateArgs),
}

/// Flags of `ca init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// A directory for them; others must not be able to read it
    dir: PathBuf,
    /// Name of the deployment, part of every certificate [default: cortex- and eight random hex digits]
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
}

/// Where the keys are.
#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// The keys' directory [default: authority in the data directory]
    dir: Option<PathBuf>,
}

/// Flags of `ca rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// Which keys
    #[arg(long, value_enum, default_value_t = Which::Tokens)]
    what: Which,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// The key that signs tunnel tokens
    Tokens,
    /// The CA itself
    Ca,
}

/// Runs one of them.
pub(crate) fn run(session: &Session, command: CaCommand) -> Result<(), CliError> {
    let made = match command {
        CaCommand::Init(args) => {
            let name = args.trust_domain.unwrap_or_else(|| {
                format!("cortex-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
            });
            authority::init(&args.dir, &name, now())?
        }
        CaCommand::Show(args) => authority::load(&directory(session, args.dir.as_deref())?)?,
        CaCommand::Rotate(args) => {
            let dir = directory(session, args.dir.dir.as_deref())?;
            match args.what {
                Which::Tokens => authority::rotate_tokens(&dir)?,
                Which::Ca => authority::rotate_ca(&dir, now())?,
            }
        }
    };
    show(session, &made)
}

fn directory(session: &Session, given: Option<&Path>) -> Result<PathBuf, CliError> {
    match given {
        Some(dir) => Ok(dir.to_owned()),
        None => Ok(data_dir(session.global.data_dir.as_deref())?.join("authority")),
    }
}

fn show(session: &Session, authority: &Authority) -> Result<(), CliError> {
    let kids: Vec<&str> = authority.kids().collect();
    let roots: Vec<String> =
        authority.roots().map(|der| cortex_model::registry::Digest::of(der).to_string()).collect();
    if session.json() {
        return render::json(&serde_json::json!({
            "trust_domain": authority.trust_domain(),
            "ca_sha256": authority.fingerprint().to_string(),
            "accepted_ca_sha256": roots,
            "token_keys": kids,
        }));
    }
    render::line(&format!("trust domain  {}", authority.trust_domain()))?;
    render::line(&format!("CA            sha256 {}", authority.fingerprint()))?;
    for older in roots.iter().skip(1) {
        render::line(&format!("CA before     sha256 {older}"))?;
    }
    for (at, kid) in kids.iter().enumerate() {
        let what = if at == 0 { "signs" } else { "is accepted" };
        render::line(&format!("token key     {kid} {what}"))?;
    }
    Ok(())
}
