//! Which connection of a node counts, when there are several: the newest generation of a session, and among sessions the
//! one that came last. What is not the one that counts is a ghost: nothing it says is acted on. Sessions that throw each
//! other out again and again are a sign that one key is on two machines. It never decides what is done about that.

use cortex_model::Tick;
use cortex_model::limits::enrol::{RIVALRY_RETURNS, RIVALRY_WINDOW_MS, RIVALS_KEPT};
use cortex_model::proto::Seat;
use std::collections::VecDeque;

/// A connection, as its hello describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rival {
    /// The session of the agent's process.
    pub session: String,
    /// Count of the session's connections.
    pub generation: u64,
    /// The life of the journal it showed (32 hex digits).
    pub incarnation: String,
    /// Where it came from; for people.
    pub address: String,
}

/// What becomes of a connection that says hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts from now on; whichever counted before is a ghost.
    Counts {
        /// Set when one key is probably on two machines: the one that was thrown out and came back, and the one that it throws
        /// out now. Said once per window.
        clone: Option<Box<[Rival; 2]>>,
    },
    /// The session has a newer connection already: refuse this one.
    Ghost,
}

/// The connections of one node, wherever they end. Times are of a clock that all gateways share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rivals {
    counts: Option<Rival>,
    /// Sessions that were thrown out by another session, oldest first.
    thrown_out: VecDeque<String>,
    /// When a session came back after it had been thrown out.
    returns: VecDeque<Tick>,
    said: Option<Tick>,
}

impl Rivals {
    /// A connection says hello.
    pub fn hello(&mut self, rival: Rival, now: Tick) -> Standing {
        let Some(before) = &self.counts else {
            self.counts = Some(rival);
            return Standing::Counts { clone: None };
        };
        if before.session == rival.session {
            if rival.generation <= before.generation {
                return Standing::Ghost;
            }
            self.counts = Some(rival);
            return Standing::Counts { clone: None };
        }
        let returned = self.thrown_out.contains(&rival.session);
        self.thrown_out.retain(|session| *session != rival.session);
        if self.thrown_out.len() >= RIVALS_KEPT {
            self.thrown_out.pop_front();
        }
        self.thrown_out.push_back(before.session.clone());
        let other = self.counts.replace(rival.clone()).unwrap_or_default();
        let clone = (returned && self.suspicious(now)).then(|| Box::new([rival, other]));
        Standing::Counts { clone }
    }

    /// What was kept of a node's connections. More than is remembered is cut off at the old end.
    #[must_use]
    pub fn of_seat(seat: &Seat) -> Rivals {
        let newest = |all: usize, kept: usize| all.saturating_sub(kept);
        let thrown = newest(seat.thrown_out.len(), RIVALS_KEPT);
        let returns = newest(seat.returned_at_ms.len(), RIVALRY_RETURNS);
        Rivals {
            counts: (!seat.session.is_empty()).then(|| Rival {
                session: seat.session.clone(),
                generation: seat.generation,
                incarnation: seat.incarnation.clone(),
                address: seat.address.clone(),
            }),
            thrown_out: seat.thrown_out.iter().skip(thrown).cloned().collect(),
            returns: seat.returned_at_ms.iter().skip(returns).copied().map(Tick).collect(),
            said: (seat.suspected_at_ms != 0).then_some(Tick(seat.suspected_at_ms)),
        }
    }

    /// The same, to be kept: the connection that counts ends at this gateway.
    #[must_use]
    pub fn to_seat(&self, gateway: &str) -> Seat {
        let Rival { session, generation, incarnation, address } =
            self.counts.clone().unwrap_or_default();
        Seat {
            gateway: gateway.to_owned(),
            session,
            generation,
            incarnation,
            address,
            thrown_out: self.thrown_out.iter().cloned().collect(),
            returned_at_ms: self.returns.iter().map(|at| at.0).collect(),
            suspected_at_ms: self.said.map_or(0, |at| at.0),
        }
    }

    /// Whether this connection is the one that counts.
    #[must_use]
    pub fn counts(&self, session: &str, generation: u64) -> bool {
        self.counts.as_ref().is_some_and(|c| c.session == session && c.generation == generation)
    }

    /// A session came back. A process that is not a clone does so once at most: its last, delayed connection.
    fn suspicious(&mut self, now: Tick) -> bool {
        while self.returns.front().is_some_and(|at| now.since(*at) >= RIVALRY_WINDOW_MS) {
            self.returns.pop_front();
        }
        if self.returns.len() >= RIVALRY_RETURNS {
            self.returns.pop_front();
        }
        self.returns.push_back(now);
        let quiet = self.said.is_none_or(|said| now.since(said) >= RIVALRY_WINDOW_MS);
        let suspicious = quiet && self.returns.len() >= RIVALRY_RETURNS;
        if suspicious {
            self.said = Some(now);
        }
        suspicious
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rival(session: &str, generation: u64) -> Rival {
        Rival { session: session.into(), generation, ..Rival::default() }
    }

    /// Runs hellos, each a session, a generation and a time in seconds; `-` is a ghost, `+` counts, `!` names a clone. Each
    /// comes to another gateway, which knows only what was kept.
    fn verdicts(hellos: &[(&str, u64, u64)]) -> String {
        let mut kept = Seat::default();
        let verdict = |(session, generation, at): &(&str, u64, u64)| {
            let mut rivals = Rivals::of_seat(&kept);
            let standing = rivals.hello(rival(session, *generation), Tick(at * 1_000));
            kept = rivals.to_seat("g");
            assert_eq!(Rivals::of_seat(&kept), rivals, "something is not kept");
            match standing {
                Standing::Counts { clone: None } => '+',
                Standing::Counts { clone: Some(_) } => '!',
                Standing::Ghost => '-',
            }
        };
        hellos.iter().map(verdict).collect()
    }

    #[test]
    fn the_newest_generation_of_a_session_counts_and_an_older_one_is_a_ghost() {
        for (hellos, expected) in [
            (&[("a", 1, 0), ("a", 2, 0), ("a", 3, 0)][..], "+++"),
            (&[("a", 1, 0), ("a", 1, 0)], "+-"),
            (&[("a", 5, 0), ("a", 4, 9), ("a", 6, 9)], "+-+"),
            (&[("a", 5, 0), ("b", 1, 0), ("b", 1, 0)], "++-"),
        ] {
            assert_eq!(verdicts(hellos), expected, "{hellos:?}");
        }
    }

    #[test]
    fn a_ghost_changes_nothing_about_which_one_counts() {
        let mut rivals = Rivals::default();
        rivals.hello(rival("a", 2), Tick(0));
        assert_eq!(rivals.hello(rival("a", 1), Tick(1)), Standing::Ghost);
        assert!(rivals.counts("a", 2) && !rivals.counts("a", 1) && !rivals.counts("b", 2));
        rivals.hello(rival("b", 1), Tick(2));
        assert!(rivals.counts("b", 1) && !rivals.counts("a", 2));
    }

    #[test]
    fn a_restarted_agent_is_no_clone_but_two_that_throw_each_other_out_are() {
        for (hellos, expected) in [
            // Restarts, however many.
            (&[("a", 1, 0), ("b", 1, 1), ("c", 1, 2), ("d", 1, 3), ("e", 1, 4)][..], "+++++"),
            // One late connection of the process before.
            (&[("a", 1, 0), ("b", 1, 1), ("a", 2, 2), ("b", 2, 3)], "+++!"),
            (&[("a", 1, 0), ("b", 1, 1), ("a", 2, 2)], "+++"),
            // Said once per window, and again in the next.
            (
                &[("a", 1, 0), ("b", 1, 1), ("a", 2, 2), ("b", 2, 3), ("a", 3, 4), ("b", 3, 5)],
                "+++!++",
            ),
            (
                &[("a", 1, 0), ("b", 1, 1), ("a", 2, 2), ("b", 2, 3), ("a", 3, 700), ("b", 3, 701)],
                "+++!+!",
            ),
            // Slower than a window: two laptops of one backup, opened on different days.
            (&[("a", 1, 0), ("b", 1, 1_000), ("a", 2, 2_000), ("b", 2, 3_000)], "++++"),
        ] {
            assert_eq!(verdicts(hellos), expected, "{hellos:?}");
        }
    }

    #[test]
    fn a_suspicion_names_both_machines() {
        let mut rivals = Rivals::default();
        let at = |session: &str, generation, address: &str| Rival {
            address: address.into(),
            ..rival(session, generation)
        };
        for (session, generation, address) in [("a", 1, "x"), ("b", 1, "y"), ("a", 2, "x")] {
            rivals.hello(at(session, generation, address), Tick(0));
        }
        let standing = rivals.hello(at("b", 2, "y"), Tick(0));
        let both = Box::new([at("b", 2, "y"), at("a", 2, "x")]);
        assert_eq!(standing, Standing::Counts { clone: Some(both) });
    }

    #[test]
    fn what_is_remembered_of_sessions_is_bounded() {
        let mut rivals = Rivals::default();
        for n in 0..10_000 {
            rivals.hello(rival(&format!("s{n}"), 1), Tick(n));
        }
        assert!(rivals.thrown_out.len() <= RIVALS_KEPT && rivals.returns.len() <= RIVALRY_RETURNS);
        let many = (0..99).map(|n| format!("s{n}")).collect();
        let seat =
            Seat { thrown_out: many, returned_at_ms: (0..99).collect(), ..rivals.to_seat("g") };
        let read = Rivals::of_seat(&seat);
        assert!(read.thrown_out.len() <= RIVALS_KEPT && read.returns.len() <= RIVALRY_RETURNS);
        assert_eq!(read.thrown_out.back().map(String::as_str), Some("s98"), "the newest are kept");
    }
}
