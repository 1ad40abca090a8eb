//! Page: the dashboard, which is in this binary as it stands in `page/`. It holds nothing; what it shows it asks for with the token of whoever
//! looks.

use crate::http::Local;
use axum::{
    Router,
    extract::{Path, State},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::get,
};

/// Its files, by name.
const FILES: [(&str, &[u8]); 8] = [
    ("index.html", include_bytes!("page/index.html")),
    ("style.css", include_bytes!("page/style.css")),
    ("mark.svg", include_bytes!("page/mark.svg")),
    ("app.js", include_bytes!("page/app.js")),
    ("api.js", include_bytes!("page/api.js")),
    ("dom.js", include_bytes!("page/dom.js")),
    ("parts.js", include_bytes!("page/parts.js")),
    ("views.js", include_bytes!("page/views.js")),
];

/// The routes, which need no token.
pub(super) fn router(local: Local) -> Router {
    Router::new()
        .route("/", get(|| async { file("index.html") }))
        .route("/page/{name}", get(|Path(name): Path<String>| async move { file(&name) }))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(local)
}

/// `GET /ready`: 200 if the node answers and its answers are current. It needs no token and reveals nothing else.
async fn ready(State(local): State<Local>) -> Response {
    let why = match () {
        () if local.enforcer.awaits() => "it was away, and has not heard what was taken back meanwhile",
        () if !local.ledger.damage().is_empty() => "its journal is damaged",
        () => match local.admission.busy().await {
            Some(busy) => return unready(&busy),
            None => return "ready\n".into_response(),
        },
    };
    unready(why)
}

fn unready(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}; see `huecry status`\n")).into_response()
}

fn file(name: &str) -> Response {
    let Some((_, bytes)) = FILES.iter().find(|(known, _)| *known == name) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "image/svg+xml",
    };
    let fresh = HeaderValue::from_static("no-cache");
    ([(CONTENT_TYPE, HeaderValue::from_static(kind)), (CACHE_CONTROL, fresh)], *bytes).into_response()
}
