//! The page: a few static files, built into the program.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let routes = Router::new()
        .route("/", file("index.html", include_str!("page/index.html")))
        .route("/favicon.ico", file("icon.svg", include_str!("page/icon.svg")));
    FILES
        .iter()
        .fold(routes, |routes, (name, content)| routes.route(&format!("/page/{name}"), file(name, content)))
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("page/", $name)))),*]
    };
}
const FILES: &[(&str, &str)] = files![
    "api.js",
    "app.js",
    "base.css",
    "charts.css",
    "charts.js",
    "columns.css",
    "conversation.js",
    "dialog.css",
    "dialog.js",
    "dom.js",
    "me.js",
    "messages.css",
    "messages.js",
    "nodes.css",
    "nodes.js",
    "rooms.css",
    "rooms.js",
    "search.js",
    "storage.js",
    "token.js",
    "tones.js",
    "trouble.js",
];

fn file<S: Clone + Send + Sync + 'static>(name: &str, content: &'static str) -> MethodRouter<S> {
    let kind = match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    };
    get(move || async move { ([(header::CONTENT_TYPE, kind)], GUARDS, content).into_response() })
}

/// The page runs its own scripts and no others, whatever people write.
const GUARDS: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-cache"),
];
