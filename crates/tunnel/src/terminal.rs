//! What is typed into a task's terminal, on its way over any number of cuts: the [`Typist`] beside whoever types, the
//! [`Keyboard`] beside the terminal. One thing is said at a time, and again until it is answered; what was typed is known by its
//! attachment and where it begins there, so nothing counts twice. The newest attachment has the keyboard.
//!
//! Neither end writes to a terminal or to a journal; the drivers do.

use cortex_model::Actor;
use cortex_model::limits::{TERMINAL_ATTACHMENTS_MAX, TERMINAL_PIECE_MAX, TERMINAL_TYPED_MAX};
use cortex_model::proto::{
    TerminalAnswer, TerminalInput, TerminalStanding, TypeTerminalRequest, TypeTerminalResponse,
};
use std::collections::VecDeque;

/// Lines, and characters in a line.
pub type Size = (u32, u32);

/// The end beside the terminal.
#[derive(Debug, Default)]
pub struct Keyboard {
    /// Names of all attachments there were; the last has the keyboard.
    attachments: Vec<String>,
    holder: Option<Actor>,
    /// Bytes that the last one typed and that were taken.
    accepted: u64,
}

/// What is to be done with something that was typed.
#[derive(Debug, PartialEq)]
pub struct Typed {
    /// For the terminal, in this order.
    pub bytes: Vec<u8>,
    /// The terminal's size from now on.
    pub size: Option<Size>,
    /// For whoever typed.
    pub answer: TerminalAnswer,
}

impl Keyboard {
    /// Whether this takes the keyboard, so that it must be recorded before it is handled.
    #[must_use]
    pub fn takes_over(&self, input: &TerminalInput) -> bool {
        input.attach
            && self.attachments.len() < TERMINAL_ATTACHMENTS_MAX
            && !self.attachments.contains(&input.attachment)
    }

    /// Who has the keyboard, as the how manyeth (from 1), and how much they typed; `None` while nobody ever had it.
    #[must_use]
    pub fn holder(&self) -> Option<(usize, Option<&Actor>, u64)> {
        (!self.attachments.is_empty()).then_some((
            self.attachments.len(),
            self.holder.as_ref(),
            self.accepted,
        ))
    }

    /// Something came. `who` types it; at most `room` bytes are taken.
    pub fn handle(&mut self, input: &TerminalInput, who: Option<Actor>, room: usize) -> Typed {
        if self.takes_over(input) {
            self.attachments.push(input.attachment.clone());
            (self.holder, self.accepted) = (who, 0);
        }
        let mut typed = Typed { bytes: Vec::new(), size: None, answer: TerminalAnswer::default() };
        let standing = if self.attachments.last() == Some(&input.attachment) {
            // What begins behind what was taken has a gap before it: nothing of it counts.
            let seen = self.accepted.checked_sub(input.offset);
            let seen = seen.and_then(|seen| usize::try_from(seen).ok());
            let new = seen.and_then(|seen| input.data.get(seen..)).unwrap_or_default();
            typed.bytes = new[..new.len().min(room)].to_vec();
            self.accepted += typed.bytes.len() as u64;
            typed.size =
                (input.rows > 0 && input.columns > 0).then_some((input.rows, input.columns));
            typed.answer.accepted = self.accepted;
            TerminalStanding::Held
        } else if input.attach && !self.attachments.contains(&input.attachment) {
            TerminalStanding::TooMany
        } else {
            TerminalStanding::Taken
        };
        typed.answer.query_id = input.query_id;
        typed.answer.standing = standing.into();
        typed.answer.holder = self.holder.as_ref().map(Into::into);
        typed
    }
}

/// The end beside whoever types.
#[derive(Debug)]
pub struct Typist {
    attachment: String,
    attached: bool,
    over: bool,
    /// What was typed and not accepted; it begins at `accepted`.
    pending: VecDeque<u8>,
    accepted: u64,
    size: Size,
    /// It was told.
    sized: bool,
    /// What is being said: bytes and size.
    saying: Option<(usize, Size)>,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The keyboard is ours now.
    Attached,
    /// All that was said was taken.
    Taken,
    /// Some was not: the program does not read. Say it again later.
    Full,
    /// There is no terminal at present. Say it again later, or see what became of the task.
    NoTerminal,
    /// Somebody else has the keyboard now. Nothing more is said.
    Lost,
    /// There were too many attachments. Nothing more is said.
    TooMany,
}

impl Typist {
    /// Somebody who types in a window of this size. `attachment` is new.
    #[must_use]
    pub fn new(attachment: String, size: Size) -> Self {
        Self {
            attachment,
            attached: false,
            over: false,
            pending: VecDeque::new(),
            accepted: 0,
            size,
            sized: false,
            saying: None,
        }
    }

    /// How many bytes may be typed now.
    #[must_use]
    pub fn room(&self) -> usize {
        TERMINAL_TYPED_MAX - self.pending.len()
    }

    /// Something was typed; what is beyond the room is dropped. After the keyboard was lost all of it is.
    pub fn typed(&mut self, bytes: &[u8]) {
        if !self.over {
            self.pending.extend(&bytes[..bytes.len().min(self.room())]);
        }
    }

    /// The window has another size.
    pub fn resized(&mut self, size: Size) {
        self.sized &= self.size == size;
        self.size = size;
    }

    /// The next thing to say; the task and who types are for the driver to fill in. `None` while something is being said.
    pub fn say(&mut self) -> Option<TypeTerminalRequest> {
        let quiet = self.attached && self.sized && self.pending.is_empty();
        if self.over || self.saying.is_some() || quiet {
            return None;
        }
        let bytes = if self.attached { self.pending.len().min(TERMINAL_PIECE_MAX) } else { 0 };
        self.saying = Some((bytes, self.size));
        Some(TypeTerminalRequest {
            attachment: self.attachment.clone(),
            attach: !self.attached,
            offset: self.accepted,
            data: self.pending.iter().take(bytes).copied().collect(),
            rows: self.size.0,
            columns: self.size.1,
            ..TypeTerminalRequest::default()
        })
    }

    /// Nobody answered: the same is said again.
    pub fn unanswered(&mut self) {
        self.saying = None;
    }

    /// What is being said was answered.
    pub fn answered(&mut self, answer: &TypeTerminalResponse) -> News {
        let Some((bytes, size)) = self.saying.take() else { return News::NoTerminal };
        match TerminalStanding::try_from(answer.standing) {
            Ok(TerminalStanding::Held) => {}
            Ok(TerminalStanding::Taken) => {
                self.over = true;
                return News::Lost;
            }
            Ok(TerminalStanding::TooMany) => {
                self.over = true;
                return News::TooMany;
            }
            Ok(TerminalStanding::None | TerminalStanding::Unspecified) | Err(_) => {
                return News::NoTerminal;
            }
        }
        self.sized |= self.size == size;
        if !std::mem::replace(&mut self.attached, true) {
            return News::Attached;
        }
        let taken = answer.accepted.saturating_sub(self.accepted);
        let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(bytes);
        self.pending.drain(..taken);
        self.accepted += taken as u64;
        if taken < bytes { News::Full } else { News::Taken }
    }
}
