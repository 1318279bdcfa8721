//! `cortex token revoke`.

use crate::client::required;
use crate::commands::Session;
use crate::error::CliError;
use crate::{render, view};
use clap::Args;
use cortex_model::proto as pb;

/// Flags of `token revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nodes that joined with a join token stay; revoke them with 'cortex node revoke'.

Example:
  cortex token revoke 3f9c2ab0d1e47788 --reason 'left the team'")]
pub(crate) struct RevokeArgs {
    /// The token's id, from 'cortex token list'
    token: String,
    /// Why, for people
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
}

/// Ends a token.
pub(crate) async fn run(session: &Session, args: RevokeArgs) -> Result<(), CliError> {
    let request = pb::RevokeTokenRequest { token_id: args.token, reason: args.reason };
    let token = required(session.connect().await?.revoke_token(request).await?.token)?;
    if session.json() {
        return render::json(&view::Token::from(&token));
    }
    render::line(&format!("token {} is revoked", token.token_id))
}
