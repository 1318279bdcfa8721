//! `cortex login`: keeps a server and a token for it as a context. The token is read, never taken from the command line, where
//! every process of the machine could see it.

use super::Session;
use crate::context::{Context, Contexts, digest};
use crate::error::CliError;
use crate::{client, render, view, words};
use clap::Args;
use cortex_model::credential::{Purpose, TokenText};
use cortex_model::limits::identity::CREDENTIAL_MAX;
use cortex_model::proto as pb;
use cortex_model::{Code, Workspace};
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

/// Flags of `login`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is read from standard input, or from a file. It carries the fingerprint of the server's CA, so that nothing is
sent to another server; a token of an outside issuer does not, so --ca is needed.

Examples:
  cortex login https://cortex.example.org:7400
  cortex login https://cortex.example.org:7400 --token-file token.txt --name work
  issue-jwt | cortex login https://cortex.example.org:7400 --ca 3a:1f:...")]
pub(crate) struct LoginArgs {
    /// The server, https://HOST:PORT
    url: String,
    /// File that holds the token; '-' is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    token_file: PathBuf,
    /// Name of the context [default: the server's host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// SHA-256 of the CA's certificate, as 'cortex ca show' prints it
    #[arg(long, value_name = "FINGERPRINT")]
    ca: Option<String>,
}

/// Checks server and token, and keeps them.
pub(crate) async fn run(session: &Session, args: LoginArgs) -> Result<(), CliError> {
    let contexts = Contexts::required()?;
    let token = read_token(&args)?;
    let parsed = TokenText::parse(&token);
    if parsed.as_ref().is_ok_and(|t| t.purpose == Purpose::Join) {
        return Err(CliError::new(Code::BadTokenText, "this is a join token: it is for a machine")
            .with_hint("on the machine: cortex-agent join URL TOKEN"));
    }
    let bad = || CliError::new(Code::Usage, "the CA's fingerprint has 64 hex digits");
    let given = args.ca.as_deref().map(|text| digest(text).ok_or_else(bad)).transpose()?;
    let looks_ours = token.starts_with("cx");
    let ca = match (given, parsed) {
        (Some(ca), _) => ca,
        (None, Ok(token)) => token.ca,
        (None, Err(fault)) if looks_ours => return Err(fault.into()),
        (None, Err(_)) => {
            return Err(CliError::new(
                Code::Usage,
                "a token of an outside issuer does not say how to know the server",
            )
            .with_hint("pass --ca FINGERPRINT, as 'cortex ca show' prints it on the server"));
        }
    };
    let client = client::reach(&args.url, ca, &token).await?;
    let who = client.who_am_i(pb::WhoAmIRequest {}).await?;
    let name = args.name.unwrap_or_else(|| name_of(&args.url));
    contexts.login(&Context { name: name.clone(), url: args.url, ca, token })?;
    if session.json() {
        let who = view::Who::from(&who);
        return render::json(&serde_json::json!({ "context": name, "who": who }));
    }
    render::line(&format!(
        "{name}: you are {} with the role {} in workspace {}",
        words::actor(who.actor.as_ref()),
        view::role(who.role()),
        who.workspace
    ))
}

fn read_token(args: &LoginArgs) -> Result<String, CliError> {
    let path = &args.token_file;
    let failed = |e: std::io::Error| CliError::new(Code::Usage, format!("{}: {e}", path.display()));
    let most = CREDENTIAL_MAX as u64;
    let mut text = String::new();
    if path.as_os_str() == "-" {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            render::note("paste the token and press Enter");
            stdin.read_line(&mut text).map_err(failed)?;
        } else {
            stdin.lock().take(most).read_to_string(&mut text).map_err(failed)?;
        }
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(most).read_to_string(&mut text).map_err(failed)?;
    }
    let text = text.trim().to_owned();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(CliError::new(Code::BadTokenText, "there is no token to read"));
    }
    Ok(text)
}

/// The server's host, as a context can be named.
fn name_of(url: &str) -> String {
    let host = url.strip_prefix("https://").unwrap_or(url);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let host = host.trim_end_matches('/').rsplit_once(':').map_or(host, |(host, _)| host);
    let name: String = host.chars().map(plain).take(60).collect();
    let name = name.trim_matches('-').to_owned();
    if Workspace::parse(&name).is_ok() { name } else { "server".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_after_its_host() {
        for (url, name) in [
            ("https://Cortex.example.org:7400", "cortex-example-org"),
            ("https://127.0.0.1:1", "127-0-0-1"),
            ("https://[::1]:1/", "1"),
            ("https://", "server"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }
}
