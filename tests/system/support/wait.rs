//! Waiting for a condition with a generous deadline. The only place of the system tests that sleeps.

use std::time::{Duration, Instant};

/// How long anything may take on a loaded machine. Conditions normally hold within milliseconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none in time; the text says what was waited for.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    match within(DEADLINE, &mut ask) {
        Some(answer) => answer,
        None => panic!("waited {} s in vain for: {what}", DEADLINE.as_secs()),
    }
}

/// The same without a panic.
pub(crate) fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Lets time pass that is itself the subject: an outage of a given length, a kill at a random moment.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}
