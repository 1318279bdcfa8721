//! Randomness of the operating system for salts and nonces. Buffered, never derived, never repeated.

use cortex_audit::Salt;
use std::fs::File;
use std::io::{BufReader, Read};

/// A source of random bytes.
#[derive(Debug)]
pub(crate) struct Salts(BufReader<File>);

impl Salts {
    pub(crate) fn open() -> std::io::Result<Self> {
        Ok(Self(BufReader::with_capacity(1024, File::open("/dev/urandom")?)))
    }

    pub(crate) fn salt(&mut self) -> std::io::Result<Salt> {
        let mut salt = [0; 16];
        self.0.read_exact(&mut salt)?;
        Ok(salt)
    }

    pub(crate) fn nonce(&mut self) -> std::io::Result<[u8; 32]> {
        let mut nonce = [0; 32];
        self.0.read_exact(&mut nonce)?;
        Ok(nonce)
    }
}
