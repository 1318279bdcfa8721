//! Reads what cannot be read strictly, as generously as can be: runs of words of which each might be a command for some
//! shell. Used to deny and to warn, never to allow.

/// Runs of words, quotes, escapes and variables taken out. What stands in parentheses or backticks is a run of its own,
/// and the run around it goes on behind it.
pub(crate) fn fragments(text: &str) -> Vec<Vec<String>> {
    let mut reader = Reader::default();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => reader.word.extend(chars.next().filter(|c| *c != '\n')),
            '\'' | '"' => {}
            ' ' | '\t' | '\r' | '\u{b}' | '\u{c}' | '<' | '>' | '{' | '}' => {
                reader.braces = match c {
                    '{' => reader.braces + 1,
                    '}' => reader.braces.saturating_sub(1),
                    _ => reader.braces,
                };
                reader.end_word();
            }
            ',' if reader.braces > 0 => reader.end_word(),
            '$' => variable(&mut chars, &mut reader),
            '(' => reader.enter(),
            ')' => reader.leave(),
            '`' => {
                reader.tick = !reader.tick;
                if reader.tick {
                    reader.enter();
                } else {
                    reader.leave();
                }
            }
            '\n' | ';' | '|' | '&' | '!' => reader.end_run(),
            c => reader.word.push(c),
        }
    }
    while !reader.outer.is_empty() {
        reader.leave();
    }
    reader.end_run();
    reader.all
}

#[derive(Default)]
struct Reader {
    word: String,
    run: Vec<String>,
    outer: Vec<Vec<String>>,
    all: Vec<Vec<String>>,
    braces: usize,
    tick: bool,
}

impl Reader {
    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.run.push(std::mem::take(&mut self.word));
        }
    }

    fn end_run(&mut self) {
        self.end_word();
        if !self.run.is_empty() {
            self.all.push(std::mem::take(&mut self.run));
        }
    }

    fn enter(&mut self) {
        self.end_word();
        self.outer.push(std::mem::take(&mut self.run));
    }

    fn leave(&mut self) {
        self.end_run();
        self.run = self.outer.pop().unwrap_or_default();
    }
}

/// A variable stands for nothing, `$IFS` for a blank. `$(` and `$'` begin what follows.
fn variable(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, reader: &mut Reader) {
    let mut name = String::new();
    if chars.next_if_eq(&'{').is_some() {
        while let Some(c) = chars.next_if(|c| *c != '}') {
            name.push(c);
        }
        chars.next();
    } else {
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
    }
    if name == "IFS" {
        reader.end_word();
    }
}
