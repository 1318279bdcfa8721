//! The steps of a task, each of which ends, and ends in time. What a step makes the page go to is waited for.

use super::driver::Driver;
use super::keys;
use super::protocol::page;
use cortex_model::proto::browser_wait::For;
use cortex_model::{BrowserResult, BrowserStep, Code, Fault};
use serde_json::json;

impl Driver {
    /// Whether files are wanted.
    pub(super) fn downloads(&self) -> bool {
        matches!(self.action.result, BrowserResult::Download(_))
    }

    /// Goes to an address and waits until it is loaded.
    pub(super) fn goto(&mut self, url: &str) -> Result<(), Fault> {
        self.document(url)?;
        self.seen.refused = None;
        let gone = self.call(page::NavigateParams::new(url));
        let gone = gone.map_err(|fault| late(fault, url))?;
        if let Some(refused) = self.seen.refused.take() {
            return Err(refused);
        }
        if gone["isDownload"] == json!(true) {
            return if self.downloads() {
                Ok(())
            } else {
                Err(Fault::new(Code::DownloadFailed, format!("{url} is a file to be downloaded")))
            };
        }
        if let Some(why) = gone["errorText"].as_str().filter(|why| !why.is_empty()) {
            return Err(Fault::new(Code::PageFailed, format!("{url}: {why}")));
        }
        match gone["loaderId"].as_str().map(str::to_owned) {
            Some(loader) => {
                let loaded = self.wait_for("load", |seen| seen.is_loaded(&loader));
                loaded.map_err(|fault| late(fault, url))
            }
            // A place in the same document.
            None => Ok(()),
        }
    }

    pub(super) fn do_step(&mut self, number: usize, step: &BrowserStep) -> Result<(), Fault> {
        match step {
            BrowserStep::Goto(goto) => return self.goto(&goto.url),
            BrowserStep::Click(click) => self.click(&click.selector)?,
            BrowserStep::Fill(fill) => {
                let text = match self.secrets.iter().find(|(step, _)| *step == number) {
                    Some((_, secret)) => String::from_utf8_lossy(secret).into_owned(),
                    None => fill.text.clone(),
                };
                let declared = fill.sensitive || !fill.secret.is_empty();
                self.fill(&fill.selector, &text, declared)?;
            }
            BrowserStep::Press(press) => {
                for event in keys::press(&press.key) {
                    self.call(event).map_err(as_step)?;
                }
            }
            BrowserStep::Wait(wait) => match &wait.r#for {
                Some(For::Selector(selector)) => drop(self.find(selector)?),
                Some(For::Load(_)) | None => self.ready()?,
            },
        }
        self.settle()
    }

    /// Waits until the last document, with all that belongs to it, is loaded.
    fn ready(&mut self) -> Result<(), Fault> {
        self.wait_for("load", super::events::Seen::is_ready).map_err(as_step)
    }

    /// Waits for what a step has begun: a page that goes elsewhere says so in a turn of its own, before the next picture.
    fn settle(&mut self) -> Result<(), Fault> {
        const TURN: &str =
            "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))";
        self.ask_page(TURN, &[], true).map_err(as_step)?;
        self.wait_for("the page that the step leads to", |seen| !seen.going).map_err(as_step)
    }
}

fn late(fault: Fault, url: &str) -> Fault {
    if fault.code == Code::PageFailed {
        return Fault { message: format!("{url}: {}", fault.message), ..fault };
    }
    fault
}

/// What is late is the step.
pub(super) fn as_step(fault: Fault) -> Fault {
    if fault.code == Code::PageFailed {
        return Fault::new(Code::StepFailed, fault.message);
    }
    fault
}
