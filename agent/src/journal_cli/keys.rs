//! `cortex-agent journal keys`: the keys of this journal as this machine has them, as a policy. What is got here, and not from the server, is what
//! the server's copy can be verified with.

use super::{Place, print};
use crate::journal::keys;
use clap::Args;
use cortex_model::Fault;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object: journal, mirror.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Keys) -> Result<ExitCode, Fault> {
    let found = keys(&args.place.journal()).map_err(|err| err.to_fault())?;
    let mirror = found.mirror.as_ref().map(ToString::to_string);
    if args.json {
        let value = serde_json::json!({ "journal": found.journal.to_string(), "mirror": mirror });
        print(&format!("{value}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::from(
        "# The journal's own key, and the mirror whose countersignatures this machine believes. Compare the mirror's with its\n\
         # mirror.vkey, then keep this file: cortex audit verify NODE --policy FILE\n",
    );
    text.push_str(&format!("log {}\n", found.journal));
    text.push_str(&match mirror {
        Some(mirror) => format!("witness mirror1 {mirror}\nquorum mirror1\n"),
        None => "# No mirror has countersigned it yet: until then nobody vouches for it but itself.\nquorum none\n".to_owned(),
    });
    print(&text);
    Ok(ExitCode::SUCCESS)
}
