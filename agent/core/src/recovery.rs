//! What an intent without outcome means when it is found at start: the attempt was interrupted. How far it
//! got is not known, so it is reported and never run again here.

use cortex_model::Ending;

/// What was found out about an interrupted attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The machine was started again since the intent.
    pub rebooted: bool,
    /// Processes of the attempt that were still alive; they were ended.
    pub orphans: u32,
    /// Processes that could not be ended.
    pub survivors: u32,
}

impl Found {
    /// One word for the journal.
    #[must_use]
    pub fn word(&self) -> &'static str {
        if self.rebooted { "reboot" } else { "crash" }
    }

    /// The ending that is reported.
    #[must_use]
    pub fn ending(&self) -> Ending {
        let mut found = if self.rebooted {
            "the machine was restarted while it ran".to_owned()
        } else {
            "the agent died while it ran".to_owned()
        };
        match self.orphans {
            0 => found.push_str("; none of its processes was left"),
            1 => found.push_str("; 1 of its processes was left and was ended"),
            n => found.push_str(&format!("; {n} of its processes were left and were ended")),
        }
        if self.survivors > 0 {
            found.push_str(&format!("; {} could not be ended", self.survivors));
        }
        Ending::Interrupted { found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_said_in_words() {
        for (found, text) in [
            (
                (true, 0, 0),
                "the machine was restarted while it ran; none of its processes was left",
            ),
            (
                (false, 1, 0),
                "the agent died while it ran; 1 of its processes was left and was ended",
            ),
            (
                (false, 3, 1),
                "the agent died while it ran; 3 of its processes were left and were ended; 1 could not be ended",
            ),
        ] {
            let (rebooted, orphans, survivors) = found;
            let ending = Found { rebooted, orphans, survivors }.ending();
            assert_eq!(ending, Ending::Interrupted { found: text.to_owned() });
        }
    }
}
