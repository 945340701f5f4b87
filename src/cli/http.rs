//! The little HTTP client of the commands that talk to a running gateway: one connection, one request after another,
//! over TCP or a Unix socket.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::downstream::BindAddress;

/// Nothing that a local gateway answers takes longer.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A connection to a gateway.
pub(super) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    /// Connects to a listener at `address`; where that is every address of the machine, to loopback.
    pub(super) async fn connect(address: &BindAddress) -> io::Result<Self> {
        match address {
            BindAddress::Tcp(address) => {
                let stream = TcpStream::connect(reachable(*address)).await?;
                stream.set_nodelay(true)?;
                Self::over(TokioIo::new(stream)).await
            }
            BindAddress::Unix(path) => Self::over(TokioIo::new(UnixStream::connect(path).await?)).await,
        }
    }

    async fn over<I>(io: I) -> io::Result<Self>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a `GET`, with these fields beside `host`, and reads the answer.
    pub(super) async fn get(
        &mut self,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> io::Result<Response<Bytes>> {
        let exchange = async {
            let (head, body) = self.ask(Method::GET, path, fields, Bytes::new()).await?.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        in_time(exchange).await
    }

    /// Sends a `POST` of this body, and hands over the answer as it begins: how long the rest takes is not for us to say.
    pub(super) async fn post(
        &mut self,
        path: &str,
        fields: &[(&'static str, &str)],
        body: Bytes,
    ) -> io::Result<Response<Incoming>> {
        in_time(self.ask(Method::POST, path, fields, body)).await
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&'static str, &str)],
        body: Bytes,
    ) -> io::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, HeaderValue::from_static("localhost"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        self.0.ready().await.map_err(io::Error::other)?;
        self.0.send_request(request).await.map_err(io::Error::other)
    }
}

async fn in_time<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads an address as the settings write it.
pub(super) fn parse_address(text: &str) -> Result<BindAddress, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(BindAddress::Unix(PathBuf::from(path))),
        Some(_) => Err("the path of a Unix socket is absolute: unix:/path".to_owned()),
        None => text.parse().map(BindAddress::Tcp).map_err(|_| "expected IP:PORT or unix:/path".to_owned()),
    }
}

/// Loopback, where somebody listens on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    if address.ip().is_unspecified() { SocketAddr::new(loopback, address.port()) } else { address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_in_the_settings() {
        assert_eq!(parse_address("127.0.0.1:9"), Ok(BindAddress::Tcp(([127, 0, 0, 1], 9).into())));
        assert_eq!(parse_address("unix:/a"), Ok(BindAddress::Unix("/a".into())));
        for bad in ["", "9090", "localhost:9", "unix:a", "unix:"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_address_is_reached_over_loopback() {
        let reach = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(reach("0.0.0.0:9"), "127.0.0.1:9");
        assert_eq!(reach("[::]:9"), "[::1]:9");
        assert_eq!(reach("10.0.0.1:9"), "10.0.0.1:9");
    }
}
