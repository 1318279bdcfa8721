//! `cortex token list`.

use crate::commands::Session;
use crate::error::CliError;
use crate::{render, view, words};
use clap::Args;
use cortex_model::limits::PAGE_MAX;
use cortex_model::proto as pb;

/// Flags of `token list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cortex token list\n  cortex token list --all --json")]
pub(crate) struct ListArgs {
    /// Also tokens that cannot be used any more
    #[arg(long)]
    all: bool,
}

/// Prints the tokens, all pages.
pub(crate) async fn run(session: &Session, args: ListArgs) -> Result<(), CliError> {
    let client = session.connect().await?;
    let mut request =
        pb::ListTokensRequest { all: args.all, page_size: PAGE_MAX, page_token: String::new() };
    let mut tokens = Vec::new();
    loop {
        let page = client.list_tokens(request.clone()).await?;
        tokens.extend(page.tokens);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let tokens: Vec<view::Token> = tokens.iter().map(Into::into).collect();
    if session.json() {
        return render::json(&serde_json::json!({ "tokens": tokens }));
    }
    if tokens.is_empty() {
        return render::line("no tokens");
    }
    let rows = tokens.iter().map(row).collect();
    render::line(&render::table(&["TOKEN", "STATE", "FOR", "VALID UNTIL", "MADE BY", "NOTE"], rows))
}

fn row(t: &view::Token) -> Vec<String> {
    vec![
        t.token_id.clone(),
        t.state.to_owned(),
        t.what(),
        words::time(t.expires_at_ms),
        words::safe(&t.created_by),
        words::short(&words::safe(&t.note), 40),
    ]
}
