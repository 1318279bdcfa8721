//! `cortex completions`.

use crate::support::{Running, cortex};

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let done = Running::start(cortex(dir.path()).args(["completions", shell])).end().exited(0);
        for word in ["resolve", "safe-to-repeat", "explain", "glob", "cp", "narrow"] {
            assert!(done.out().contains(word), "{shell} lacks {word}");
        }
    }
}
