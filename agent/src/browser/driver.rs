//! The driver's life: one order, one page, one result, one last line. It asks and waits, never longer than it was told; what the
//! browser says by itself goes to [`super::events`].

use super::chromium::Chromium;
use super::events::Seen;
use super::pipe::{Nothing, Pipe};
use super::protocol::{browser, dom, emulation, fetch, inspector, page, runtime, target};
use super::report::{Broken, Page, Told};
use super::{Order, exit_code};
use crate::files::Failed;
use chromiumoxide_types::{CallId, Command, MethodCall};
use cortex_model::limits::browser::BROWSER_START_MS;
use cortex_model::{BrowserAction, BrowserResult, Code, Fault, OriginPattern, wire};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest text of a page that is told, characters.
const TOLD_MAX: usize = 2000;

/// See the module.
pub(super) struct Driver {
    pub(super) pipe: Pipe,
    pub(super) chromium: Chromium,
    pub(super) action: BrowserAction,
    pub(super) origins: Vec<OriginPattern>,
    pub(super) secrets: Vec<(usize, Vec<u8>)>,
    pub(super) token: String,
    /// The page, and the session in which it is spoken to.
    pub(super) target: String,
    pub(super) session: String,
    pub(super) seen: Seen,
    pub(super) page: Page,
    calls: usize,
    /// The step that is being done, from 1; 0 before the first.
    step: usize,
    /// When the present step must be over.
    pub(super) until: Instant,
}

/// Opens the page and gives what is wanted. The exit code: 0 when it was done; else the last line says why.
pub(crate) fn run(
    order: &Order,
    program: &Path,
    tmp: &Path,
    env: &[(OsString, OsString)],
    stdout: File,
    mut stderr: File,
) -> i32 {
    let (told, code) = match Driver::start(order, program, tmp, env) {
        Ok(mut driver) => match driver.work(stdout) {
            Ok(()) => (Told::Done(Box::new(driver.page)), 0),
            Err(fault) => {
                let step = Some(driver.step).filter(|step| *step > 0);
                (broken(&fault, step, driver.page), exit_code(fault.code))
            }
        },
        Err(fault) => (broken(&fault, None, Page::default()), exit_code(fault.code)),
    };
    let mut line = serde_json::to_vec(&told).unwrap_or_default();
    line.push(b'\n');
    match stderr.write_all(&line) {
        Ok(()) => code.into(),
        Err(_) => 1,
    }
}

fn broken(fault: &Fault, step: Option<usize>, page: Page) -> Told {
    Told::Error(Box::new(Broken { failed: Failed::from(fault), step, page }))
}

/// Text of a page, not longer than is told.
pub(super) fn told(text: &str) -> String {
    text.chars().take(TOLD_MAX).collect()
}

fn after(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

impl Driver {
    fn start(
        order: &Order,
        program: &Path,
        tmp: &Path,
        env: &[(OsString, OsString)],
    ) -> Result<Self, Fault> {
        let missing = || Fault::new(Code::Internal, "a driver without an order");
        let action = wire::browser::action(order.action.clone().ok_or_else(missing)?)?;
        let origins = order.origins.iter().map(|text| OriginPattern::parse(text));
        let origins = origins.collect::<Result<Vec<_>, _>>();
        let origins = origins.map_err(|why| Fault::new(Code::Internal, why))?;
        let secrets = order.secrets.iter().map(|secret| {
            (usize::try_from(secret.step).unwrap_or(usize::MAX), secret.value.clone())
        });
        let (chromium, pipe) = Chromium::start(program, tmp, env, order).map_err(|err| {
            Fault::new(Code::BrowserDied, format!("{}: {err}", program.display()))
        })?;
        let op = action.name().to_owned();
        let page = Page { op, own_sandbox: order.own_sandbox, ..Page::default() };
        let mut driver = Self {
            pipe,
            chromium,
            action,
            origins,
            secrets: secrets.collect(),
            token: order.token.clone(),
            target: String::new(),
            session: String::new(),
            seen: Seen::default(),
            page,
            calls: 0,
            step: 0,
            until: after(BROWSER_START_MS),
        };
        driver.prepare().map_err(|fault| {
            if fault.code == Code::PageFailed {
                return Fault::new(Code::BrowserDied, "the browser does not answer");
            }
            fault
        })?;
        Ok(driver)
    }

    /// Everything that must be in place before the first page is.
    fn prepare(&mut self) -> Result<(), Fault> {
        let version = self.browser(browser::GetVersionParams {})?;
        self.page.browser = told(version["product"].as_str().unwrap_or_default());
        // For all pages at once, also for those that are still to come: every address, and the proxy's question.
        let all = fetch::RequestPattern::builder().url_pattern("*").build();
        self.browser(
            fetch::EnableParams::builder().pattern(all).handle_auth_requests(true).build(),
        )?;
        let mut downloads =
            browser::SetDownloadBehaviorParams::new(browser::SetDownloadBehaviorBehavior::Deny);
        downloads.events_enabled = Some(true);
        if let BrowserResult::Download(_) = self.action.result {
            downloads.behavior = browser::SetDownloadBehaviorBehavior::AllowAndName;
            downloads.download_path = Some(self.chromium.downloads.to_string_lossy().into_owned());
        }
        self.browser(downloads)?;
        let made = self.browser(target::CreateTargetParams::new("about:blank"))?;
        self.target = made["targetId"].as_str().unwrap_or_default().to_owned();
        let mut attach = target::AttachToTargetParams::new(self.target.clone());
        attach.flatten = Some(true);
        let attached = self.browser(attach)?;
        self.session = attached["sessionId"].as_str().unwrap_or_default().to_owned();
        // A window that a page opens stands still until it is closed.
        let mut halt = target::SetAutoAttachParams::new(true, true);
        halt.flatten = Some(true);
        self.browser(halt)?;
        self.call(page::EnableParams::default())?;
        self.call(runtime::EnableParams {})?;
        self.call(inspector::EnableParams {})?;
        self.call(dom::EnableParams::default())?;
        self.call(page::SetLifecycleEventsEnabledParams::new(true))?;
        self.call(page::SetInterceptFileChooserDialogParams::new(true))?;
        let (width, height) = self.action.window();
        let (width, height) = (i64::from(width), i64::from(height));
        let window = emulation::SetDeviceMetricsOverrideParams::new(width, height, 1.0, false);
        self.call(window).map(drop)
    }

    fn work(&mut self, stdout: File) -> Result<(), Fault> {
        let (url, steps) = (self.action.url.clone(), self.action.steps.clone());
        self.begin();
        self.goto(&url)?;
        for (number, step) in steps.iter().enumerate() {
            self.step = number + 1;
            self.begin();
            self.do_step(number, step)?;
        }
        self.step = 0;
        self.begin();
        self.give(stdout)
    }

    /// The time of a step begins.
    fn begin(&mut self) {
        self.until = after(self.action.step_timeout());
    }

    /// Asks the page.
    pub(super) fn call(&mut self, command: impl Command) -> Result<Value, Fault> {
        self.ask(&command, true)
    }

    /// Asks the browser.
    pub(super) fn browser(&mut self, command: impl Command) -> Result<Value, Fault> {
        self.ask(&command, false)
    }

    fn ask(&mut self, command: &impl Command, page: bool) -> Result<Value, Fault> {
        let session = if page { self.session.clone() } else { String::new() };
        let method = command.identifier();
        let number = self.send(&session, command)?;
        loop {
            let mut message = self.next(&method)?;
            if message["id"] != json!(number) {
                self.hear(&message)?;
                continue;
            }
            return match message.get("error") {
                Some(error) => {
                    let why = told(error["message"].as_str().unwrap_or_default());
                    Err(Fault::new(Code::PageFailed, format!("{method}: {why}")))
                }
                None => Ok(message["result"].take()),
            };
        }
    }

    /// Sends without waiting for an answer.
    pub(super) fn send(&mut self, session: &str, command: &impl Command) -> Result<usize, Fault> {
        self.calls += 1;
        let method = command.identifier();
        let params = serde_json::to_value(command);
        let params =
            params.map_err(|err| Fault::new(Code::Internal, format!("{method}: {err}")))?;
        let session_id = Some(session.to_owned()).filter(|session| !session.is_empty());
        let id = CallId::new(self.calls);
        let call = MethodCall { id, method: method.clone(), session_id, params };
        let sent = self.pipe.send(&call);
        sent.map_err(|nothing| self.nothing(nothing, &method)).map(|()| self.calls)
    }

    fn next(&mut self, what: &str) -> Result<Value, Fault> {
        let next = self.pipe.next(self.until);
        next.map_err(|nothing| self.nothing(nothing, what))
    }

    fn nothing(&mut self, nothing: Nothing, what: &str) -> Fault {
        match nothing {
            Nothing::Late => Fault::new(Code::PageFailed, format!("no answer in time ({what})")),
            Nothing::Gone => {
                let last = self.chromium.last_words();
                Fault::new(Code::BrowserDied, format!("the browser ended; its last words: {last}"))
            }
            Nothing::TooLarge => {
                Fault::new(Code::ResultTooLarge, format!("the answer is too large ({what})"))
            }
        }
    }

    /// Hears what the browser says until something is true.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        done: impl Fn(&Seen) -> bool,
    ) -> Result<(), Fault> {
        while !done(&self.seen) {
            let message = self.next(what)?;
            self.hear(&message)?;
        }
        Ok(())
    }
}
