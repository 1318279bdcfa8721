//! The small part of the shell's language that is understood without doubt. What is outside of it is opaque: it is never
//! allowed by a rule. What is inside is written down anew, every word in single quotes, so that no shell has anything
//! left to interpret.

mod builtin;
mod lenient;
mod lexer;
mod parser;
mod render;
mod walk;

pub(super) use builtin::{Builtin, builtin};
pub(super) use lenient::fragments;
pub(super) use parser::parse;
pub(super) use render::{quote, render};
pub(super) use walk::{Step, walk};

/// A script in the subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// Separated by `;` or line ends.
    pub(super) lists: Vec<AndOr>,
}

/// Pipelines joined by `&&` and `||`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AndOr {
    pub(super) first: Pipeline,
    pub(super) rest: Vec<(Op, Pipeline)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    And,
    Or,
}

/// Commands joined by `|`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pipeline {
    pub(super) commands: Vec<Simple>,
}

/// A command and where its streams go, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Simple {
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

/// A word with its quotes taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Begins with an unquoted `~/`; the pieces hold the rest, from the slash on.
    pub(super) home: bool,
    pub(super) pieces: Vec<Piece>,
    /// Nothing of it was quoted.
    pub(super) plain: bool,
    /// Has an unquoted `=`.
    pub(super) equals: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// Unquoted `*`.
    Star,
    /// Unquoted `?`.
    One,
}

impl Word {
    /// The word, if no name has to be looked up for it.
    pub(super) fn literal(&self, home: &str) -> Option<String> {
        let mut text = if self.home { home.to_owned() } else { String::new() };
        for piece in &self.pieces {
            match piece {
                Piece::Text(more) => text.push_str(more),
                Piece::Star | Piece::One => return None,
            }
        }
        Some(text)
    }

    /// The word as a pattern; `*` and `?` are wild, nothing else is.
    pub(super) fn pattern(&self, home: &str) -> String {
        let mut text = if self.home { home.to_owned() } else { String::new() };
        for piece in &self.pieces {
            match piece {
                Piece::Text(more) => text.push_str(more),
                Piece::Star => text.push('*'),
                Piece::One => text.push('?'),
            }
        }
        text
    }

    pub(super) fn is_glob(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| *piece != Piece::Text(String::new()) && !matches!(piece, Piece::Text(_)))
    }
}

/// Where a stream goes or comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// `< f`
    In(Word),
    /// `> f`
    Out(Word),
    /// `>> f`
    Append(Word),
    /// `2> f`
    Err(Word),
    /// `2>&1`
    ErrToOut,
}

/// Why a script is opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opaque {
    /// Line, from 1.
    pub(super) line: usize,
    pub(super) why: &'static str,
}

impl std::fmt::Display for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

#[cfg(test)]
mod tests;
