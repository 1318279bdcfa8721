//! `cortex browser`: one page in a browser of a node, a task like any other. What a page says is shown safely; it opens nothing
//! itself.

use super::Session;
use crate::client::{Target, required};
use crate::commands::run::finish;
use crate::commands::task::submit::submit;
use crate::error::CliError;
use crate::files::Where;
use crate::follow::{Follower, Show};
use crate::render::{self, Raw};
use crate::{duration, words};
use clap::{Args, Subcommand};
use cortex_agent::browser::{Broken, Page, Told};
use cortex_model::browser::{BrowserResult, BrowserStep, parse_step};
use cortex_model::{Code, proto as pb, wire};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

/// Longest file of steps, bytes.
const STEPS_MAX: u64 = 1024 * 1024;

/// What is wanted of a page.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Steps, done in order before anything is given; each waits for its element and for where it leads:
  goto URL                     go to another address
  click SELECTOR               click on the first element that matches
  fill SELECTOR = TEXT         put text into a field, or choose
  sensitive SELECTOR = TEXT    the same for a field for a password or a payment
  secret SELECTOR = NAME       the same with a secret of the node
  press KEY                    Enter, Tab, ArrowDown, ..., or one character
  wait SELECTOR                wait until something matches
  load                         wait until everything is loaded

Exit codes: 0 done, 10 address refused, 11 page not loaded, 12 step failed, 13 browser died, 14 sensitive field,
15 download failed, 16 result too large, otherwise those of 'cortex run'.

Examples:
  cortex browser text https://docs.example.com/
  cortex browser screenshot https://docs.example.com/ --full-page -o page.png
  cortex browser text https://docs.example.com/ --step 'fill #q = sandbox' --step 'press Enter' --step 'wait .results'
  cortex browser download https://docs.example.com/manual --step 'click #pdf' -o manual.pdf")]
pub(crate) enum BrowserCommand {
    /// Print the text that a person sees
    Text(Part),
    /// Print the document as it stands after its scripts ran
    Html(Part),
    /// Print where a page leads
    Links(Common),
    /// Give a picture of the page, PNG
    Screenshot {
        #[command(flatten)]
        common: Common,
        /// Of the whole page, not of the window alone
        #[arg(long)]
        full_page: bool,
    },
    /// Give the page as it would be printed, PDF
    Pdf {
        #[command(flatten)]
        common: Common,
        /// Broader than high
        #[arg(long)]
        landscape: bool,
    },
    /// Give the file that the address or the last step lets the browser fetch
    Download(Common),
}

/// Flags of what can be given in part.
#[derive(Debug, Args)]
pub(crate) struct Part {
    #[command(flatten)]
    common: Common,
    /// Only the first element that matches
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    selector: String,
}

/// Flags of all of them.
#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    place: Where,
    /// Something to do before; repeat for more
    #[arg(long = "step", value_name = "STEP")]
    steps: Vec<String>,
    /// File with a step in each line, done before those of --step; '-' is standard input
    #[arg(long = "steps", value_name = "FILE")]
    steps_file: Option<PathBuf>,
    /// Longest time for the page and for each step [default: 30s]
    #[arg(long, value_name = "DURATION")]
    step_timeout: Option<String>,
    /// Longest run of the whole task: 90s, 15m
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Width and height of the window [default: 1280x800]
    #[arg(long, value_name = "WxH")]
    window: Option<String>,
    /// Write the result into this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The address: http:// or https://
    url: OsString,
}

/// The one line of `--json`.
#[derive(Serialize)]
struct End<'a> {
    task_id: &'a str,
    done: &'a Page,
    /// Left out where it went into a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<cortex_agent::files::Bytes>,
}

/// Runs the command.
pub(crate) async fn run(session: &Session, command: BrowserCommand) -> Result<u8, CliError> {
    let (common, result, binary) = match command {
        BrowserCommand::Text(part) => {
            let selector = part.selector;
            (part.common, BrowserResult::Text(pb::BrowserText { selector }), false)
        }
        BrowserCommand::Html(part) => {
            let selector = part.selector;
            (part.common, BrowserResult::Html(pb::BrowserHtml { selector }), false)
        }
        BrowserCommand::Links(common) => (common, BrowserResult::Links(pb::BrowserLinks {}), false),
        BrowserCommand::Screenshot { common, full_page } => {
            (common, BrowserResult::Screenshot(pb::BrowserScreenshot { full_page }), true)
        }
        BrowserCommand::Pdf { common, landscape } => {
            (common, BrowserResult::Pdf(pb::BrowserPdf { landscape }), true)
        }
        BrowserCommand::Download(common) => {
            (common, BrowserResult::Download(pb::BrowserDownload {}), true)
        }
    };
    if binary && common.output.is_none() && !session.json() && std::io::stdout().is_terminal() {
        let message = "the result is no text for a terminal";
        return Err(CliError::new(Code::Usage, message).with_hint("write it into a file: -o FILE"));
    }
    open(session, common, result).await
}

async fn open(session: &Session, common: Common, result: BrowserResult) -> Result<u8, CliError> {
    let target = session.target()?;
    let spec = spec(&common, result)?;
    let submitted = submit(&target, spec, common.place.key.clone(), session.actor()?).await?;
    let task = required(submitted.task)?;
    let (task, stdout, told) = follow(&target, task).await?;
    let ending = task.outcome.as_ref().and_then(|o| o.ending.as_ref()?.kind.as_ref());
    match (ending, told) {
        (Some(pb::ending::Kind::Exited(exited)), Some(Told::Error(broken))) if exited.code != 0 => {
            notes(&broken.page);
            render::say_error(&failure(*broken).text(session.json()));
            Ok(u8::try_from(exited.code).unwrap_or(u8::MAX))
        }
        (Some(pb::ending::Kind::Exited(exited)), Some(Told::Done(page))) if exited.code == 0 => {
            give(session, &common, &task, &page, stdout).await
        }
        (Some(pb::ending::Kind::Exited(exited)), None) if exited.code == 0 => {
            let why = format!("what the node told of task {} is not there any more", task.task_id);
            Err(CliError::new(Code::BrowserDied, why))
        }
        _ => finish(session, &task),
    }
}

/// Follows a task to its end: the task, what was given, and the last line about it.
async fn follow(
    target: &Target,
    task: pb::Task,
) -> Result<(pb::Task, Vec<u8>, Option<Told>), CliError> {
    let mut follower = Follower::new(target.clone(), &task.task_id, Show::Keep);
    let task = follower.until_over().await?;
    let kept = follower.kept();
    let last = kept.stderr.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    let told = last.and_then(|line| serde_json::from_slice(line).ok());
    Ok((task, kept.stdout, told))
}

async fn give(
    session: &Session,
    common: &Common,
    task: &pb::Task,
    page: &Page,
    stdout: Vec<u8>,
) -> Result<u8, CliError> {
    notes(page);
    // Not by counting: what is secret is shown as less than it was.
    let output = task.outcome.as_ref().and_then(|outcome| outcome.output.as_ref());
    let missing = output.map_or(0, |output| output.dropped_bytes.saturating_add(output.lost_bytes));
    if missing > 0 {
        let why = format!("{missing} bytes of the result are missing");
        return Err(CliError::new(Code::ResultTooLarge, why));
    }
    if let Some(path) = &common.output {
        std::fs::write(path, &stdout).map_err(|err| {
            CliError::new(Code::Usage, format!("{} cannot be written: {err}", path.display()))
        })?;
    }
    if session.json() {
        let data = common.output.is_none().then_some(cortex_agent::files::Bytes(stdout));
        render::json(&End { task_id: &task.task_id, done: page, data })?;
    } else if common.output.is_none() {
        let mut raw = Raw::new();
        raw.write(false, &stdout).await?;
        if !stdout.is_empty() && !stdout.ends_with(b"\n") && std::io::stdout().is_terminal() {
            raw.write(false, b"\n").await?;
        }
    }
    Ok(0)
}

/// What a person should know beside the result. Everything in it was written by a page.
fn notes(page: &Page) {
    for dialog in page.dialogs.iter().take(3) {
        let (kind, message) =
            (words::safe(&dialog.kind), words::short(&words::safe(&dialog.message), 200));
        render::note(&format!("the page opened a dialog ({kind}), which was dismissed: {message}"));
    }
    for refused in page.refused.iter().take(3) {
        let (url, why) = (words::short(&words::safe(&refused.url), 200), words::safe(&refused.why));
        render::note(&format!("not opened: {url}: {why}"));
    }
    let told = page.dialogs.len().min(3) + page.refused.len().min(3);
    let all = page.dialog_count as usize + page.refused_count as usize;
    if all > told {
        render::note(&format!("{} more dialogs and refused addresses: see --json", all - told));
    }
    if page.cut {
        render::note("there is more of the page than is given");
    }
}

fn failure(broken: Broken) -> CliError {
    let failed = broken.failed;
    let message = match broken.step {
        Some(step) => format!("step {step}: {}", words::safe(&failed.message)),
        None => words::safe(&failed.message),
    };
    let (hint, code) = (words::safe(&failed.hint), words::safe(&failed.code));
    CliError { code, message, hint, retryable: failed.retryable, broken_pipe: false }
}

fn spec(common: &Common, result: BrowserResult) -> Result<pb::TaskSpec, CliError> {
    let steps = steps(common)?;
    let url = common.url.to_str().unwrap_or_default().to_owned();
    let (width, height) = window(common.window.as_deref())?;
    let millis = |text: &Option<String>| text.as_deref().map_or(Ok(0), duration::parse);
    let page = pb::BrowserAction {
        url,
        steps: steps.into_iter().map(|step| pb::BrowserStep { step: Some(step) }).collect(),
        width,
        height,
        step_timeout_ms: millis(&common.step_timeout)?,
        result: Some(result),
    };
    let place = &common.place;
    let spec = pb::TaskSpec {
        action: Some(pb::Action { kind: Some(pb::action::Kind::Browser(page)) }),
        require: place.require.clone(),
        node: place.node.clone().unwrap_or_default(),
        run_timeout_ms: millis(&common.timeout)?,
        deadline_ms: millis(&place.deadline)?,
        ..pb::TaskSpec::default()
    };
    wire::task::spec(spec.clone())?;
    Ok(spec)
}

/// The steps of the file, then those of the command line.
fn steps(common: &Common) -> Result<Vec<BrowserStep>, CliError> {
    let mut all = Vec::new();
    if let Some(path) = &common.steps_file {
        let text = read(path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        // A step begins with a word, so a line that begins so can only be a remark.
        for line in lines.filter(|line| !line.starts_with('#')) {
            all.push(parse_step(line)?);
        }
    }
    for step in &common.steps {
        all.push(parse_step(step)?);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(STEPS_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(STEPS_MAX).read_to_string(&mut text))
    };
    let bad = |err| CliError::new(Code::Usage, format!("{} cannot be read: {err}", path.display()));
    read.map_err(bad).map(|_| text)
}

fn window(text: Option<&str>) -> Result<(u32, u32), CliError> {
    let Some(text) = text else { return Ok((0, 0)) };
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.ok_or_else(|| {
        let message = format!("{text:?} is no width and height");
        CliError::new(Code::Usage, message).with_hint("write WIDTHxHEIGHT, for example 1280x800")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_two_numbers() {
        assert_eq!(window(None).unwrap(), (0, 0));
        assert_eq!(window(Some("640x480")).unwrap(), (640, 480));
        for bad in ["", "640", "640x", "x480", "640x480x1", "-1x1"] {
            assert!(window(Some(bad)).is_err(), "{bad}");
        }
    }
}
