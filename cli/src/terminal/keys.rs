//! Which keys are the task's and which are ours: all are the task's, but what follows Ctrl-].

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// What can be done without the task.
pub(super) const HELP: &str = "Ctrl-] d leaves it running, Ctrl-] c cancels it, Ctrl-] Ctrl-] types Ctrl-], Ctrl-] ? says this again";

/// Something for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Leave; the task lives on.
    Detach,
    /// End the task.
    Cancel,
    /// Say what can be done.
    Help,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys {
    escaped: bool,
}

impl Keys {
    /// Some keys were pressed: what of them is for the task, and the first thing that is for us. What follows that is dropped.
    pub(super) fn press(&mut self, keys: &[u8]) -> (Vec<u8>, Option<Command>) {
        let mut typed = Vec::with_capacity(keys.len());
        for key in keys {
            if !std::mem::take(&mut self.escaped) {
                self.escaped = *key == ESCAPE;
                typed.extend((!self.escaped).then_some(*key));
                continue;
            }
            match key {
                &ESCAPE => typed.push(ESCAPE),
                b'd' | b'D' => return (typed, Some(Command::Detach)),
                b'c' | b'C' => return (typed, Some(Command::Cancel)),
                b'?' => return (typed, Some(Command::Help)),
                // Not ours after all.
                other => typed.extend([ESCAPE, *other]),
            }
        }
        (typed, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_the_tasks_but_what_follows_the_escape() {
        for (pressed, typed, command) in [
            (&b"ls\r\x03\x04\x1b[A\0\xff"[..], &b"ls\r\x03\x04\x1b[A\0\xff"[..], None),
            (b"a\x1dd", b"a", Some(Command::Detach)),
            (b"a\x1dDb", b"a", Some(Command::Detach)),
            (b"\x1dc", b"", Some(Command::Cancel)),
            (b"\x1d?x", b"", Some(Command::Help)),
            (b"a\x1d\x1db", b"a\x1db", None),
            (b"a\x1dxb", b"a\x1dxb", None),
            (b"a\x1d", b"a", None),
        ] {
            assert_eq!(Keys::default().press(pressed), (typed.to_vec(), command), "{pressed:?}");
        }
    }

    #[test]
    fn an_escape_and_what_follows_may_come_one_by_one() {
        let mut keys = Keys::default();
        assert_eq!(keys.press(b"\x1d"), (vec![], None));
        assert_eq!(keys.press(b"d"), (vec![], Some(Command::Detach)));
        assert_eq!(keys.press(b"d"), (vec![b'd'], None), "it is over");
    }
}
