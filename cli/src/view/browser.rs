//! A page that a task opens, as JSON: the fields of the contract that matter for it.

use cortex_model::browser::BrowserStep;
use cortex_model::proto as pb;
use pb::browser_action::Result as Wanted;
use pb::browser_wait::For;
use serde_json::{Value, json};

/// What is wanted, and the fields.
pub(super) fn of(action: &pb::BrowserAction) -> (&'static str, Value) {
    let (op, wanted) = match &action.result {
        Some(Wanted::Text(text)) => ("text", json!({ "selector": text.selector })),
        Some(Wanted::Html(html)) => ("html", json!({ "selector": html.selector })),
        Some(Wanted::Links(_)) => ("links", json!({})),
        Some(Wanted::Screenshot(shot)) => ("screenshot", json!({ "full_page": shot.full_page })),
        Some(Wanted::Pdf(pdf)) => ("pdf", json!({ "landscape": pdf.landscape })),
        Some(Wanted::Download(_)) => ("download", json!({})),
        None => ("unknown", Value::Null),
    };
    let steps: Vec<Value> =
        action.steps.iter().map(|step| self::step(step.step.as_ref())).collect();
    let fields = json!({
        "steps": steps, "wanted": wanted, "width": action.width, "height": action.height,
        "step_timeout_ms": action.step_timeout_ms,
    });
    (op, fields)
}

fn step(step: Option<&BrowserStep>) -> Value {
    match step {
        Some(BrowserStep::Goto(goto)) => json!({ "goto": goto.url }),
        Some(BrowserStep::Click(click)) => json!({ "click": click.selector }),
        Some(BrowserStep::Fill(fill)) => json!({ "fill": {
            "selector": fill.selector, "text": fill.text, "secret": fill.secret, "sensitive": fill.sensitive,
        } }),
        Some(BrowserStep::Press(press)) => json!({ "press": press.key }),
        Some(BrowserStep::Wait(wait)) => match &wait.r#for {
            Some(For::Selector(selector)) => json!({ "wait": selector }),
            Some(For::Load(_)) | None => json!("load"),
        },
        None => Value::Null,
    }
}
