//! Whatever is at the other end of a terminal, whoever shares the thread with it goes on.

use super::*;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::time::Instant;

/// Longer than anything takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

const FLAGS: OpenptFlags = OpenptFlags::RDWR.union(OpenptFlags::NOCTTY).union(OpenptFlags::CLOEXEC);

/// Both ends; the other one passes on everything as it is.
fn pair() -> (OwnedFd, OwnedFd) {
    let ours = openpt(FLAGS).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, FLAGS).unwrap();
    let mut modes = tcgetattr(&theirs).unwrap();
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes).unwrap();
    (ours, theirs)
}

/// Runs something on one thread, as the agent does, and fails where that thread never comes back.
fn alone<T: Send + 'static>(what: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let (done, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        drop(done.send(runtime.block_on(what())));
    });
    answer.recv_timeout(DEADLINE).expect("the thread was taken by a terminal, or the test failed")
}

/// Fills a terminal until it takes no more.
async fn fill(master: &Master) {
    loop {
        let written = tokio::time::timeout(Duration::from_millis(200), master.write(&[b'x'; 4096]));
        match written.await {
            Ok(written) => assert!(written.unwrap() > 0),
            Err(_) => return,
        }
    }
}

/// Tries to write to a full terminal for a while; how often that was.
async fn tries(master: &Master) -> usize {
    let begun = Instant::now();
    loop {
        let mut tries = 0;
        let write = master.when(Interest::WRITABLE, |fd| {
            tries += 1;
            Ok(rustix::io::write(fd, &[b'x'; 4096])?)
        });
        let written = tokio::time::timeout(HUNG_UP * 20, write).await;
        assert!(begun.elapsed() < DEADLINE / 2, "others waited for {:?}", begun.elapsed());
        // The system makes some room while it passes on what it has.
        if written.is_err() {
            return tries;
        }
    }
}

#[test]
fn keys_for_a_full_terminal_that_was_hung_up_wait_and_take_no_time_from_others() {
    alone(async || {
        let (ours, theirs) = pair();
        let again = ours.try_clone().unwrap();
        let master = Master::new(ours).unwrap();
        fill(&master).await;
        // Everybody who could have read what was typed is gone.
        drop(theirs);
        assert_eq!(master.read(&mut [0; 16]).await, 0, "that it was hung up is not to be seen");
        let tried = tries(&master).await;
        assert!((2..=40).contains(&tried), "it was tried {tried} times");
        // Somebody comes after all, and keys get there when there is room.
        let theirs = ioctl_tiocgptpeer(&again, FLAGS).unwrap();
        fill(&master).await;
        let tried = tries(&master).await;
        assert!((2..=40).contains(&tried), "it was tried {tried} times");
        assert!(rustix::io::read(&theirs, &mut [0; 4096]).unwrap() > 0);
        let written = tokio::time::timeout(DEADLINE / 2, master.write(b"y")).await;
        assert_eq!(written.unwrap().unwrap(), 1);
    });
}

#[test]
fn a_program_that_always_has_more_takes_no_time_from_others() {
    const BYTES: usize = 3_000;
    let turns = alone(async || {
        let (ours, theirs) = pair();
        let master = Master::new(ours).unwrap();
        assert_eq!(rustix::io::write(&theirs, &[b'x'; BYTES]).unwrap(), BYTES);
        let reading = tokio::spawn(async move {
            for _ in 0..BYTES {
                assert_eq!(master.read(&mut [0]).await, 1);
            }
        });
        let mut turns = 0;
        while !reading.is_finished() {
            tokio::task::yield_now().await;
            turns += 1;
        }
        reading.await.unwrap();
        drop(theirs);
        turns
    });
    assert!(turns >= BYTES / 256, "others had their turn {turns} times");
}
