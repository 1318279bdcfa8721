//! Characters to tokens. Strict: a character that is not expected ends the reading.

use super::{Opaque, Piece, Word};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    And,
    Or,
    Pipe,
    /// `;`
    Semi,
    /// A line end.
    Line,
    In,
    Out,
    Append,
    Err,
    ErrToOut,
}

/// What may stand in a word without quotes.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:,+@%=^-".contains(c)
}

pub(super) struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    pub(super) line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), line: 1 }
    }

    fn opaque(&self, why: &'static str) -> Opaque {
        Opaque { line: self.line, why }
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest.peek() == Some(&c);
        if found {
            self.rest.next();
        }
        found
    }

    /// The next token; `None` at the end.
    pub(super) fn token(&mut self) -> Result<Option<Token>, Opaque> {
        while self.take(' ') || self.take('\t') {}
        let Some(c) = self.rest.peek().copied() else { return Ok(None) };
        let token = match c {
            '\n' => {
                self.rest.next();
                self.line += 1;
                Token::Line
            }
            '#' => {
                while self.rest.next_if(|c| *c != '\n').is_some() {}
                return self.token();
            }
            ';' => {
                self.rest.next();
                if self.rest.peek() == Some(&';') {
                    return Err(self.opaque("';;'"));
                }
                Token::Semi
            }
            '&' => {
                self.rest.next();
                if !self.take('&') {
                    return Err(
                        self.opaque("'&' starts something in the background or joins streams")
                    );
                }
                Token::And
            }
            '|' => {
                self.rest.next();
                if self.rest.peek() == Some(&'&') {
                    return Err(self.opaque("'|&'"));
                }
                if self.take('|') { Token::Or } else { Token::Pipe }
            }
            '<' => {
                self.rest.next();
                match self.rest.peek() {
                    Some('<') => return Err(self.opaque("a here-document")),
                    Some('(') => return Err(self.opaque("a process substitution")),
                    Some('&' | '>') => return Err(self.opaque("a redirection of another kind")),
                    Some(_) | None => Token::In,
                }
            }
            '>' => self.out()?,
            _ => self.word()?,
        };
        Ok(Some(token))
    }

    /// After `>` or `2>`: what may follow directly.
    fn out(&mut self) -> Result<Token, Opaque> {
        self.rest.next();
        if self.take('>') {
            return match self.rest.peek() {
                Some('>' | '<' | '&' | '|' | '(') => {
                    Err(self.opaque("a redirection of another kind"))
                }
                Some(_) | None => Ok(Token::Append),
            };
        }
        match self.rest.peek() {
            Some('&' | '|' | '(' | '<') => Err(self.opaque("a redirection of another kind")),
            Some(_) | None => Ok(Token::Out),
        }
    }

    fn word(&mut self) -> Result<Token, Opaque> {
        let mut word = Word { plain: true, ..Word::default() };
        if self.rest.peek() == Some(&'~') {
            self.rest.next();
            if self.rest.peek() != Some(&'/') {
                return Err(self.opaque("'~' without '/'"));
            }
            word.home = true;
        }
        let mut first = true;
        while let Some(c) = self.rest.peek().copied() {
            match c {
                ' ' | '\t' | '\n' | ';' | '|' | '&' => break,
                '<' | '>' => {
                    if word.plain
                        && !word.home
                        && let [Piece::Text(digits)] = word.pieces.as_slice()
                    {
                        if digits == "2" && c == '>' {
                            return self.err_out();
                        }
                        if digits.bytes().all(|b| b.is_ascii_digit()) {
                            return Err(self.opaque("a redirection of a numbered stream"));
                        }
                    }
                    break;
                }
                '\'' => {
                    self.rest.next();
                    self.single(&mut word)?;
                }
                '"' => {
                    self.rest.next();
                    self.double(&mut word)?;
                }
                '\\' => {
                    self.rest.next();
                    word.plain = false;
                    match self.rest.next() {
                        Some(c) if c == ' ' || c.is_ascii_graphic() => push(&mut word, c),
                        Some(_) | None => {
                            return Err(
                                self.opaque("'\\' before something other than a visible character")
                            );
                        }
                    }
                }
                '*' | '?' => {
                    self.rest.next();
                    word.pieces.push(if c == '*' { Piece::Star } else { Piece::One });
                }
                '[' | ']' if first => {
                    self.rest.next();
                    push(&mut word, c);
                    if self.rest.peek().is_some_and(|next| !" \t\n;|&<>".contains(*next)) {
                        return Err(self.opaque("a pattern in brackets"));
                    }
                }
                c if is_plain(c) => {
                    self.rest.next();
                    word.equals |= c == '=';
                    push(&mut word, c);
                }
                c => return Err(self.opaque(what(c))),
            }
            first = false;
        }
        self.whole(word)
    }

    /// A word that could not say, as a pattern, which of its stars stand for themselves is not understood.
    fn whole(&self, word: Word) -> Result<Token, Opaque> {
        let quoted =
            |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(['*', '?']));
        if word.is_glob() && word.pieces.iter().any(quoted) {
            return Err(self.opaque("a quoted '*' or '?' inside a pattern"));
        }
        Ok(Token::Word(word))
    }

    /// After `2`, before `>`.
    fn err_out(&mut self) -> Result<Token, Opaque> {
        self.rest.next();
        if self.take('&') {
            let one = self.take('1');
            let ends = self.rest.peek().is_none_or(|c| " \t\n;|&<>".contains(*c));
            return if one && ends {
                Ok(Token::ErrToOut)
            } else {
                Err(self.opaque("a redirection of another kind"))
            };
        }
        match self.rest.peek() {
            Some('>' | '|' | '(' | '<') => Err(self.opaque("a redirection of another kind")),
            Some(_) | None => Ok(Token::Err),
        }
    }

    fn single(&mut self, word: &mut Word) -> Result<(), Opaque> {
        word.plain = false;
        open(word);
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(()),
                Some(c) => {
                    self.line += usize::from(c == '\n');
                    push(word, c);
                }
                None => return Err(self.opaque("a quote that is not closed")),
            }
        }
    }

    fn double(&mut self, word: &mut Word) -> Result<(), Opaque> {
        word.plain = false;
        open(word);
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('$') => return Err(self.opaque("'$' is expanded in double quotes")),
                Some('`') => return Err(self.opaque("a command substitution")),
                Some('!') => return Err(self.opaque("'!' in double quotes")),
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => push(word, c),
                    Some('\n') | None => return Err(self.opaque("a line that is continued")),
                    Some('!') => return Err(self.opaque("'!' in double quotes")),
                    Some(c) => {
                        push(word, '\\');
                        push(word, c);
                    }
                },
                Some(c) => {
                    self.line += usize::from(c == '\n');
                    push(word, c);
                }
                None => return Err(self.opaque("a quote that is not closed")),
            }
        }
    }
}

/// Quotes make a word even when nothing stands between them.
fn open(word: &mut Word) {
    if !matches!(word.pieces.last(), Some(Piece::Text(_))) {
        word.pieces.push(Piece::Text(String::new()));
    }
}

fn push(word: &mut Word, c: char) {
    match word.pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(c),
        Some(Piece::Star | Piece::One) | None => word.pieces.push(Piece::Text(c.to_string())),
    }
}

fn what(c: char) -> &'static str {
    match c {
        '$' => "'$': something that is expanded",
        '`' => "a command substitution",
        '(' | ')' => "parentheses",
        '{' | '}' => "braces",
        '!' => "'!'",
        '#' => "'#' inside a word",
        '~' => "'~' inside a word",
        '[' | ']' => "a pattern in brackets",
        '\r' => "a carriage return",
        c if c.is_ascii_control() => "a control character",
        c if !c.is_ascii() => "a character outside of ASCII without quotes",
        _ => "a character that is not understood",
    }
}
