//! A line to Redis that can be cut, and mended: for one replica that is cut off while the others are not.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Passes everything on, both ways, as long as it is not cut.
pub(super) struct Relay {
    address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Relay {
    /// A line to whoever is at `url`.
    pub(super) async fn to(url: &str) -> Self {
        let there: SocketAddr = url.strip_prefix("redis://").expect("a port").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, whole) = (listener.local_addr().expect("an address"), watch::Sender::new(true));
        let state = whole.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, there, state.clone()));
            }
        });
        Self { address, whole }
    }

    /// Where it begins.
    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends every connection, and those that are made from now on.
    pub(super) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub(super) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(mut near: TcpStream, there: SocketAddr, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow_and_update() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(there).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
