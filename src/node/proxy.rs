//! Outgoing connections through a proxy: SOCKS5 or HTTP CONNECT. Listening stays as it is.
//!
//! Names go to the proxy unresolved, so that a node behind one needs no resolver. Noise runs inside, so the proxy sees
//! nothing but sizes and times.

use crate::config::Proxy;
use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
    tcp,
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Longest answer of an HTTP proxy before the tunnel, in bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

type Upgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;

/// TCP that dials through a proxy.
pub struct ProxyTransport {
    tcp: tcp::tokio::Transport,
    proxy: Proxy,
}

impl ProxyTransport {
    /// A transport that dials through `proxy`.
    pub fn new(config: tcp::Config, proxy: Proxy) -> Self {
        Self { tcp: tcp::tokio::Transport::new(config), proxy }
    }
}

/// `host:port` of a multiaddress that begins with a host and a TCP port.
fn target(address: &Multiaddr) -> Option<(String, u16)> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => ip.to_string(),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((host, port)),
        _ => None,
    }
}

async fn dial(proxy: Proxy, host: String, port: u16) -> io::Result<tcp::tokio::TcpStream> {
    through(proxy, host, port).await.map(tcp::tokio::TcpStream)
}

/// A connection to `host` that `proxy` makes.
pub(super) async fn through(proxy: Proxy, host: String, port: u16) -> io::Result<TcpStream> {
    let stream = match proxy {
        Proxy::Socks5(place) => {
            let connected = tokio_socks::tcp::Socks5Stream::connect(place.as_str(), (host, port)).await;
            connected.map_err(|error| io::Error::other(format!("the proxy {place}: {error}")))?.into_inner()
        }
        Proxy::Http(place) => connect(&place, &host, port).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks an HTTP proxy for a tunnel (RFC 9110 section 9.3.6).
async fn connect(place: &str, host: &str, port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(place).await?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the empty line belongs to the tunnel.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err(io::Error::other(format!("the proxy {place} answered more than {ANSWER_BYTES_MAX} bytes")));
        }
        answer.push(stream.read_u8().await?);
    }
    let answer = String::from_utf8_lossy(&answer);
    let first = answer.lines().next().unwrap_or_default();
    match first.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(stream),
        _ => Err(io::Error::other(format!("the proxy {place} refused {host}:{port}: {first}"))),
    }
}

impl Transport for ProxyTransport {
    type Output = tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = BoxFuture<'static, Result<Self::Output, io::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.tcp.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.tcp.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let (host, port) = target(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        Ok(dial(self.proxy.clone(), host, port).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, io::Error>> {
        Pin::new(&mut self.tcp).poll(context)
    }
}
