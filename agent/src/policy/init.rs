//! `cortex-agent init`: a first policy after a few questions. It never overwrites one.

use super::profiles::Profile;
use super::{file, write_first};
use clap::Args;
use cortex_model::{Code, Fault};
use std::io::{BufRead, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Directory of the agent's data [default: where 'join' makes it].
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to write the policy; without it, policy.toml in the data directory.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Kind of machine; without it, you are asked.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// A directory in which tasks work; may be given more than once.
    #[arg(long = "root", value_name = "DIR")]
    roots: Vec<String>,
}

impl Init {
    /// Asks what was not given, writes the policy and says what it means.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<(), Fault> {
        let asks = std::io::stdin().is_terminal();
        self.run_with(asks, &mut std::io::stdin().lock(), out)
    }

    fn run_with(
        self,
        asks: bool,
        input: &mut impl BufRead,
        out: &mut impl Write,
    ) -> Result<(), Fault> {
        let data_dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => crate::config::default_data_dir()?,
        };
        crate::config::prepare(&data_dir)?;
        let path = self.policy.unwrap_or_else(|| data_dir.join("policy.toml"));
        if path.exists() {
            let message = format!("there is a policy already: {}", path.display());
            return Err(
                Fault::new(Code::Usage, message).with_hint("edit it, or move it away first")
            );
        }
        let profile = match self.profile {
            Some(profile) => profile,
            None if asks => ask_profile(input, out)?,
            None => {
                let fault = Fault::new(Code::Usage, "nobody can be asked here");
                return Err(fault.with_hint("pass --profile laptop, ci or readonly"));
            }
        };
        let mut roots = self.roots;
        if roots.is_empty() && asks {
            let question = "In which directories may tasks work? Absolute or with ~, separated by blanks; empty for none: ";
            roots = ask(input, out, question)?.split_whitespace().map(str::to_owned).collect();
        }
        if roots.is_empty() && profile == Profile::Ci {
            roots = vec!["$CORTEX_WORKSPACE".to_owned()];
        }
        let text = profile.text(&roots);
        // What is written must be good: an agent with a broken policy takes no work.
        let place = file::place(&path, &data_dir);
        let policy = file::compile(&path, &text, &place).map_err(|err| err.to_fault())?;
        write_first(&path, &text).map_err(|err| failed(&path, &err))?;
        let say = |err: std::io::Error| failed(&path, &err);
        writeln!(out, "wrote {} ({} rules)", path.display(), policy.rule_count()).map_err(say)?;
        writeln!(out, "Read it: every line says what it does. Then try:").map_err(say)?;
        let which = match &self.data_dir {
            Some(dir) => format!(" --data-dir {}", dir.display()),
            None => String::new(),
        };
        writeln!(out, "  cortex-agent policy explain{which} -- ls -l").map_err(say)
    }
}

fn failed(path: &Path, err: &std::io::Error) -> Fault {
    Fault::new(Code::AgentUnable, format!("{}: {err}", path.display()))
}

fn ask_profile(input: &mut impl BufRead, out: &mut impl Write) -> Result<Profile, Fault> {
    let question = "What is this machine?\n  1  mine: tasks build and edit in a few directories, and I am asked before they destroy\n  \
                    2  a build machine: nobody is asked\n  3  one where tasks only look\n1, 2 or 3: ";
    match ask(input, out, question)?.trim() {
        "1" => Ok(Profile::Laptop),
        "2" => Ok(Profile::Ci),
        "3" => Ok(Profile::Readonly),
        other => Err(Fault::new(Code::Usage, format!("{other:?} is not 1, 2 or 3"))),
    }
}

fn ask(input: &mut impl BufRead, out: &mut impl Write, question: &str) -> Result<String, Fault> {
    let failed = |err: std::io::Error| Fault::new(Code::AgentUnable, err.to_string());
    write!(out, "{question}").and_then(|()| out.flush()).map_err(failed)?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(failed)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(dir: &Path, answers: &str) -> Result<String, Fault> {
        let init = Init {
            data_dir: Some(dir.join("data")),
            policy: None,
            profile: None,
            roots: Vec::new(),
        };
        let mut said = Vec::new();
        init.run_with(true, &mut answers.as_bytes(), &mut said)?;
        Ok(String::from_utf8(said).unwrap())
    }

    #[test]
    fn a_few_answers_make_a_policy_and_never_replace_one() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let said = init(dir.path(), &format!("1\n{}\n", work.display())).unwrap();
        assert!(said.contains("wrote "), "{said}");
        let path = dir.path().join("data/policy.toml");
        let policy =
            super::super::load(&path, &file::place(&path, &dir.path().join("data"))).unwrap();
        assert_eq!(policy.roots(), [work.canonicalize().unwrap()]);
        assert_eq!(init(dir.path(), "3\n\n").unwrap_err().code, Code::Usage);
    }

    #[test]
    fn an_answer_that_cannot_be_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(init(dir.path(), "4\n").unwrap_err().code, Code::Usage);
        assert_eq!(init(dir.path(), "1\nrelative/dir\n").unwrap_err().code, Code::PolicyUnusable);
        assert_eq!(init(dir.path(), "1\n/\n").unwrap_err().code, Code::PolicyUnusable);
        assert!(!dir.path().join("data/policy.toml").exists());
    }
}
