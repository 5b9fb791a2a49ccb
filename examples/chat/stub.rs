//! Stands in for the layer.
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use diesel_replicas::{Router, TokenKeys};

fn head(request: &Request, name: &str) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
}

pub async fn causal(
    State((router, keys)): State<(Router, TokenKeys)>,
    mut request: Request,
    next: Next,
) -> Response {
    let session = router.session();
    let from_header = head(&request, "x-causal-token");
    let cookies = head(&request, "cookie");
    let from_cookie =
        cookies.split("; ").find_map(|cookie| cookie.strip_prefix("causal_token=")).unwrap_or("");
    for text in [&from_header, from_cookie] {
        if let Ok(token) = keys.verify(text) {
            session.observe(token);
        }
    }
    let before = session.token().await;
    request.extensions_mut().insert(session.clone());
    let mut response = next.run(request).await;
    let written = session.token_of_writes().await;
    let all = session.token().await;
    if let Some(token) = written.filter(|_| written != before) {
        let cookie =
            format!("causal_token={}; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600", keys.sign(&token));
        response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).expect("ascii"));
    }
    if let Some(token) = all.filter(|_| all != before) {
        let text = keys.sign(&token);
        response.headers_mut().insert("x-causal-token", HeaderValue::from_str(&text).expect("ascii"));
    }
    response
}
