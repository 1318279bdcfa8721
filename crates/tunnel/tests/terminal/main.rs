//! What is typed gets there once and in order, whatever is lost, doubled or late; and whoever lost the keyboard types nothing.
//! `TERMINAL_SEED=n` runs one schedule alone.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use cortex_model::limits::{TERMINAL_ATTACHMENTS_MAX, TERMINAL_PIECE_MAX, TERMINAL_TYPED_MAX};
use cortex_model::proto::{
    TerminalInput, TerminalStanding, TypeTerminalRequest, TypeTerminalResponse,
};
use cortex_model::{Actor, task::ActorKind};
use cortex_tunnel::{Keyboard, News, Typist};

const SEEDS: u64 = 2_000;

fn actor(id: &str) -> Option<Actor> {
    let (model, on_behalf_of) = Default::default();
    Some(Actor { kind: ActorKind::Human, id: id.to_owned(), model, on_behalf_of })
}

/// As gateways pass it on.
fn input(said: TypeTerminalRequest) -> TerminalInput {
    let TypeTerminalRequest { attachment, attach, offset, data, rows, columns, .. } = said;
    TerminalInput { attachment, attach, offset, data, rows, columns, ..TerminalInput::default() }
}

fn hear(
    keyboard: &mut Keyboard,
    said: TypeTerminalRequest,
    room: usize,
) -> (Vec<u8>, TypeTerminalResponse) {
    let who = actor(&said.attachment);
    let typed = keyboard.handle(&input(said), who, room);
    let answer = typed.answer;
    let (standing, accepted, holder) = (answer.standing, answer.accepted, answer.holder);
    (typed.bytes, TypeTerminalResponse { standing, accepted, holder })
}

fn attached(name: &str, keyboard: &mut Keyboard) -> Typist {
    let mut typist = Typist::new(name.to_owned(), (24, 80));
    let (_, answer) = hear(keyboard, typist.say().unwrap(), 0);
    assert_eq!(typist.answered(&answer), News::Attached);
    typist
}

#[test]
fn what_is_said_again_counts_once_and_what_comes_too_early_does_not_count() {
    let mut keyboard = Keyboard::default();
    attached("a", &mut keyboard);
    let say = |offset: u64, data: &str| TypeTerminalRequest {
        attachment: "a".into(),
        offset,
        data: data.into(),
        ..Default::default()
    };
    for (offset, data, room, taken, accepted) in [
        (0, "abc", 99, "abc", 3),
        (0, "abc", 99, "", 3),
        (1, "bcde", 99, "de", 5),
        (9, "x", 99, "", 5),
        (5, "fgh", 2, "fg", 7),
        (5, "fgh", 0, "", 7),
        (5, "fgh", 99, "h", 8),
        (u64::MAX, "x", 99, "", 8),
        (0, "", 99, "", 8),
    ] {
        let (bytes, answer) = hear(&mut keyboard, say(offset, data), room);
        assert_eq!(
            (bytes.as_slice(), answer.accepted),
            (taken.as_bytes(), accepted),
            "{offset} {data}"
        );
    }
    assert_eq!(keyboard.holder(), Some((1, actor("a").as_ref(), 8)));
}

#[test]
fn the_newest_attachment_types_and_the_one_before_is_told_who() {
    let mut keyboard = Keyboard::default();
    assert_eq!(keyboard.holder(), None);
    let mut first = attached("a", &mut keyboard);
    let mut second = attached("b", &mut keyboard);
    first.typed(b"rm");
    let late = first.say().unwrap();
    let (bytes, answer) = hear(&mut keyboard, late.clone(), 99);
    assert_eq!((bytes.len(), answer.standing), (0, TerminalStanding::Taken.into()));
    assert_eq!(answer.holder.as_ref().unwrap().id, "b");
    assert_eq!(first.answered(&answer), News::Lost);
    first.typed(b"more");
    assert_eq!(first.say(), None, "nothing more is said");
    // Its first word, come again late, does not take the keyboard back.
    let again = TypeTerminalRequest { attach: true, offset: 0, data: Vec::new(), ..late };
    assert!(!keyboard.takes_over(&input(again.clone())));
    assert_eq!(hear(&mut keyboard, again, 9).1.standing, i32::from(TerminalStanding::Taken));
    second.typed(b"ls");
    let (bytes, answer) = hear(&mut keyboard, second.say().unwrap(), 99);
    assert_eq!((bytes.as_slice(), second.answered(&answer)), (&b"ls"[..], News::Taken));
}

#[test]
fn a_size_is_told_when_it_changes_and_only_then() {
    let mut keyboard = Keyboard::default();
    let mut typist = attached("a", &mut keyboard);
    typist.resized((24, 80));
    assert_eq!(typist.say(), None);
    typist.resized((50, 100));
    let said = typist.say().unwrap();
    typist.resized((51, 100));
    let typed = keyboard.handle(&input(said), None, 9);
    assert_eq!(typed.size, Some((50, 100)));
    let held =
        TypeTerminalResponse { standing: TerminalStanding::Held.into(), ..Default::default() };
    assert_eq!(typist.answered(&held), News::Taken);
    assert_eq!(typist.say().unwrap().rows, 51, "it changed while the other was being said");
    typist.unanswered();
    assert_eq!(typist.say().unwrap().rows, 51);
}

#[test]
fn neither_end_holds_more_than_its_bound() {
    let mut keyboard = Keyboard::default();
    let mut typist = attached("a", &mut keyboard);
    typist.typed(&vec![b'x'; 10 * TERMINAL_TYPED_MAX]);
    assert_eq!(typist.room(), 0);
    let said = typist.say().unwrap();
    assert_eq!(said.data.len(), TERMINAL_PIECE_MAX);
    let (bytes, answer) = hear(&mut keyboard, said, 10);
    assert_eq!((bytes.len(), typist.answered(&answer), typist.room()), (10, News::Full, 10));
    for n in 1..TERMINAL_ATTACHMENTS_MAX {
        attached(&format!("t{n}"), &mut keyboard);
    }
    let mut beyond = Typist::new("beyond".to_owned(), (1, 1));
    let (_, answer) = hear(&mut keyboard, beyond.say().unwrap(), 9);
    assert_eq!((beyond.answered(&answer), beyond.say()), (News::TooMany, None));
}

#[test]
fn a_terminal_that_is_not_there_yet_is_asked_again() {
    let mut typist = Typist::new("a".to_owned(), (24, 80));
    typist.typed(b"early");
    let none =
        TypeTerminalResponse { standing: TerminalStanding::None.into(), ..Default::default() };
    for _ in 0..3 {
        let said = typist.say().unwrap();
        assert!(said.attach && said.data.is_empty(), "{said:?}");
        assert_eq!(typist.answered(&none), News::NoTerminal);
    }
    let mut keyboard = Keyboard::default();
    let (_, answer) = hear(&mut keyboard, typist.say().unwrap(), 9);
    assert_eq!(typist.answered(&answer), News::Attached);
    assert_eq!(typist.say().unwrap().data, b"early");
}

/// Who calls, and the how manyeth time: an answer belongs to one call.
type Call = (usize, u32);

/// A message under way.
enum Way {
    Up(Call, TypeTerminalRequest),
    Down(Call, TypeTerminalResponse),
}

struct Person {
    typist: Typist,
    typed: Vec<u8>,
    calls: u32,
}

struct World {
    random: fastrand::Rng,
    keyboard: Keyboard,
    typists: Vec<Person>,
    /// What the program got: by whom, and what.
    got: Vec<(usize, u8)>,
    ways: Vec<Way>,
    lossy: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (keyboard, typists, got, ways) = Default::default();
        Self { random, keyboard, typists, got, ways, lossy: true }
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.lossy && self.random.usize(..n) == 0
    }

    fn step(&mut self) {
        if self.lossy
            && (self.typists.is_empty() || self.random.usize(..60) == 0)
            && self.typists.len() < 4
        {
            let name = format!("t{}", self.typists.len());
            let (typist, typed) = (Typist::new(name, (24, 80)), Vec::new());
            self.typists.push(Person { typist, typed, calls: 0 });
        }
        for who in 0..self.typists.len() {
            self.speak(who);
        }
        if self.ways.is_empty() {
            return;
        }
        // Anything that is under way may come next; some never, some twice.
        let at = self.random.usize(..self.ways.len());
        match self.ways.swap_remove(at) {
            _ if self.one_in(5) => {}
            Way::Up(call, said) => {
                if self.one_in(5) {
                    self.ways.push(Way::Up(call, said.clone()));
                }
                let room = if self.lossy { self.random.usize(..6) } else { 100 };
                let (bytes, answer) = hear(&mut self.keyboard, said, room);
                self.got.extend(bytes.into_iter().map(|byte| (call.0, byte)));
                self.ways.push(Way::Down(call, answer));
            }
            Way::Down((who, call), answer) => {
                let person = &mut self.typists[who];
                if person.calls == call {
                    person.typist.answered(&answer);
                }
            }
        }
    }

    fn speak(&mut self, who: usize) {
        let lossy = self.lossy;
        let Person { typist, typed, calls } = &mut self.typists[who];
        if lossy && self.random.bool() {
            let word: Vec<u8> = (0..self.random.usize(1..9)).map(|_| self.random.u8(..)).collect();
            typist.typed(&word);
            typed.extend(word);
        }
        let silent = !self.ways.iter().any(|way| match way {
            Way::Up(call, _) | Way::Down(call, _) => *call == (who, *calls),
        });
        // The call is cut, or its time is over: nothing of it is waited for any more, and what is under way may still arrive.
        if silent || (lossy && self.random.usize(..7) == 0) {
            typist.unanswered();
        }
        if let Some(said) = typist.say() {
            *calls += 1;
            self.ways.push(Way::Up((who, *calls), said));
        }
    }

    fn check(&self) {
        // Who typed later never comes before who typed earlier, and of each the beginning of what was typed came.
        for (who, Person { typed, .. }) in self.typists.iter().enumerate() {
            let came: Vec<u8> =
                self.got.iter().filter(|(by, _)| *by == who).map(|(_, byte)| *byte).collect();
            assert!(typed.starts_with(&came), "typist {who}: {came:?} of {typed:?}");
        }
        let mut runs: Vec<usize> = self.got.iter().map(|(by, _)| *by).collect();
        runs.dedup();
        let mut once = runs.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(
            runs.len(),
            once.len(),
            "somebody typed again after the keyboard was lost: {runs:?}"
        );
    }
}

#[test]
fn everything_that_the_holder_typed_comes_once_and_in_order_whatever_the_network_does() {
    let only = std::env::var("TERMINAL_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
                world.check();
            }
            world.lossy = false;
            for _ in 0..4_000 {
                world.step();
            }
            world.check();
            let (number, who, accepted) = world.keyboard.holder().unwrap();
            let holder: usize = who.unwrap().id[1..].parse().unwrap();
            let typed = &world.typists[holder].typed;
            assert!(number <= world.typists.len());
            assert_eq!(accepted, typed.len() as u64, "all of the holder's words are there");
        });
        if let Err(panic) = run {
            eprintln!("failed with TERMINAL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
