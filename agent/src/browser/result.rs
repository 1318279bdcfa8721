//! What is given of a page as standard output, and what is told about it.

use super::driver::{Driver, told};
use super::protocol::page;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_model::limits::browser::{BROWSER_DOWNLOAD_MAX, BROWSER_LINKS_MAX, BROWSER_PICTURE_MAX};
use cortex_model::{BrowserResult, Code, Fault};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read as _, Write as _};

const TEXT: &str = "(selector) => {
    const e = selector ? document.querySelector(selector) : document.body || document.documentElement;
    return e ? (e.innerText ?? e.textContent) : null;
}";

const HTML: &str = "(selector) => {
    if (selector) { const e = document.querySelector(selector); return e ? e.outerHTML : null; }
    const kind = document.doctype ? new XMLSerializer().serializeToString(document.doctype) + '\\n' : '';
    return kind + (document.documentElement ? document.documentElement.outerHTML : '');
}";

const LINKS: &str = "(most) => {
    const all = [...document.querySelectorAll('a[href], area[href]')];
    const told = all.slice(0, most).map((a) => ({
        href: String(a.href && a.href.baseVal !== undefined ? a.href.baseVal : a.href).slice(0, 8192),
        text: String(a.innerText || a.getAttribute('aria-label') || '').trim().slice(0, 300),
    }));
    return { told, more: all.length > most };
}";

const ABOUT: &str = "() => {
    const way = performance.getEntriesByType('navigation')[0];
    return { url: location.href, title: document.title, status: (way && way.responseStatus) || 0 };
}";

impl Driver {
    /// Gives what is wanted.
    pub(super) fn give(&mut self, mut stdout: File) -> Result<(), Fault> {
        let result = self.action.result.clone();
        if let BrowserResult::Download(_) = result {
            return self.give_file(stdout);
        }
        self.about()?;
        let bytes = match result {
            BrowserResult::Text(text) => self.text(TEXT, &text.selector)?,
            BrowserResult::Html(html) => self.text(HTML, &html.selector)?,
            BrowserResult::Links(_) => self.links()?,
            BrowserResult::Screenshot(picture) => self.picture(picture.full_page)?,
            BrowserResult::Pdf(pdf) => {
                let how = page::PrintToPdfParams::builder();
                let how = how.landscape(pdf.landscape).print_background(true).build();
                let printed = self.call(how)?;
                decoded(&printed["data"])?
            }
            BrowserResult::Download(_) => Vec::new(),
        };
        self.page.bytes = bytes.len() as u64;
        stdout.write_all(&bytes).map_err(|err| unable(&err))
    }

    /// Where it is. What the browser shows in place of a page is none.
    fn about(&mut self) -> Result<(), Fault> {
        let about = self.ask_page(ABOUT, &[], true)?["value"].take();
        let url = about["url"].as_str().unwrap_or_default().to_owned();
        if url.starts_with("chrome-error:") {
            return Err(Fault::new(Code::PageFailed, "the last page could not be loaded"));
        }
        self.document(&url)?;
        self.page.url = told(&url);
        self.page.title = told(about["title"].as_str().unwrap_or_default());
        self.page.status = about["status"].as_u64().and_then(|s| s.try_into().ok()).unwrap_or(0);
        Ok(())
    }

    fn text(&mut self, function: &str, selector: &str) -> Result<Vec<u8>, Fault> {
        let said = self.ask_page(function, &[json!(selector)], true)?;
        match said["value"].as_str() {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => Err(Fault::new(Code::StepFailed, format!("nothing matches {selector:?}"))),
        }
    }

    fn links(&mut self) -> Result<Vec<u8>, Fault> {
        let said = self.ask_page(LINKS, &[json!(BROWSER_LINKS_MAX)], true)?["value"].take();
        self.page.cut = said["more"] == json!(true);
        let mut lines = Vec::new();
        for link in said["told"].as_array().into_iter().flatten() {
            let line = json!({ "href": link["href"], "text": link["text"] }).to_string();
            lines.extend_from_slice(line.as_bytes());
            lines.push(b'\n');
        }
        Ok(lines)
    }

    fn picture(&mut self, whole: bool) -> Result<Vec<u8>, Fault> {
        let png = page::CaptureScreenshotFormat::Png;
        let mut how = page::CaptureScreenshotParams::builder().format(png).build();
        if whole {
            let size = self.call(page::GetLayoutMetricsParams {})?["cssContentSize"].take();
            let side = |key: &str| size[key].as_f64().unwrap_or(1.0).max(1.0);
            let most = f64::from(BROWSER_PICTURE_MAX);
            self.page.cut = side("height") > most || side("width") > most;
            let (width, height) = (side("width").min(most), side("height").min(most));
            how.capture_beyond_viewport = Some(true);
            how.clip = Some(page::Viewport { x: 0.0, y: 0.0, width, height, scale: 1.0 });
        }
        let shot = self.call(how)?;
        decoded(&shot["data"])
    }

    /// The first file that came, as it is.
    fn give_file(&mut self, mut stdout: File) -> Result<(), Fault> {
        let waited = self.wait_for("a download", |seen| {
            seen.download.complete || seen.download.broken.is_some()
        });
        if let Some(broken) = self.seen.download.broken.take() {
            return Err(broken);
        }
        waited.map_err(|fault| {
            if fault.code == Code::PageFailed {
                return Fault::new(Code::DownloadFailed, "no file came in time");
            }
            fault
        })?;
        let guid = self.seen.download.guid.clone();
        // The browser's own name for it; it is made of letters, digits and '-'.
        if !guid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Fault::new(Code::BrowserDied, "the browser names a download oddly"));
        }
        let file = File::open(self.chromium.downloads.join(guid)).map_err(|err| unable(&err))?;
        let mut file = file.take(BROWSER_DOWNLOAD_MAX + 1);
        let copied = std::io::copy(&mut file, &mut stdout).map_err(|err| unable(&err))?;
        self.page.bytes = copied;
        self.page.file = Some(self.seen.download.name.clone());
        if copied > BROWSER_DOWNLOAD_MAX {
            let why = format!("the file has more than {BROWSER_DOWNLOAD_MAX} bytes");
            return Err(Fault::new(Code::ResultTooLarge, why));
        }
        Ok(())
    }
}

fn unable(err: &std::io::Error) -> Fault {
    Fault::new(Code::DownloadFailed, format!("the result cannot be given: {err}"))
}

fn decoded(data: &Value) -> Result<Vec<u8>, Fault> {
    let bytes = STANDARD.decode(data.as_str().unwrap_or_default());
    match bytes {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) | Err(_) => Err(Fault::new(Code::BrowserDied, "the browser gave nothing")),
    }
}
