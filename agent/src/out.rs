//! Standard output of the owner's commands. Whoever read it may go away (`cortex-agent history | head`): then the command ends,
//! without a word, with the code that a shell gives to a program that this ended. It keeps nothing back beyond a line.

use std::io::{self, StdoutLock, Write};

/// 128 and the number of SIGPIPE.
const NOBODY_READS: i32 = 141;

/// See the module. What a command changes is done before it tells of it, so nothing is cut short by the end.
pub(crate) struct Out(StdoutLock<'static>);

/// Standard output.
pub(crate) fn out() -> Out {
    Out(io::stdout().lock())
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_nobody_reads(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_nobody_reads(self.0.flush())
    }
}

fn unless_nobody_reads<T>(done: io::Result<T>) -> io::Result<T> {
    match done {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => std::process::exit(NOBODY_READS),
        done => done,
    }
}
