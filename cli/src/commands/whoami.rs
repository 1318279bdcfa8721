//! `cortex whoami`: who the server takes one for.

use super::Session;
use crate::error::CliError;
use crate::{render, view, words};
use cortex_model::proto as pb;

/// Prints it.
pub(crate) async fn run(session: &Session) -> Result<(), CliError> {
    let who = session.connect().await?.who_am_i(pb::WhoAmIRequest {}).await?;
    if session.json() {
        return render::json(&view::Who::from(&who));
    }
    let token =
        if who.token_id.is_empty() { "of that issuer".to_owned() } else { who.token_id.clone() };
    let lines = [
        format!("you        {}", words::actor(who.actor.as_ref())),
        format!("role       {} in workspace {}", view::role(who.role()), who.workspace),
        format!(
            "token      {}, valid until {}",
            words::safe(&token),
            words::time(who.expires_at_ms)
        ),
        format!("issuer     {}", words::safe(&who.issuer)),
        format!("server     {}", words::safe(&who.trust_domain)),
    ];
    lines.iter().try_for_each(|line| render::line(line))
}
