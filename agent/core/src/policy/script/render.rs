//! Writes a script down anew: every word in single quotes, every program by its absolute path. Nothing is left that a
//! shell would expand.

use super::{AndOr, Op, Script};

/// A word that every shell takes as it is.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The script with its commands replaced, in order.
pub(crate) fn render(script: &Script, commands: &[String]) -> String {
    let mut commands = commands.iter();
    let lists: Vec<String> =
        script.lists.iter().map(|list| self::list(list, &mut commands)).collect();
    lists.join("\n")
}

fn list<'a>(list: &AndOr, commands: &mut impl Iterator<Item = &'a String>) -> String {
    let mut pipeline = |count: usize| {
        let parts: Vec<&str> = commands.by_ref().take(count).map(String::as_str).collect();
        parts.join(" | ")
    };
    let mut text = pipeline(list.first.commands.len());
    for (op, next) in &list.rest {
        text.push_str(match op {
            Op::And => " && ",
            Op::Or => " || ",
        });
        text.push_str(&pipeline(next.commands.len()));
    }
    text
}
