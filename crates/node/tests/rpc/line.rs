//! A line to a server that can be held up, between clients and servers that speak over TCP.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A line to a server that can be held up.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    /// Whether it is held up.
    pub(crate) hold: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hold, held) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(server).await.unwrap();
                tokio::spawn(carry(near, far, held.clone()));
            }
        });
        Self { address, hold, task }
    }
}

/// Carries bytes both ways, but not while they are held.
async fn carry(mut near: TcpStream, mut far: TcpStream, mut held: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            done = copy_bidirectional(&mut near, &mut far) => return drop(done),
            held = held.wait_for(|&held| held) => drop(held.unwrap()),
        }
        held.wait_for(|&held| !held).await.unwrap();
    }
}
