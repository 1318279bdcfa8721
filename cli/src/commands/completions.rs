//! `cortex completions`: a script that teaches a shell this command line.

use crate::args::Cli;
use crate::error::CliError;
use crate::render;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Flags of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex completions bash > ~/.local/share/bash-completion/completions/cortex
  cortex completions zsh > ~/.zfunc/_cortex
  cortex completions fish > ~/.config/fish/completions/cortex.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell to write for
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cortex", &mut script);
    render::line(String::from_utf8_lossy(&script).trim_end())
}
