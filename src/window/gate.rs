//! Gate: what a request over TCP has to show before anybody answers it.
//!
//! ```text
//! request -Host is ours-> -Origin is ours, or none-> -token-> Caller::Token -> the handler's own checks
//!             '- 403         '- 403                   '- 401
//! ```
//!
//! A browser that a stranger's page has sent here cannot pass: it says the name under which it was tricked into finding us
//! (A-01), says where the page is from (A-02), and has no token to add by itself, because there are no cookies. Nothing in a
//! request beside its token changes who asks or what policies say (A-08).

use crate::{
    config::WindowConfig,
    http::{Caller, Local},
};
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
        header::{
            AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

/// A page of ours loads nothing from elsewhere, runs no script but ours, is shown in nobody's frame.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
/// The header in which clients of CrowdSec's API show their token.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the gate of one address knows.
#[derive(Clone)]
pub(super) struct Gate {
    local: Local,
    /// Under which names, with their port, this address is called.
    hosts: Arc<BTreeSet<String>>,
    scheme: &'static str,
}

impl Gate {
    pub fn new(local: Local, config: &WindowConfig, address: SocketAddr) -> Self {
        let (port, tls) = (address.port(), config.certificate.is_some());
        let usual = if tls { 443 } else { 80 };
        let mut names: BTreeSet<String> = config.hosts.iter().map(|name| name.to_ascii_lowercase()).collect();
        if address.ip().is_loopback() {
            names.extend(["localhost".to_owned()]);
        }
        if !address.ip().is_unspecified() {
            names.insert(if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() });
        }
        let mut hosts: BTreeSet<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        // A port that goes without saying is left out by clients; one that a proxy in front has, nobody here knows.
        hosts.extend(names.iter().filter(|_| port == usual).cloned());
        hosts.extend(config.hosts.iter().map(|name| name.to_ascii_lowercase()));
        Self { local, hosts: Arc::new(hosts), scheme: if tls { "https" } else { "http" } }
    }

    /// Whether a request says one name, and that one is ours.
    fn is_ours(&self, request: &Request<Body>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let known = |host: &str| self.hosts.contains(&host.to_ascii_lowercase());
        host.to_str().is_ok_and(known) && request.uri().authority().is_none_or(|authority| known(authority.as_str()))
    }

    /// Whether a request comes from a page of ours, or from none.
    fn is_from_here(&self, headers: &HeaderMap) -> bool {
        let origin = |value: &HeaderValue| {
            let origin = value.to_str().ok().and_then(|text| text.split_once("://"));
            origin.is_some_and(|(scheme, host)| {
                // Behind a proxy that does TLS a page of ours is https although this address is not.
                (scheme == self.scheme || scheme == "https") && self.hosts.contains(&host.to_ascii_lowercase())
            })
        };
        let site = headers.get(FETCH_SITE).is_none_or(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
        headers.get_all(ORIGIN).iter().all(origin) && site
    }
}

/// A token that a request shows: as a bearer (RFC 6750), as TAXII's clients do, as the password of HTTP Basic (RFC 7617), or as
/// clients of CrowdSec's API do. Whoever shows two shows none.
fn token(headers: &HeaderMap) -> Option<String> {
    let mut shown = Vec::new();
    for value in headers.get_all(AUTHORIZATION) {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        shown.push(match scheme.to_ascii_lowercase().as_str() {
            "bearer" | "token" => rest.trim().to_owned(),
            "basic" => {
                let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
                pair.split_once(':')?.1.to_owned()
            }
            _ => return None,
        });
    }
    for value in headers.get_all(API_KEY) {
        shown.push(value.to_str().ok()?.to_owned());
    }
    match &mut shown[..] {
        [one] => Some(std::mem::take(one)),
        _ => None,
    }
}

/// Puts a router behind the gate.
pub(super) fn behind(router: Router, gate: Gate) -> Router {
    router.layer(from_fn_with_state(gate, pass))
}

async fn pass(State(gate): State<Gate>, request: Request<Body>, next: Next) -> Response {
    let mut response = answer(&gate, request, next).await;
    let headers = response.headers_mut();
    let fixed = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(PAGE_POLICY));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn answer(gate: &Gate, mut request: Request<Body>, next: Next) -> Response {
    if !gate.is_ours(&request) {
        return refuse(
            StatusCode::FORBIDDEN,
            "this node is not called so here; `hosts` under [window] in node.toml names what it is called",
        );
    }
    if !gate.is_from_here(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "a page from elsewhere asks; this node answers its own");
    }
    if is_open(&request) {
        return next.run(request).await;
    }
    let found = token(request.headers()).and_then(|text| gate.local.tokens.find(&text, gate.local.clock.moment().latest));
    let Some(entry) = found else {
        let mut refused = refuse(StatusCode::UNAUTHORIZED, "show a token that counts: `huecry token new` makes one");
        // A browser that is offered Basic asks its user for a password.
        let offered = if request.uri().path().starts_with("/taxii2") { "Basic realm=\"huecry\"" } else { "Bearer realm=\"huecry\"" };
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(offered));
        return refused;
    };
    request.extensions_mut().insert(Caller::Token(Arc::new(entry)));
    next.run(request).await
}

/// What anybody may look at who gets here: the page, which holds nothing, and whether we live.
fn is_open(request: &Request<Body>) -> bool {
    let path = request.uri().path();
    matches!(*request.method(), Method::GET | Method::HEAD)
        && (path == "/" || path == "/health" || path == "/ready" || path.starts_with("/page/"))
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}
