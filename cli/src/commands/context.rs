//! `cortex context`: the servers one has logged in to.

use super::Session;
use crate::context::Contexts;
use crate::error::CliError;
use crate::render;
use clap::Subcommand;

/// Commands about contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List them
    List,
    /// Make one the server that commands talk to
    Use {
        /// Its name, from 'cortex context list'
        name: String,
    },
    /// Forget one and its token; the token itself stays valid
    Remove {
        /// Its name, from 'cortex context list'
        name: String,
    },
}

/// Runs one of them.
pub(crate) fn run(session: &Session, command: ContextCommand) -> Result<(), CliError> {
    let contexts = Contexts::required()?;
    match command {
        ContextCommand::List => {
            let listed = contexts.list()?;
            if session.json() {
                return render::json(&serde_json::json!({ "contexts": listed }));
            }
            if listed.is_empty() {
                return render::line("no contexts: log in with 'cortex login URL'");
            }
            let rows = listed
                .into_iter()
                .map(|c| vec![if c.current { "*" } else { "" }.to_owned(), c.name, c.server])
                .collect();
            render::line(&render::table(&["", "NAME", "SERVER"], rows))
        }
        ContextCommand::Use { name } => {
            contexts.use_one(&name)?;
            render::line(&format!("commands talk to {name} now"))
        }
        ContextCommand::Remove { name } => {
            contexts.remove(&name)?;
            render::line(&format!("{name} is forgotten"))
        }
    }
}
