//! A network that can be cut: forwards TCP connections until it is dropped, and then closes them all
//! in the middle of whatever they carry.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Forwards to one address.
pub(crate) struct Proxy {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on a free port.
    pub(crate) fn to(upstream: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            open: Arc::default(),
            cut: Arc::default(),
        };
        let (open, cut) = (proxy.open.clone(), proxy.cut.clone());
        std::thread::spawn(move || {
            for here in listener.incoming() {
                if cut.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(here), Ok(there)) = (here, TcpStream::connect(&upstream)) else { continue };
                let mut open = open.lock().unwrap();
                for (from, to) in [(&here, &there), (&there, &here)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    open.push(from.try_clone().unwrap());
                    std::thread::spawn(move || forward(from, to));
                }
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Whether anybody connected.
    pub(crate) fn was_used(&self) -> bool {
        !self.open.lock().unwrap().is_empty()
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // Either side may be gone already.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
        // Wakes the thread that accepts, so that the port is closed.
        TcpStream::connect(self.address).ok();
    }
}
