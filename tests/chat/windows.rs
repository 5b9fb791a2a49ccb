//! Who posts sees the post in the page's next read, after a reload and in other windows, while replicas are held back.

use pg_cluster::Cluster;
use serde_json::json;

use crate::browser::{User, Window, browser};
use crate::freshness::{foreign_token, hold_back, service_without_lag_limit};
use crate::page::{say, sees, sign_in};
use crate::service::Service;

/// Notes what each answer to a request for messages held, in the order of the requests.
const NOTE_HISTORIES: &str = r#"
    window.histories = [];
    const real = fetch;
    window.fetch = async (path, options) => {
        const isHistory = options.method === "GET" && path.endsWith("/messages");
        const at = isHistory && histories.push(null) - 1;
        const answer = await real(path, { ...options, credentials: window.credentials });
        if (isHistory) histories[at] = (await answer.clone().json()).map((message) => message.body);
        return answer;
    };
"#;

/// The page gets no cookie, and has what it keeps itself.
const WITHOUT_COOKIES: &str = r#"window.credentials = "omit";"#;

/// The page can keep nothing for another window, and has the cookie.
const WITHOUT_STORAGE: &str = r#"
    Object.defineProperty(window, "localStorage", { get() { throw new Error("no storage here"); } });
"#;

/// A new window of this user that shows the page.
async fn open<'a>(user: &User<'a>, service: &Service, limits: &str) -> Window<'a> {
    let window = user.window().await;
    window.run_first(&format!("{limits}{NOTE_HISTORIES}")).await;
    window.go(&format!("http://{}/", service.address())).await;
    window
}

/// Checks that the first read of a page just loaded finds the text.
async fn finds_at_once(window: &Window<'_>, text: &str) {
    finds(window, text, 0).await;
}

/// Checks that the read of this number finds the text.
async fn finds(window: &Window<'_>, text: &str, read: u64) {
    let found = format!("window.histories?.[{read}]");
    window.until("messages were read", &found).await;
    let found = window.eval(&found).await;
    assert!(found.as_array().is_some_and(|bodies| bodies.contains(&json!(text))), "{text:?}: {found}");
}

/// Says something, and checks that the next read finds it.
async fn says_and_finds(window: &Window<'_>, author: &str, text: &str) {
    say(window, text).await;
    sees(window, author, text).await;
    let reads = window.eval("histories.length").await;
    finds(window, text, reads.as_u64().expect("a number")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_each_post_in_all_windows_at_once() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = service_without_lag_limit(&cluster).await;
    service.create_room("general").await;

    let (ada, bob) = (browser.user().await, browser.user().await);
    let window = open(&ada, &service, WITHOUT_COOKIES).await;
    let of_bob = open(&bob, &service, WITHOUT_STORAGE).await;
    sign_in(&window, "Ada").await;
    sign_in(&of_bob, "Bob").await;
    service.replicated(&cluster).await;
    hold_back(&cluster).await;

    says_and_finds(&window, "Ada", "from the first window").await;
    window.reload().await;
    finds_at_once(&window, "from the first window").await;
    let other = open(&ada, &service, WITHOUT_COOKIES).await;
    finds_at_once(&other, "from the first window").await;
    says_and_finds(&other, "Ada", "from the other window").await;
    sees(&window, "Ada", "from the other window").await;

    of_bob.eval(WITHOUT_COOKIES).await;
    says_and_finds(&of_bob, "Bob", "from memory alone").await;
    of_bob.eval("delete window.credentials").await;
    says_and_finds(&of_bob, "Bob", "with a cookie").await;
    of_bob.reload().await;
    sign_in(&of_bob, "Bob").await;
    finds_at_once(&of_bob, "with a cookie").await;
    let other_of_bob = open(&bob, &service, WITHOUT_STORAGE).await;
    sign_in(&other_of_bob, "Bob").await;
    finds_at_once(&other_of_bob, "with a cookie").await;

    // A name that no replica knows yet, and that is taken.
    service.create_user("Grace").await;
    let grace = open(&browser.user().await, &service, WITHOUT_COOKIES).await;
    sign_in(&grace, "Grace").await;

    // As after the service has moved to another database.
    let foreign = json!(foreign_token());
    window.eval(&format!("localStorage.setItem('causal-token', {foreign})")).await;
    for (window, text) in [(&window, "in spite of a foreign token"), (&other, "in the other window as well")]
    {
        says_and_finds(window, "Ada", text).await;
        let is_dropped = format!("localStorage.getItem('causal-token') < {foreign}");
        window.until("it is dropped", &is_dropped).await;
    }
}
