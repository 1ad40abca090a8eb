//! Fetching from a server that the configuration names, and from nowhere else.
//!
//! ```text
//! URL of the configuration -resolve-> addresses, every one of them permitted -connect-> TLS -GET-> bytes, bounded
//! ```
//!
//! The name is resolved here, once, and the connection goes to the address that was looked at: a name that leads inside
//! (A-07: to loopback, a private network, a cloud's metadata) is refused after its resolution, unless the configuration
//! permits that very network. Redirects are not followed. Nothing that records say is ever fetched. TLS trusts the
//! system's authorities, or one that the configuration names; its check cannot be turned off.

use super::proxy::through;
use crate::config::Proxy;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use url::Url;

/// How long a server may take to be reached, and to begin its answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long it may say nothing in the middle of it.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Networks in which no server of a stranger stands: RFC 6890 and its registry, and what leads into them.
const INSIDE: [&str; 26] = [
    "64:ff9b:1::/48",
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("`{0}` is no address of a server; write https://HOST/...")]
    Url(String),
    #[error(
        "{host} leads to {address}, which is inside: nothing is fetched from there unless the source permits that network with `allow`"
    )]
    Inside { host: String, address: IpAddr },
    #[error("http without TLS is only spoken inside networks that the source permits with `allow`; write https://")]
    Plain,
    #[error("{host} could not be resolved: {error}")]
    Name { host: String, error: io::Error },
    #[error("{host}: {error}")]
    Io { host: String, error: io::Error },
    #[error("{host} did not answer in time")]
    Slow { host: String },
    #[error("{host} answers {status}{hint}")]
    Status { host: String, status: u16, hint: String },
    #[error("{host} sends elsewhere, to {to}: no redirect is followed; if you mean that server, name it in the source")]
    Redirect { host: String, to: String },
    #[error("{host} answers with more than {max} bytes")]
    Long { host: String, max: u64 },
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
}

/// A way to one server.
#[derive(Clone)]
pub struct Fetcher {
    base: Url,
    host: String,
    /// Networks inside which the server may stand.
    allow: Vec<IpNet>,
    proxy: Option<Proxy>,
    tls: Option<Arc<ClientConfig>>,
}

/// An answer whose body is still to be read.
pub struct Answer {
    host: String,
    pub response: Response<Incoming>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Fetcher {
    /// To the server of `base`, trusting `authority` (PEM) or, without one, the system's.
    pub fn new(base: &str, allow: Vec<IpNet>, proxy: Option<Proxy>, authority: Option<PathBuf>) -> Result<Self, FetchError> {
        let wrong = || FetchError::Url(crate::record::excerpt(base));
        let base = Url::parse(base).map_err(|_| wrong())?;
        let host = base.host_str().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let tls = match base.scheme() {
            "https" => Some(Arc::new(trust(authority)?)),
            "http" => None,
            _ => return Err(wrong()),
        };
        Ok(Self { base, host, allow, proxy, tls })
    }

    /// The server's address as it was configured.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Asks for a place of this server. `url` has the scheme, host and port of the base; another is refused.
    pub async fn get(&self, url: &Url, headers: &[(header::HeaderName, String)]) -> Result<Answer, FetchError> {
        self.send(Request::builder().method(Method::GET), url, headers, Bytes::new()).await
    }

    /// Hands something over at the base itself.
    pub async fn post(&self, headers: &[(header::HeaderName, String)], body: Vec<u8>) -> Result<Answer, FetchError> {
        self.send(Request::builder().method(Method::POST), &self.base, headers, body.into()).await
    }

    async fn send(
        &self,
        request: hyper::http::request::Builder,
        url: &Url,
        headers: &[(header::HeaderName, String)],
        body: Bytes,
    ) -> Result<Answer, FetchError> {
        if url.origin() != self.base.origin() {
            return Err(FetchError::Redirect { host: self.host.clone(), to: url.origin().ascii_serialization() });
        }
        let host = self.host.clone();
        let slow = |_| FetchError::Slow { host: host.clone() };
        let stream = timeout(CONNECT_MAX, self.connect()).await.map_err(slow)??;
        let failed = |error: hyper::Error| FetchError::Io { host: host.clone(), error: io::Error::other(error) };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target = format!("{target}?{query}");
        }
        let authority = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| authority.to_owned(), |port| format!("{authority}:{port}"));
        let mut request = request.uri(target).header(header::HOST, authority).header(header::USER_AGENT, "huecry");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|error| FetchError::Io { host: host.clone(), error: io::Error::other(error) })?;
        let response = timeout(ANSWER_MAX, sender.send_request(request)).await.map_err(slow)?.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("somewhere");
            return Err(FetchError::Redirect { host, to: crate::record::excerpt(to) });
        }
        if !status.is_success() {
            let hint = match status.as_u16() {
                401 | 403 => "; look at `user` with `password_file`, or `token_file`, of the source".to_owned(),
                404 => format!("; there is nothing at {}", crate::record::excerpt(url.path())),
                406 => "; it does not speak TAXII 2.1".to_owned(),
                _ => String::new(),
            };
            return Err(FetchError::Status { host, status: status.as_u16(), hint });
        }
        Ok(Answer { host, response })
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, FetchError> {
        let host = || self.host.clone();
        let port = self.base.port_or_known_default().unwrap_or(443);
        let resolved = tokio::net::lookup_host((self.host.as_str(), port)).await;
        let addresses: Vec<SocketAddr> = resolved.map_err(|error| FetchError::Name { host: host(), error })?.collect();
        // One address inside is enough to refuse the name: which of several is taken is not ours to say.
        for address in &addresses {
            let inside = is_inside(address.ip());
            let allowed = self.allow.iter().any(|net| net.contains(&unmapped(address.ip())));
            if inside && !allowed {
                return Err(FetchError::Inside { host: host(), address: address.ip() });
            }
            if self.tls.is_none() && !allowed {
                return Err(FetchError::Plain);
            }
        }
        let failed = |error: io::Error| FetchError::Io { host: host(), error };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let connected = match &self.proxy {
                Some(proxy) => through(proxy.clone(), address.ip().to_string(), port).await,
                None => TcpStream::connect(address).await,
            };
            match (connected, &self.tls) {
                (Ok(stream), None) => return Ok(Box::new(stream)),
                (Ok(stream), Some(tls)) => {
                    let name = ServerName::try_from(self.host.clone()).map_err(|_| FetchError::Url(host()))?;
                    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(failed)?;
                    return Ok(Box::new(stream));
                }
                (Err(error), _) => last = error,
            }
        }
        Err(failed(last))
    }
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Gives the body to `take`, piece by piece, at most `max` bytes.
    pub async fn each(mut self, max: u64, mut take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), FetchError> {
        let host = self.host;
        let mut length = 0;
        loop {
            let next = timeout(SILENCE_MAX, self.response.body_mut().frame()).await;
            let Some(frame) = next.map_err(|_| FetchError::Slow { host: host.clone() })? else { return Ok(()) };
            let failed = |error: io::Error| FetchError::Io { host: host.clone(), error };
            let Ok(data) = frame.map_err(|error| failed(io::Error::other(error)))?.into_data() else { continue };
            length += data.len() as u64;
            if length > max {
                return Err(FetchError::Long { host, max });
            }
            take(&data).map_err(|why| failed(io::Error::other(why)))?;
        }
    }
}

/// IPv4 inside IPv6 is that IPv4 address.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().or_else(|| behind_nat64(v6)).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn behind_nat64(address: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    Some((u32::from(high) << 16 | u32::from(low)).into())
}

/// Whether an address is one at which no server of a stranger stands.
fn is_inside(address: IpAddr) -> bool {
    let address = unmapped(address);
    INSIDE.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&address))
}

fn trust(authority: Option<PathBuf>) -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(path) => {
            let wrong = |why: String| FetchError::File { path: path.clone(), why };
            let certificates = CertificateDer::pem_file_iter(&path).map_err(|error| wrong(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    // Named, because two providers may be linked and rustls would not choose between them.
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| FetchError::Url(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_07_addresses_inside_are_known_in_every_disguise() {
        for text in [
            "127.0.0.1",
            "169.254.169.254",
            "10.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "fe80::1",
            "fd00::1",
            "0.0.0.0",
            "100.100.100.200",
            "2002:7f00:1::",
            "224.0.0.1",
            "::",
        ] {
            assert!(is_inside(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(!is_inside(text.parse().unwrap()), "{text}");
        }
    }

    async fn refused(base: &str, allow: &[&str]) -> String {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        let fetcher = Fetcher::new(base, allow, None, None).unwrap();
        fetcher.get(&fetcher.base().clone(), &[]).await.map(|_| ()).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_07_a_server_inside_is_refused_after_resolution_and_one_elsewhere_is_never_asked() {
        for base in ["http://169.254.169.254/latest", "https://[::1]/", "https://localhost/x", "http://127.0.0.1:1/"] {
            let error = refused(base, &[]).await;
            assert!(error.contains("is inside"), "{base}: {error}");
        }
        assert!(
            refused("https://localhost:1/", &["127.0.0.0/8", "::1/128"]).await.starts_with("localhost:"),
            "permitted, and nobody is there"
        );
        assert!(Fetcher::new("file:///etc/passwd", Vec::new(), None, None).is_err());
        let fetcher = Fetcher::new("http://127.0.0.1:1/a", vec!["127.0.0.0/8".parse().unwrap()], None, None).unwrap();
        let elsewhere = Url::parse("http://127.0.0.1:2/b").unwrap();
        assert!(matches!(fetcher.get(&elsewhere, &[]).await, Err(FetchError::Redirect { .. })));
    }
}
