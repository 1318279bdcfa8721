//! Elements of a page: found, clicked, filled. Everything is asked in a world of scripts apart from the page's own, whose words mean
//! what they mean whatever the page did to its own.

use super::driver::{Driver, told};
use super::protocol::input::{DispatchMouseEventType as Mouse, MouseButton};
use super::protocol::runtime::{CallArgument, CallFunctionOnParams, RemoteObjectId};
use super::protocol::{dom, input, page, runtime};
use super::steps::as_step;
use cortex_model::{Code, Fault};
use serde_json::{Value, json};

/// Waits for an element.
const FIND: &str = "(selector) => new Promise((found) => {
    const look = () => document.querySelector(selector);
    const there = look();
    if (there) return found(there);
    const watch = new MutationObserver(() => {
        const there = look();
        if (there) { watch.disconnect(); found(there); }
    });
    watch.observe(document, { childList: true, subtree: true, attributes: true, characterData: true });
})";

/// What kind of field an element is, and whether it is for a password or a payment.
const KIND: &str = "function () {
    const name = this.localName, type = (this.type || '').toLowerCase();
    const words = (this.autocomplete || this.getAttribute('autocomplete') || '').toLowerCase();
    const named = ((this.name || '') + ' ' + (this.id || '')).toLowerCase();
    const sensitive = type === 'password'
        || /(^| )(cc-|current-password|new-password|one-time-code)/.test(words)
        || /card.?n|cc.?n|cvc|cvv|iban|passw/.test(named);
    let kind = 'none';
    if (name === 'select') kind = 'choice';
    else if (name === 'textarea') kind = 'text';
    else if (name === 'input') {
        if (['checkbox', 'radio', 'file', 'button', 'submit', 'reset', 'image', 'hidden'].includes(type)) kind = 'none';
        else if (['date', 'time', 'datetime-local', 'month', 'week', 'color', 'range'].includes(type)) kind = 'value';
        else kind = 'text';
    } else if (this.isContentEditable) kind = 'text';
    return { kind, sensitive, shut: !!(this.disabled || this.readOnly), type };
}";

/// Marks what is in a field, so that it is replaced.
const MARK: &str = "function () {
    if (this.select) return this.select();
    const range = document.createRange(), all = getSelection();
    range.selectNodeContents(this);
    all.removeAllRanges();
    all.addRange(range);
}";

/// Sets the value of a field that nobody types into. False: there is no such choice.
const SET: &str = "function (value) {
    if (this.localName === 'select') {
        const option = [...this.options].find((o) => o.value === value || o.label === value || o.text === value);
        if (!option) return false;
        option.selected = true;
    } else {
        this.value = value;
        if (value !== '' && this.value === '') return false;
    }
    this.dispatchEvent(new Event('input', { bubbles: true }));
    this.dispatchEvent(new Event('change', { bubbles: true }));
    return true;
}";

impl Driver {
    /// Asks in the world apart. A document that went meanwhile is asked for again, as long as the step lasts.
    pub(super) fn ask_page(
        &mut self,
        function: &str,
        arguments: &[Value],
        by_value: bool,
    ) -> Result<Value, Fault> {
        loop {
            let mut world = page::CreateIsolatedWorldParams::new(self.target.clone());
            world.world_name = Some("cortex".to_owned());
            let world = self.call(world)?;
            let mut ask = CallFunctionOnParams::new(function);
            let id = world["executionContextId"].as_i64().unwrap_or_default();
            ask.execution_context_id = Some(runtime::ExecutionContextId::new(id));
            ask.arguments = Some(arguments.iter().map(argument).collect());
            ask.return_by_value = Some(by_value);
            ask.await_promise = Some(true);
            let said = self.call(ask);
            match said {
                Ok(said) => return answer(said),
                Err(fault)
                    if fault.message.contains("context") || fault.message.contains("navigated") => {
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Asks about an element.
    fn ask_element(
        &mut self,
        id: &RemoteObjectId,
        function: &str,
        arguments: &[Value],
    ) -> Result<Value, Fault> {
        let mut ask = CallFunctionOnParams::new(function);
        ask.object_id = Some(id.clone());
        ask.arguments = Some(arguments.iter().map(argument).collect());
        ask.return_by_value = Some(true);
        let said = self.call(ask);
        answer(said.map_err(as_step)?)?.get("value").cloned().map_or(Ok(Value::Null), Ok)
    }

    /// Waits for the first element that matches.
    pub(super) fn find(&mut self, selector: &str) -> Result<RemoteObjectId, Fault> {
        let found = self.ask_page(FIND, &[json!(selector)], false).map_err(|fault| {
            if fault.code == Code::PageFailed {
                let why =
                    format!("nothing that matches {selector:?} came in time ({})", fault.message);
                return Fault::new(Code::StepFailed, why);
            }
            fault
        })?;
        let id = found["objectId"].as_str().map(RemoteObjectId::new);
        id.ok_or_else(|| Fault::new(Code::StepFailed, format!("{selector:?} is no element")))
    }

    /// Clicks in the middle of an element.
    pub(super) fn click(&mut self, selector: &str) -> Result<(), Fault> {
        let id = self.find(selector)?;
        let unseen = || {
            let why = format!("{selector:?} is nowhere to be seen, so it cannot be clicked");
            Fault::new(Code::StepFailed, why)
        };
        let show = dom::ScrollIntoViewIfNeededParams::builder().object_id(id.clone()).build();
        let shown = self.call(show);
        shown.map_err(|fault| if fault.code == Code::PageFailed { unseen() } else { fault })?;
        let quads = self.call(dom::GetContentQuadsParams::builder().object_id(id).build());
        let quads = quads.map_err(|f| if f.code == Code::PageFailed { unseen() } else { f })?;
        let (x, y) = middle(&quads["quads"]).ok_or_else(unseen)?;
        for (kind, button, count) in [
            (Mouse::MouseMoved, MouseButton::None, 0),
            (Mouse::MousePressed, MouseButton::Left, 1),
            (Mouse::MouseReleased, MouseButton::Left, 1),
        ] {
            let mut event = input::DispatchMouseEventParams::new(kind, x, y);
            (event.button, event.click_count) = (Some(button), Some(count));
            self.call(event).map_err(as_step)?;
        }
        Ok(())
    }

    /// Puts text into a field. `declared`: it may be one for a password or a payment.
    pub(super) fn fill(&mut self, selector: &str, text: &str, declared: bool) -> Result<(), Fault> {
        let id = self.find(selector)?;
        let kind = self.ask_element(&id, KIND, &[])?;
        let fail = |why: &str| Err(Fault::new(Code::StepFailed, format!("{selector:?} {why}")));
        if kind["sensitive"] == json!(true) && !declared {
            let why = format!("{selector:?} is a field for a password or a payment");
            return Err(Fault::new(Code::SensitiveField, why));
        }
        if kind["shut"] == json!(true) {
            return fail("cannot be changed");
        }
        match kind["kind"].as_str().unwrap_or_default() {
            "text" => {}
            "choice" | "value" => {
                let set = self.ask_element(&id, SET, &[json!(text)])?;
                if set == json!(true) {
                    return Ok(());
                }
                return fail("does not take this value");
            }
            _ => return fail("is no field that text can be put into"),
        }
        let focused = self.call(dom::FocusParams::builder().object_id(id.clone()).build());
        if let Err(fault) = focused {
            return if fault.code == Code::PageFailed {
                fail("cannot be typed into")
            } else {
                Err(fault)
            };
        }
        self.ask_element(&id, MARK, &[])?;
        if text.is_empty() {
            for event in super::keys::press("Delete") {
                self.call(event).map_err(as_step)?;
            }
            return Ok(());
        }
        self.call(input::InsertTextParams::new(text)).map_err(as_step).map(drop)
    }
}

fn argument(value: &Value) -> CallArgument {
    CallArgument::builder().value(value.clone()).build()
}

/// The value, or what was thrown.
fn answer(said: Value) -> Result<Value, Fault> {
    match said.get("exceptionDetails") {
        Some(thrown) => {
            let what = thrown["exception"]["description"].as_str().or(thrown["text"].as_str());
            let what = told(what.unwrap_or_default().lines().next().unwrap_or_default());
            Err(Fault::new(Code::StepFailed, what))
        }
        None => Ok(said["result"].clone()),
    }
}

/// The middle of the first quad that is any.
fn middle(quads: &Value) -> Option<(f64, f64)> {
    quads.as_array()?.iter().find_map(|quad| {
        let sides: Vec<f64> = quad.as_array()?.iter().filter_map(Value::as_f64).collect();
        let [ax, ay, bx, by, cx, cy, dx, dy] = sides[..] else { return None };
        let area =
            (ax * by - bx * ay + bx * cy - cx * by + cx * dy - dx * cy + dx * ay - ax * dy).abs();
        (area > 1.0).then(|| ((ax + bx + cx + dx) / 4.0, (ay + by + cy + dy) / 4.0))
    })
}
