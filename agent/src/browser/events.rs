//! What the browser says by itself: addresses that are asked for, dialogs, new windows, what is loaded, what broke. Here is decided
//! what is refused; nothing of it waits.

use super::driver::{Driver, told};
use super::protocol::fetch::{AuthChallengeResponse, AuthChallengeResponseResponse as Answer};
use super::protocol::{browser, fetch, network, page, runtime, target};
use super::report::{Dialog, Refused};
use crate::sandbox::PROXY_PORT;
use cortex_model::limits::browser::{BROWSER_DIALOGS_MAX, BROWSER_DOWNLOAD_MAX, BROWSER_TOLD_MAX};
use cortex_model::{Code, Fault, Origin};
use serde_json::{Value, json};

/// What was seen of the page.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Documents that it began, by the browser's name for each, the last ones.
    begun: Vec<String>,
    /// The last of them is loaded with all that belongs to it.
    loaded: bool,
    /// It is going somewhere.
    pub(super) going: bool,
    /// Why the document that it was told to go to was refused.
    pub(super) refused: Option<Fault>,
    pub(super) download: Download,
}

/// What was seen of the first download.
#[derive(Debug, Default)]
pub(super) struct Download {
    /// The browser's name for it.
    pub(super) guid: String,
    /// The server's.
    pub(super) name: String,
    pub(super) complete: bool,
    pub(super) broken: Option<Fault>,
}

impl Seen {
    /// A document, and what belongs to it, is loaded; or one that came after it.
    pub(super) fn is_loaded(&self, loader: &str) -> bool {
        self.loaded && self.begun.iter().any(|begun| begun == loader)
    }

    /// The last document is loaded.
    pub(super) fn is_ready(&self) -> bool {
        self.loaded && !self.going
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

impl Driver {
    /// Hears one message. An error ends everything.
    pub(super) fn hear(&mut self, message: &Value) -> Result<(), Fault> {
        let (method, params) = (text(message, "method"), &message["params"]);
        let session = text(message, "sessionId").to_owned();
        let own = session == self.session;
        match method {
            "Fetch.requestPaused" => self.request(params, &session),
            "Fetch.authRequired" => self.credentials(params, &session),
            "Target.attachedToTarget" => self.attached(params),
            "Browser.downloadWillBegin" => self.download_begins(params),
            "Browser.downloadProgress" => self.download_goes_on(params),
            "Page.javascriptDialogOpening" if own => self.dialog(params),
            "Page.fileChooserOpened" if own => {
                self.note_dialog("file", "it was not answered: nothing is uploaded")
            }
            "Inspector.targetCrashed" if own => {
                Err(Fault::new(Code::BrowserDied, "the page's process crashed"))
            }
            "Inspector.detached" if own => {
                Err(Fault::new(Code::BrowserDied, "the page was closed"))
            }
            "Page.frameNavigated" if own => self.arrived(&params["frame"]),
            _ if own => {
                self.progress(method, params);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the page's own document does.
    fn progress(&mut self, method: &str, params: &Value) {
        let main = text(params, "frameId") == self.target;
        let seen = &mut self.seen;
        match method {
            "Page.lifecycleEvent" if main && text(params, "name") == "init" => {
                seen.loaded = false;
                seen.begun.push(text(params, "loaderId").to_owned());
                if seen.begun.len() > 64 {
                    seen.begun.remove(0);
                }
            }
            "Page.lifecycleEvent" if main && text(params, "name") == "load" => seen.loaded = true,
            "Page.frameStartedLoading"
            | "Page.frameRequestedNavigation"
            | "Page.frameStartedNavigating"
                if main =>
            {
                seen.going = true;
            }
            // Also without the word that all is loaded: where it leads to was refused meanwhile.
            "Page.frameStoppedLoading" if main => (seen.going, seen.loaded) = (false, true),
            "Runtime.exceptionThrown" => self.page.console_errors += 1,
            "Runtime.consoleAPICalled" if text(params, "type") == "error" => {
                self.page.console_errors += 1;
            }
            _ => {}
        }
    }

    /// An address that is wanted, by whomever: goes on or is given up. Every step of a redirection comes by here.
    fn request(&mut self, params: &Value, session: &str) -> Result<(), Fault> {
        let url = text(&params["request"], "url");
        let document = text(params, "resourceType") == "Document";
        let why = if document { self.document(url) } else { resource(url) };
        let request = text(params, "requestId").to_owned();
        let Err(fault) = why else {
            return self.send(session, &fetch::ContinueRequestParams::new(request)).map(drop);
        };
        self.note_refused(url, &fault.message);
        if document && text(params, "frameId") == self.target {
            self.seen.refused = Some(fault);
        }
        // "Aborted" leaves the page as it is; any other reason puts a page of the browser in its place.
        let failed = fetch::FailRequestParams::new(request, network::ErrorReason::Aborted);
        self.send(session, &failed).map(drop)
    }

    /// Whether a document may come from an address.
    pub(super) fn document(&self, url: &str) -> Result<(), Fault> {
        if matches!(url, "about:blank" | "about:srcdoc") {
            return Ok(());
        }
        let origin = Origin::of(url)?;
        if self.origins.iter().any(|open| open.matches(&origin)) {
            return Ok(());
        }
        let message = format!("{origin} is not one of browser.origins of the node's policy");
        Err(Fault::new(Code::UrlRefused, message))
    }

    /// The agent's own proxy is told the token; nobody else is told anything.
    fn credentials(&mut self, params: &Value, session: &str) -> Result<(), Fault> {
        let challenge = &params["authChallenge"];
        let ours = text(challenge, "source") == "Proxy"
            && text(challenge, "origin") == format!("http://127.0.0.1:{PROXY_PORT}")
            && !self.token.is_empty();
        let mut answer = AuthChallengeResponse::new(Answer::CancelAuth);
        if ours {
            answer.response = Answer::ProvideCredentials;
            answer.username = Some("cortex".to_owned());
            answer.password = Some(self.token.clone());
        }
        let answer =
            fetch::ContinueWithAuthParams::new(text(params, "requestId").to_owned(), answer);
        self.send(session, &answer).map(drop)
    }

    /// Something that can be spoken to came into being. A window of its own is closed before anything of it has run; what belongs
    /// to the page goes on.
    fn attached(&mut self, params: &Value) -> Result<(), Fault> {
        let info = &params["targetInfo"];
        let (id, kind) = (text(info, "targetId"), text(info, "type"));
        let window = matches!(kind, "page" | "tab" | "webview") && id != self.target;
        if window && params["waitingForDebugger"] == json!(true) {
            self.note_refused(text(info, "url"), "it would open in a window of its own");
            return self.send("", &target::CloseTargetParams::new(id.to_owned())).map(drop);
        }
        let session = text(params, "sessionId").to_owned();
        self.send(&session, &runtime::RunIfWaitingForDebuggerParams {}).map(drop)
    }

    /// The last look at where a document came from: nothing that the browser shows by itself counts as a page.
    fn arrived(&mut self, frame: &Value) -> Result<(), Fault> {
        let url = text(frame, "url");
        let inner = frame.get("parentId").is_some();
        let harmless = url.starts_with("chrome-error:") || url.is_empty();
        // What a page shows in a frame of its own from its own bytes.
        let own = inner && ["data:", "blob:", "about:"].iter().any(|own| url.starts_with(own));
        if harmless || own {
            return Ok(());
        }
        self.document(url)
    }

    fn dialog(&mut self, params: &Value) -> Result<(), Fault> {
        let kind = text(params, "type").to_owned();
        // To leave is not to be asked about; everything else is answered with no.
        let answer = page::HandleJavaScriptDialogParams::new(kind == "beforeunload");
        let session = self.session.clone();
        self.send(&session, &answer)?;
        self.note_dialog(&kind, text(params, "message"))
    }

    fn note_dialog(&mut self, kind: &str, message: &str) -> Result<(), Fault> {
        self.page.dialog_count += 1;
        if self.page.dialogs.len() < BROWSER_TOLD_MAX {
            self.page.dialogs.push(Dialog { kind: told(kind), message: told(message) });
        }
        if self.page.dialog_count > BROWSER_DIALOGS_MAX {
            let why = format!("the page opened more than {BROWSER_DIALOGS_MAX} dialogs");
            return Err(Fault::new(Code::PageFailed, why));
        }
        Ok(())
    }

    fn note_refused(&mut self, url: &str, why: &str) {
        self.page.refused_count += 1;
        if self.page.refused.len() < BROWSER_TOLD_MAX {
            self.page.refused.push(Refused { url: told(url), why: told(why) });
        }
    }

    fn download_begins(&mut self, params: &Value) -> Result<(), Fault> {
        let (guid, wanted) = (text(params, "guid").to_owned(), self.downloads());
        if !wanted || !self.seen.download.guid.is_empty() {
            self.note_refused(text(params, "url"), "it is a download that nobody asked for");
            return self.send("", &browser::CancelDownloadParams::new(guid)).map(drop);
        }
        self.seen.download.guid = guid;
        self.seen.download.name = told(text(params, "suggestedFilename"));
        Ok(())
    }

    fn download_goes_on(&mut self, params: &Value) -> Result<(), Fault> {
        let download = &mut self.seen.download;
        if text(params, "guid") != download.guid || download.guid.is_empty() {
            return Ok(());
        }
        let bytes = |key: &str| params[key].as_f64().unwrap_or(0.0);
        let most = BROWSER_DOWNLOAD_MAX as f64;
        if bytes("receivedBytes") > most || bytes("totalBytes") > most {
            let guid = download.guid.clone();
            let why = format!("the file has more than {BROWSER_DOWNLOAD_MAX} bytes");
            download.broken.get_or_insert(Fault::new(Code::ResultTooLarge, why));
            return self.send("", &browser::CancelDownloadParams::new(guid)).map(drop);
        }
        match text(params, "state") {
            "completed" => download.complete = true,
            "canceled" => {
                let why = "the download broke off";
                download.broken.get_or_insert(Fault::new(Code::DownloadFailed, why));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether something that belongs to a page may come from an address. Where to is decided by the network.
fn resource(url: &str) -> Result<(), Fault> {
    let open = ["http://", "https://", "ws://", "wss://", "data:", "blob:"];
    if open.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(());
    }
    Err(Fault::new(Code::UrlRefused, "nothing is loaded by this scheme"))
}
