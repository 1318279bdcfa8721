//! `BrowserAction` of `task.proto` to and from the model.

use crate::browser::{BrowserAction, BrowserResult, BrowserStep, Origin};
use crate::error::{Code, Fault};
use crate::limits::LABEL_MAX;
use crate::limits::browser::*;
use crate::proto as pb;

/// Keys that have a name; everything else is one character.
pub const KEYS: [&str; 14] = [
    "Enter",
    "Tab",
    "Escape",
    "Backspace",
    "Delete",
    "Space",
    "ArrowUp",
    "ArrowDown",
    "ArrowLeft",
    "ArrowRight",
    "Home",
    "End",
    "PageUp",
    "PageDown",
];

/// Reads what a browser is to do.
///
/// # Errors
/// `CX-0101`, `CX-0103`, `CX-0105`, `CX-1601` or `CX-1602`, naming the field.
pub fn action(p: pb::BrowserAction) -> Result<BrowserAction, Fault> {
    Origin::of(&p.url)?;
    at_most("browser.steps", p.steps.len(), BROWSER_STEPS_MAX)?;
    let missing = |what: &str| {
        Fault::new(Code::Malformed, format!("{what} is missing or has an unknown value"))
    };
    let mut steps = Vec::with_capacity(p.steps.len());
    for step in p.steps {
        let step = step.step.ok_or_else(|| missing("browser.steps.step"))?;
        check(&step)?;
        steps.push(step);
    }
    let result = p.result.ok_or_else(|| missing("browser.result"))?;
    match &result {
        BrowserResult::Text(pb::BrowserText { selector: s })
        | BrowserResult::Html(pb::BrowserHtml { selector: s })
            if !s.is_empty() =>
        {
            selector(s)?;
        }
        BrowserResult::Text(_)
        | BrowserResult::Html(_)
        | BrowserResult::Links(_)
        | BrowserResult::Screenshot(_)
        | BrowserResult::Pdf(_)
        | BrowserResult::Download(_) => {}
    }
    let (least, most) = BROWSER_WINDOW;
    for side in [p.width, p.height] {
        if side != 0 && !(least..=most).contains(&side) {
            return Err(bad(&format!(
                "a side of the window has {side} pixels, not {least} to {most}"
            )));
        }
    }
    if p.step_timeout_ms > BROWSER_STEP_MAX_MS {
        let message = format!("step_timeout_ms of {} is longer than 10 minutes", p.step_timeout_ms);
        return Err(Fault::new(Code::BadDuration, message));
    }
    let window = (p.width, p.height);
    Ok(BrowserAction { url: p.url, steps, result, window, step_timeout_ms: p.step_timeout_ms })
}

impl From<&BrowserAction> for pb::BrowserAction {
    fn from(a: &BrowserAction) -> Self {
        let step = |step: &BrowserStep| pb::BrowserStep { step: Some(step.clone()) };
        Self {
            url: a.url.clone(),
            steps: a.steps.iter().map(step).collect(),
            width: a.window.0,
            height: a.window.1,
            step_timeout_ms: a.step_timeout_ms,
            result: Some(a.result.clone()),
        }
    }
}

fn check(step: &BrowserStep) -> Result<(), Fault> {
    use pb::browser_wait::For;
    match step {
        BrowserStep::Goto(goto) => Origin::of(&goto.url).map(drop),
        BrowserStep::Click(click) => selector(&click.selector),
        BrowserStep::Fill(fill) => {
            selector(&fill.selector)?;
            at_most("fill.text", fill.text.len(), BROWSER_TEXT_MAX)?;
            at_most("fill.secret", fill.secret.len(), LABEL_MAX)?;
            if !fill.secret.is_empty() && !fill.text.is_empty() {
                return Err(bad("a fill has either a text or a secret"));
            }
            Ok(())
        }
        BrowserStep::Press(press) => {
            let one = || {
                let mut all = press.key.chars();
                matches!((all.next(), all.next()), (Some(c), None) if !c.is_control())
            };
            if KEYS.contains(&press.key.as_str()) || one() {
                return Ok(());
            }
            Err(bad(&format!("there is no key {:?}", press.key)))
        }
        BrowserStep::Wait(wait) => match &wait.r#for {
            Some(For::Selector(s)) => selector(s),
            Some(For::Load(true)) => Ok(()),
            Some(For::Load(false)) | None => Err(bad("a wait says for nothing")),
        },
    }
}

fn selector(text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err(bad("a selector is empty or has control characters"));
    }
    at_most("a selector", text.len(), BROWSER_SELECTOR_MAX)
}

fn bad(why: &str) -> Fault {
    Fault::new(Code::BadBrowserAction, why)
}

fn at_most(name: &str, is: usize, most: usize) -> Result<(), Fault> {
    if is > most {
        let message = format!("{name} has {is}, at most {most} are accepted");
        return Err(Fault::new(Code::TooLarge, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut pb::BrowserAction)) -> Option<Code> {
        let mut action = pb::BrowserAction {
            url: "http://example.com/".to_owned(),
            result: Some(BrowserResult::Text(pb::BrowserText::default())),
            ..Default::default()
        };
        change(&mut action);
        super::action(action).err().map(|fault| fault.code)
    }

    fn step(step: BrowserStep) -> Option<Code> {
        with(|a| a.steps.push(pb::BrowserStep { step: Some(step) }))
    }

    #[test]
    fn what_no_browser_could_do_is_refused() {
        let fill = |selector: &str, text: &str, secret: &str| {
            let (selector, text, secret) = (selector.into(), text.into(), secret.into());
            step(BrowserStep::Fill(pb::BrowserFill { selector, text, secret, sensitive: false }))
        };
        let press = |key: &str| step(BrowserStep::Press(pb::BrowserPress { key: key.into() }));
        let click = |s: &str| step(BrowserStep::Click(pb::BrowserClick { selector: s.into() }));
        let wait = |what| step(BrowserStep::Wait(pb::BrowserWait { r#for: what }));
        let goto = |url: &str| step(BrowserStep::Goto(pb::BrowserGoto { url: url.into() }));
        use pb::browser_wait::For;
        let (bad, large) = (Some(Code::BadBrowserAction), Some(Code::TooLarge));
        let long = "a".repeat(BROWSER_SELECTOR_MAX + 1);
        let text = "a".repeat(BROWSER_TEXT_MAX + 1);
        for (n, (got, expected)) in [
            (with(|_| {}), None),
            (with(|a| a.url = "file:///etc/passwd".into()), Some(Code::UrlRefused)),
            (with(|a| a.result = None), Some(Code::Malformed)),
            (with(|a| a.steps = vec![pb::BrowserStep { step: None }]), Some(Code::Malformed)),
            (with(|a| a.width = 15), bad),
            (with(|a| a.height = 4097), bad),
            (with(|a| a.width = 16), None),
            (with(|a| a.step_timeout_ms = BROWSER_STEP_MAX_MS + 1), Some(Code::BadDuration)),
            (goto("chrome://settings"), Some(Code::UrlRefused)),
            (goto("https://example.com"), None),
            (click("#a"), None),
            (click(" "), bad),
            (click("a\nb"), bad),
            (click(&long), large),
            (fill("#a", "x", ""), None),
            (fill("#a", "", "token"), None),
            (fill("#a", "x", "token"), bad),
            (fill("#a", &text, ""), large),
            (press("Enter"), None),
            (press("x"), None),
            (press("F12"), bad),
            (press(""), bad),
            (press("\u{7}"), bad),
            (wait(None), bad),
            (wait(Some(For::Load(false))), bad),
            (wait(Some(For::Load(true))), None),
            (wait(Some(For::Selector("#a".into()))), None),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(got, expected, "row {n}");
        }
        let many = pb::BrowserStep {
            step: Some(BrowserStep::Press(pb::BrowserPress { key: "a".into() })),
        };
        assert_eq!(with(|a| a.steps = vec![many.clone(); BROWSER_STEPS_MAX]), None);
        assert_eq!(with(|a| a.steps = vec![many; BROWSER_STEPS_MAX + 1]), large);
    }
}
