//! What a browser on a node can be asked to do, and which addresses there are for it. A [`BrowserAction`] that exists was
//! checked; what it does is done elsewhere.

use crate::error::{Code, Fault};
use crate::limits::browser::{BROWSER_STEP_DEFAULT_MS, BROWSER_URL_MAX, BROWSER_WINDOW_DEFAULT};
/// What is wanted of a page, as the contract has it.
pub use crate::proto::browser_action::Result as BrowserResult;
/// One thing that is done on a page, as the contract has it.
pub use crate::proto::browser_step::Step as BrowserStep;
use core::net::{Ipv4Addr, Ipv6Addr};
use prost::Message as _;
use std::fmt;

/// A page, what is done on it, and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct BrowserAction {
    /// Where it begins. [`Origin::of`] reads it.
    pub url: String,
    /// What is done, in order.
    pub steps: Vec<BrowserStep>,
    /// What is given.
    pub result: BrowserResult,
    /// Width and height of the window, 0 for the default.
    pub window: (u32, u32),
    /// Longest time of a step, milliseconds, 0 for the default.
    pub step_timeout_ms: u64,
}

/// Texts and numbers only: what equals anything equals itself.
impl Eq for BrowserAction {}

impl BrowserAction {
    /// In the encoding of the contract, which is the same for the same action.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        crate::proto::BrowserAction::from(self).encode_to_vec()
    }

    /// The word for what is wanted: `text`, `html`, ...
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.result {
            BrowserResult::Text(_) => "text",
            BrowserResult::Html(_) => "html",
            BrowserResult::Links(_) => "links",
            BrowserResult::Screenshot(_) => "screenshot",
            BrowserResult::Pdf(_) => "pdf",
            BrowserResult::Download(_) => "download",
        }
    }

    /// Width and height with the defaults applied.
    #[must_use]
    pub fn window(&self) -> (u32, u32) {
        let or = |set: u32, default: u32| if set == 0 { default } else { set };
        let (width, height) = BROWSER_WINDOW_DEFAULT;
        (or(self.window.0, width), or(self.window.1, height))
    }

    /// Longest time of a step with the default applied, milliseconds.
    #[must_use]
    pub fn step_timeout(&self) -> u64 {
        if self.step_timeout_ms == 0 { BROWSER_STEP_DEFAULT_MS } else { self.step_timeout_ms }
    }

    /// Every address that it names itself.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        let gone = self.steps.iter().filter_map(|step| match step {
            BrowserStep::Goto(goto) => Some(goto.url.as_str()),
            BrowserStep::Click(_)
            | BrowserStep::Fill(_)
            | BrowserStep::Press(_)
            | BrowserStep::Wait(_) => None,
        });
        std::iter::once(self.url.as_str()).chain(gone)
    }

    /// Names of the node's secrets that it fills in.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            BrowserStep::Fill(fill) if !fill.secret.is_empty() => Some(fill.secret.as_str()),
            BrowserStep::Fill(_)
            | BrowserStep::Goto(_)
            | BrowserStep::Click(_)
            | BrowserStep::Press(_)
            | BrowserStep::Wait(_) => None,
        })
    }

    /// Whether it may fill fields for passwords or payments.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.steps.iter().any(|step| match step {
            BrowserStep::Fill(fill) => fill.sensitive || !fill.secret.is_empty(),
            BrowserStep::Goto(_)
            | BrowserStep::Click(_)
            | BrowserStep::Press(_)
            | BrowserStep::Wait(_) => false,
        })
    }
}

/// A step in words, one line for people; texts of secrets are not in it.
#[must_use]
pub fn step_words(step: &BrowserStep) -> String {
    use crate::proto::browser_wait::For;
    match step {
        BrowserStep::Goto(goto) => format!("goto {}", goto.url),
        BrowserStep::Click(click) => format!("click {}", click.selector),
        BrowserStep::Fill(fill) if !fill.secret.is_empty() => {
            format!("secret {} = {}", fill.selector, fill.secret)
        }
        BrowserStep::Fill(fill) if fill.sensitive => {
            format!("sensitive {} = {}", fill.selector, fill.text)
        }
        BrowserStep::Fill(fill) => format!("fill {} = {}", fill.selector, fill.text),
        BrowserStep::Press(press) => format!("press {}", press.key),
        BrowserStep::Wait(wait) => match &wait.r#for {
            Some(For::Selector(selector)) => format!("wait {selector}"),
            Some(For::Load(_)) | None => "load".to_owned(),
        },
    }
}

/// Reads a step as [`step_words`] writes it; `goto`, `click`, `fill`, `sensitive`, `secret`, `press`, `wait` and `load`.
///
/// # Errors
/// `CX-1601`: it is none. Its parts are checked where all of an action is.
pub fn parse_step(text: &str) -> Result<BrowserStep, Fault> {
    use crate::proto::{self as pb, browser_wait::For};
    let bad = |why: &str| Fault::new(Code::BadBrowserAction, format!("{text:?} is no step: {why}"));
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let own = || rest.to_owned();
    let pair = || {
        let (selector, value) = rest
            .split_once(" = ")
            .ok_or_else(|| bad("it is written SELECTOR = TEXT, with a space on both sides"))?;
        Ok((selector.to_owned(), value.to_owned()))
    };
    let fill = |sensitive| {
        let (selector, text) = pair()?;
        Ok(BrowserStep::Fill(pb::BrowserFill { selector, text, sensitive, ..Default::default() }))
    };
    Ok(match verb {
        "goto" => BrowserStep::Goto(pb::BrowserGoto { url: own() }),
        "click" => BrowserStep::Click(pb::BrowserClick { selector: own() }),
        "fill" => return fill(false),
        "sensitive" => return fill(true),
        "secret" => {
            let (selector, secret) = pair()?;
            BrowserStep::Fill(pb::BrowserFill { selector, secret, ..Default::default() })
        }
        "press" => BrowserStep::Press(pb::BrowserPress { key: own() }),
        "wait" => BrowserStep::Wait(pb::BrowserWait { r#for: Some(For::Selector(own())) }),
        "load" if rest.is_empty() => {
            BrowserStep::Wait(pb::BrowserWait { r#for: Some(For::Load(true)) })
        }
        _ => {
            return Err(bad(
                "steps are goto, click, fill, sensitive, secret, press, wait and load",
            ));
        }
    })
}

/// What is wanted by its word, with nothing more said about it.
#[must_use]
pub fn result_of(word: &str) -> Option<BrowserResult> {
    use crate::proto as pb;
    Some(match word {
        "text" => BrowserResult::Text(pb::BrowserText::default()),
        "html" => BrowserResult::Html(pb::BrowserHtml::default()),
        "links" => BrowserResult::Links(pb::BrowserLinks::default()),
        "screenshot" => BrowserResult::Screenshot(pb::BrowserScreenshot::default()),
        "pdf" => BrowserResult::Pdf(pb::BrowserPdf::default()),
        "download" => BrowserResult::Download(pb::BrowserDownload::default()),
        _ => return None,
    })
}

/// Scheme, host and port of an address: what a policy says yes or no to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// `https`, not `http`.
    pub secure: bool,
    /// Lower-case name, or an address; version 6 in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// Reads an address strictly: what a browser would read in another way than we do has no origin.
    ///
    /// # Errors
    /// `CX-1602`, saying what is wrong.
    pub fn of(url: &str) -> Result<Self, Fault> {
        let refuse = |why: &str| {
            let shown: String = url.chars().take(200).collect();
            Fault::new(Code::UrlRefused, format!("{shown:?} {why}"))
        };
        if url.len() > BROWSER_URL_MAX {
            return Err(refuse("is too long"));
        }
        // Browsers drop some of these, and take a backslash for a slash.
        if url.bytes().any(|b| !b.is_ascii_graphic() || b == b'\\') {
            return Err(refuse("has characters that an address must not have; write them as %XX"));
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| refuse("does not begin with http:// or https://"))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse("is neither http nor https")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..end];
        if authority.contains('@') {
            return Err(refuse("has a user or password in it"));
        }
        let (host, port) = authority_parts(authority).ok_or_else(|| refuse("names no port"))?;
        let port = match port {
            None if secure => 443,
            None => 80,
            Some(text) => port_of(text).ok_or_else(|| refuse("names no port"))?,
        };
        let host =
            host_of(host).ok_or_else(|| refuse("names no host that can be read in one way"))?;
        Ok(Self { secure, host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Host and port, at the colon that parts them.
fn authority_parts(authority: &str) -> Option<(&str, Option<&str>)> {
    let after = match authority.strip_prefix('[') {
        Some(inner) => inner.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(after);
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None if rest.is_empty() => Some((host, None)),
        None => None,
    }
}

fn port_of(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?.filter(|port| *port != 0)
}

fn host_of(text: &str) -> Option<String> {
    const NAME_MAX: usize = 253;
    const LABEL_MAX: usize = 63;
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let label =
        |label: &str| !label.is_empty() && label.len() <= LABEL_MAX && label.bytes().all(plain);
    if name.len() > NAME_MAX || !name.split('.').all(label) {
        return None;
    }
    // Browsers read 127.1, 0x7f.1, 2130706433 and 0177.0.0.1 as addresses. Only the plain form is one here.
    let last = name.rsplit('.').next()?;
    let hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    if last.bytes().all(|b| b.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(hex) {
        return name.parse::<Ipv4Addr>().ok().map(|address| address.to_string());
    }
    Some(name)
}

/// Origins that a policy opens: `https://example.com`, `https://*.example.com`, `http://127.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginPattern {
    /// The origin, or that of the parent of every name below it.
    origin: Origin,
    below: bool,
}

impl OriginPattern {
    /// Reads one.
    ///
    /// # Errors
    /// It is none, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (plain, below) = match text.split_once("://*.") {
            Some((scheme, rest)) => (format!("{scheme}://{rest}"), true),
            None => (text.to_owned(), false),
        };
        let origin = Origin::of(&plain).map_err(|_| {
            format!("{text:?} is not like https://NAME, https://*.NAME or http://NAME:PORT")
        })?;
        if plain.splitn(4, '/').nth(3).is_some() || plain.contains(['?', '#']) {
            return Err(format!("{text:?} has more than scheme, host and port"));
        }
        let named =
            origin.host.bytes().any(|b| b.is_ascii_lowercase()) && !origin.host.starts_with('[');
        if below && (!named || !origin.host.contains('.')) {
            return Err(format!("{text:?}: '*.' stands before a name with a dot in it"));
        }
        Ok(Self { origin, below })
    }

    /// Whether an origin is one of these.
    #[must_use]
    pub fn matches(&self, origin: &Origin) -> bool {
        let own = &self.origin;
        let host = if self.below {
            let rest = origin.host.strip_suffix(&own.host);
            rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            origin.host == own.host
        };
        host && (origin.secure, origin.port) == (own.secure, own.port)
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.origin.to_string();
        match text.split_once("://") {
            Some((scheme, rest)) if self.below => write!(f, "{scheme}://*.{rest}"),
            Some(_) | None => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_one_way_or_not_at_all() {
        for (url, origin) in [
            ("http://example.com", "http://example.com"),
            ("HTTPS://Example.COM.:443/a?b#c", "https://example.com"),
            ("http://example.com:8080?x@y", "http://example.com:8080"),
            ("https://127.0.0.1:1/", "https://127.0.0.1:1"),
            ("http://[::1]:80/", "http://[::1]"),
            ("http://a_b.c-d.e/%00", "http://a_b.c-d.e"),
        ] {
            assert_eq!(Origin::of(url).map(|o| o.to_string()), Ok(origin.to_owned()), "{url}");
        }
        for url in [
            "",
            "example.com",
            "//example.com",
            "file:///etc/passwd",
            "file://localhost/etc/passwd",
            "chrome://settings",
            "devtools://devtools/bundled/inspector.html",
            "view-source:http://example.com/",
            "data:text/html,x",
            "javascript:alert(1)",
            "javascript://example.com/%0aalert(1)",
            "about:blank",
            "filesystem:http://example.com/temporary/x",
            "blob:http://example.com/x",
            "ftp://example.com/",
            " http://example.com/",
            "http://example.com/ ",
            "ht\ntp://example.com/",
            "http:/\\example.com",
            "http://example.com\\@evil.example/",
            "http:example.com",
            "http:///example.com",
            "http://user@example.com/",
            "http://user:word@example.com/",
            "http://example.com:80@evil.example/",
            "http://exa%6dple.com/",
            "http://b\u{fc}cher.example/",
            "http://example.com:0/",
            "http://example.com:+80/",
            "http://example.com:65536/",
            "http://example.com:/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://[::1/",
            "http://[::1]x/",
            "http://a..b/",
            "http://",
        ] {
            let fault = Origin::of(url).expect_err(url);
            assert_eq!(fault.code, Code::UrlRefused, "{url}");
        }
        assert!(Origin::of(&format!("http://a/{}", "x".repeat(BROWSER_URL_MAX))).is_err());
    }

    #[test]
    fn steps_are_read_as_they_are_written() {
        for text in [
            "goto https://example.com/",
            "click #a > b",
            "fill #a = x = y",
            "fill #a = ",
            "sensitive #a = x",
            "secret #a[b=c] = token",
            "press Enter",
            "press  ",
            "wait #a",
            "load",
        ] {
            assert_eq!(step_words(&parse_step(text).unwrap()), text);
        }
        for text in ["", "evaluate 1", "fill #a", "load x", "Click #a", "upload #a = x"] {
            assert_eq!(parse_step(text).unwrap_err().code, Code::BadBrowserAction, "{text}");
        }
        for word in ["text", "html", "links", "screenshot", "pdf", "download"] {
            let (url, result) = (String::new(), result_of(word).unwrap());
            let action =
                BrowserAction { url, steps: vec![], result, window: (0, 0), step_timeout_ms: 0 };
            assert_eq!(action.name(), word);
        }
    }

    #[test]
    fn patterns_match_whole_names_of_the_same_scheme_and_port() {
        let matches = |pattern: &str, url: &str| {
            OriginPattern::parse(pattern).unwrap().matches(&Origin::of(url).unwrap())
        };
        assert!(matches("https://example.com", "https://example.com/x"));
        assert!(matches("https://*.example.com", "https://a.example.com"));
        assert!(matches("https://*.example.com", "https://a.b.example.com"));
        assert!(matches("http://127.0.0.1:8080", "http://127.0.0.1:8080/x"));
        for (pattern, url) in [
            ("https://example.com", "http://example.com"),
            ("https://example.com", "https://a.example.com"),
            ("https://example.com", "https://example.com:444"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://evilexample.com"),
            ("https://*.example.com", "https://example.com.evil.net"),
            ("https://*.example.com", "http://a.example.com"),
        ] {
            assert!(!matches(pattern, url), "{pattern} {url}");
        }
        for pattern in [
            "",
            "*",
            "https://*",
            "https://*.",
            "https://*.com",
            "https://*.127.0.0.1",
            "example.com",
            "https://a.*.com",
            "https://example.com/",
            "https://example.com?",
            "file:///x",
            "https://u@example.com",
        ] {
            assert!(OriginPattern::parse(pattern).is_err(), "{pattern}");
        }
        let shown = |text: &str| OriginPattern::parse(text).unwrap().to_string();
        assert_eq!(shown("https://*.example.com"), "https://*.example.com");
    }
}
