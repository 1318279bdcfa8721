//! Keys that can be pressed, as the browser wants to be told of them.

use super::protocol::input::{DispatchKeyEventParams, DispatchKeyEventType as Kind};

/// Name, number, and the text that it types.
const NAMED: [(&str, i64, &str); 14] = [
    ("Enter", 13, "\r"),
    ("Tab", 9, ""),
    ("Escape", 27, ""),
    ("Backspace", 8, ""),
    ("Delete", 46, ""),
    ("Space", 32, " "),
    ("ArrowUp", 38, ""),
    ("ArrowDown", 40, ""),
    ("ArrowLeft", 37, ""),
    ("ArrowRight", 39, ""),
    ("Home", 36, ""),
    ("End", 35, ""),
    ("PageUp", 33, ""),
    ("PageDown", 34, ""),
];

/// What is sent when a key goes down, and when it comes up.
pub(super) fn press(key: &str) -> [DispatchKeyEventParams; 2] {
    let named = NAMED.iter().find(|(name, ..)| *name == key);
    let (name, code, number, text) = match named {
        Some(("Space", number, text)) => (" ", "Space", *number, *text),
        Some((name, number, text)) => (*name, *name, *number, *text),
        None => (key, "", 0, key),
    };
    let of = |kind| {
        let mut event = DispatchKeyEventParams::new(kind);
        event.key = Some(name.to_owned());
        event.windows_virtual_key_code = Some(number);
        event.code = Some(code.to_owned()).filter(|code| !code.is_empty());
        event
    };
    let mut down = of(if text.is_empty() { Kind::RawKeyDown } else { Kind::KeyDown });
    down.text = Some(text.to_owned()).filter(|text| !text.is_empty());
    [down, of(Kind::KeyUp)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_contract_is_known() {
        for key in cortex_model::wire::browser::KEYS {
            assert!(NAMED.iter().any(|(name, ..)| *name == key), "{key}");
        }
        assert_eq!(press("Enter")[0].text.as_deref(), Some("\r"));
        assert_eq!(press("x")[0].text.as_deref(), Some("x"));
        assert_eq!(press("Tab")[0].r#type, Kind::RawKeyDown);
    }
}
