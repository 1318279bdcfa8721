//! Tokens to commands.

use super::lexer::{Lexer, Token};
use super::{AndOr, Op, Opaque, Piece, Pipeline, Redirect, Script, Simple, Word};

/// Words that are no commands where a command could begin.
const RESERVED: &[&str] = &[
    "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for",
    "in", "select", "function", "time", "coproc", "[[", "]]", "{", "}", "!",
];

/// Reads a script.
///
/// # Errors
/// Whatever is not understood without doubt.
pub(crate) fn parse(text: &str) -> Result<Script, Opaque> {
    let mut parser = Parser { lexer: Lexer::new(text), ahead: None };
    let mut lists = Vec::new();
    loop {
        while parser.next_if(|token| *token == Token::Line)?.is_some() {}
        if parser.peek()?.is_none() {
            break;
        }
        lists.push(parser.and_or()?);
        match parser.next()? {
            None => break,
            Some(Token::Semi | Token::Line) => {}
            Some(_) => return Err(parser.opaque("something that does not belong here")),
        }
    }
    if lists.is_empty() { Err(parser.opaque("no command")) } else { Ok(Script { lists }) }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: Option<Option<Token>>,
}

impl Parser<'_> {
    fn opaque(&self, why: &'static str) -> Opaque {
        Opaque { line: self.lexer.line, why }
    }

    fn peek(&mut self) -> Result<Option<&Token>, Opaque> {
        if self.ahead.is_none() {
            self.ahead = Some(self.lexer.token()?);
        }
        Ok(self.ahead.as_ref().and_then(Option::as_ref))
    }

    fn next(&mut self) -> Result<Option<Token>, Opaque> {
        self.peek()?;
        Ok(self.ahead.take().flatten())
    }

    fn next_if(&mut self, wanted: impl Fn(&Token) -> bool) -> Result<Option<Token>, Opaque> {
        if self.peek()?.is_some_and(wanted) { self.next() } else { Ok(None) }
    }

    fn skip_lines(&mut self) -> Result<(), Opaque> {
        while self.next_if(|token| *token == Token::Line)?.is_some() {}
        Ok(())
    }

    fn and_or(&mut self) -> Result<AndOr, Opaque> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        while let Some(token) = self.next_if(|token| matches!(token, Token::And | Token::Or))? {
            self.skip_lines()?;
            let op = if token == Token::And { Op::And } else { Op::Or };
            rest.push((op, self.pipeline()?));
        }
        Ok(AndOr { first, rest })
    }

    fn pipeline(&mut self) -> Result<Pipeline, Opaque> {
        let mut commands = vec![self.simple()?];
        while self.next_if(|token| *token == Token::Pipe)?.is_some() {
            self.skip_lines()?;
            commands.push(self.simple()?);
        }
        Ok(Pipeline { commands })
    }

    fn simple(&mut self) -> Result<Simple, Opaque> {
        let mut simple = Simple::default();
        let part = |token: &Token| {
            matches!(
                token,
                Token::Word(_)
                    | Token::In
                    | Token::Out
                    | Token::Append
                    | Token::Err
                    | Token::ErrToOut
            )
        };
        while let Some(token) = self.next_if(part)? {
            match token {
                Token::Word(word) => simple.words.push(word),
                Token::ErrToOut => simple.redirects.push(Redirect::ErrToOut),
                Token::In => simple.redirects.push(Redirect::In(self.target()?)),
                Token::Out => simple.redirects.push(Redirect::Out(self.target()?)),
                Token::Append => simple.redirects.push(Redirect::Append(self.target()?)),
                Token::Err => simple.redirects.push(Redirect::Err(self.target()?)),
                Token::And | Token::Or | Token::Pipe | Token::Semi | Token::Line => {}
            }
        }
        self.check(&simple)?;
        Ok(simple)
    }

    fn target(&mut self) -> Result<Word, Opaque> {
        match self.next()? {
            Some(Token::Word(word)) if word.is_glob() => {
                Err(self.opaque("a redirection to a pattern"))
            }
            Some(Token::Word(word)) if !word.home && word.literal("").as_deref() == Some("") => {
                Err(self.opaque("a redirection to nothing"))
            }
            Some(Token::Word(word)) => Ok(word),
            Some(_) | None => Err(self.opaque("a redirection to nothing")),
        }
    }

    fn check(&self, simple: &Simple) -> Result<(), Opaque> {
        let Some(first) = simple.words.first() else {
            return Err(self.opaque("no command where one is expected"));
        };
        if first.equals {
            return Err(self.opaque("an assignment"));
        }
        if first.is_glob() {
            return Err(self.opaque("a pattern in the place of a command"));
        }
        if let (true, [Piece::Text(text)]) = (first.plain, first.pieces.as_slice())
            && RESERVED.contains(&text.as_str())
        {
            return Err(self.opaque("a word of the shell's language"));
        }
        for word in simple.words.iter().filter(|word| word.is_glob()) {
            let odd = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(['*', '?', '[', '\\']));
            if word.pieces.iter().any(odd) {
                return Err(self.opaque("a pattern beside the same characters in quotes"));
            }
        }
        Ok(())
    }
}
