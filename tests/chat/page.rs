//! The page in a browser, worked by keyboard.

use pg_cluster::Cluster;
use serde_json::json;

use crate::browser::{Browser, Window, browser};
use crate::service::{Service, command_on, name_of};

/// Opens the page and signs in, as somebody without a mouse would.
async fn join<'a>(browser: &'a Browser, service: &Service, name: &str) -> Window<'a> {
    let window = browser.open(&format!("http://{}/", service.address()), 1280, 800).await;
    sign_in(&window, name).await;
    window
}

async fn sign_in(window: &Window<'_>, name: &str) {
    window.until("the page asks for a name", "document.activeElement?.id === 'ask-text'").await;
    window.enter(name).await;
    window.press("Enter").await;
    let signed_in = format!("document.getElementById('my-name').textContent === {}", json!(name));
    window.until("the name is taken", &signed_in).await;
}

async fn say(window: &Window<'_>, text: &str) {
    window.until("one can write", "!document.getElementById('compose-body').disabled").await;
    window.eval("document.getElementById('compose-body').focus()").await;
    window.enter(text).await;
    window.press("Enter").await;
}

/// Waits until a message is there, once, as the text that it is.
async fn sees(window: &Window<'_>, author: &str, text: &str) {
    let bodies = "[...document.querySelectorAll('#messages .message[data-message]')]";
    let is_it = format!(
        "m.querySelector('.body').textContent === {} && m.querySelector('b').textContent === {}",
        json!(text),
        json!(author)
    );
    window.until(&format!("{text:?} shows"), &format!("{bodies}.filter((m) => {is_it}).length === 1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_windows_chat_with_each_other() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;

    let ada = join(&browser, &service, "Ada").await;
    ada.until("it says that there is no room", "!document.getElementById('empty').hidden").await;
    ada.eval("document.getElementById('new-room').focus()").await;
    ada.press("Enter").await;
    ada.until("it asks for the room's name", "document.activeElement?.id === 'ask-text'").await;
    ada.press("Enter").await;
    ada.until("the room is open", "document.getElementById('room-name').textContent === 'general'").await;
    let bob = join(&browser, &service, "Bob").await;
    bob.until("the room is open", "document.getElementById('room-name').textContent === 'general'").await;

    say(&ada, "Hello Bob").await;
    sees(&ada, "Ada", "Hello Bob").await;
    sees(&bob, "Ada", "Hello Bob").await;
    // What people write is text, whatever it looks like.
    let markup = r#"<img src=x onerror="document.title='gone'"><b>Hi</b> & bye"#;
    say(&bob, markup).await;
    sees(&bob, "Bob", markup).await;
    sees(&ada, "Bob", markup).await;
    assert_eq!(ada.eval("document.querySelectorAll('#messages img').length").await, 0);
    ada.until("it is announced", "document.getElementById('announce').textContent.includes('Bob')").await;
    let reader = "document.getElementById('served-by').textContent";
    let replicas: Vec<_> = cluster.replicas().iter().map(name_of).collect();
    ada.until("a replica is named as the source", &format!("{}.includes({reader})", json!(replicas))).await;

    // A room that is not open counts what is new in it.
    let bob_id = service.get("/api/users?name=Bob").await.expect(200)[0]["id"].as_i64().expect("an id");
    let other = service.create_room("other").await;
    service.say(other, bob_id, "over here").await;
    let badge = format!("document.querySelector('[data-room=\"{other}\"] .badge')");
    ada.until("it shows as unread", &format!("{badge}?.textContent === '1' && !{badge}.hidden")).await;
    ada.until("the title says so", "document.title.startsWith('(1)')").await;
    ada.eval(&format!("document.querySelector('[data-room=\"{other}\"] a').click()")).await;
    sees(&ada, "Bob", "over here").await;
    ada.until("it counts as read", &format!("{badge}.hidden && !document.title.startsWith('(')")).await;

    // Bob comes back, under his own name.
    bob.reload().await;
    sees(&bob, "Ada", "Hello Bob").await;
    assert_eq!(bob.eval("document.querySelectorAll('.mine').length").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_replica_is_seen_to_leave_the_healthy_ones_and_to_return() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let room = service.create_room("general").await;
    let window = join(&browser, &service, "Ada").await;
    let ada = service.get("/api/users?name=Ada").await.expect(200)[0]["id"].as_i64().expect("an id");
    let healthy = "document.getElementById('healthy').textContent";
    window.until("all are healthy", &format!("{healthy} === '3 of 3 healthy'")).await;

    let laggard = format!("document.querySelector('[data-node={}]')", json!(name_of(cluster.replica(0))));
    let share = format!("{laggard}.querySelector('.share').textContent");
    window.until("it serves a share of the reads", &format!("parseInt({share}) > 0")).await;
    cluster.replica(0).pause_replay().await.expect("replay pauses");
    service.say(room, ada, "a message that the replica lacks").await;
    window.until("it left", &format!("{healthy} === '2 of 3 healthy'")).await;
    window.until("it is the one", &format!("{laggard}.dataset.health !== 'healthy'")).await;
    let reason = format!("{laggard}.querySelector('.reason')");
    window.until("it says why", &format!("!{reason}.hidden && {reason}.textContent.includes('lag')")).await;
    window.until("its share sinks to nothing", &format!("parseInt({share}) === 0")).await;
    // The page reads from the others meanwhile.
    sees(&window, "Ada", "a message that the replica lacks").await;

    cluster.replica(0).resume_replay().await.expect("replay resumes");
    window.until("it returned", &format!("{healthy} === '3 of 3 healthy'")).await;
    window.until("both are told", "document.querySelectorAll('#events li').length >= 2").await;
    window.until("it serves again", &format!("parseInt({share}) > 0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_search_are_within_reach_of_the_keyboard_on_a_phone() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let (grace, room) = (service.create_user("Grace").await, service.create_room("general").await);
    for number in 0..120 {
        service.say(room, grace, &format!("message {number}")).await;
    }

    let window = browser.open(&format!("http://{}/", service.address()), 390, 844).await;
    sign_in(&window, "Ada").await;
    sees(&window, "Grace", "message 119").await;
    let wide = "document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(window.eval(wide).await, true, "nothing sticks out of a phone");
    assert_eq!(window.eval("document.getElementById('nodes-panel').open").await, false, "folded at first");
    assert_eq!(window.eval("document.querySelectorAll('#messages .message').length").await, 50);
    for all in [100, 120] {
        window.eval("document.getElementById('scroller').scrollTop = 0").await;
        let there = format!("document.querySelectorAll('#messages .message').length === {all}");
        window.until("older messages come", &there).await;
    }
    window.until("that was all", "document.getElementById('older').hidden").await;
    let in_order =
        "[...document.querySelectorAll('#messages .body')].every((b, i) => b.textContent === `message ${i}`)";
    assert_eq!(window.eval(in_order).await, true);

    window.eval("document.getElementById('search-terms').focus()").await;
    window.enter("MESS 7").await;
    window.press("Enter").await;
    let found = "document.querySelectorAll('#found-list .message').length";
    window.until("it finds 7 and 70 to 79", &format!("{found} === 11")).await;
    assert_eq!(window.eval("document.querySelector('#found-list mark').textContent").await, "mess");
    window.press("Escape").await;
    window.until("back in the room", "document.activeElement?.id === 'compose-body'").await;

    window.reload().await;
    sees(&window, "Grace", "message 119").await;
    window.press("Tab").await;
    let skip = "document.activeElement.className === 'skip' && document.activeElement.getBoundingClientRect().top >= 0";
    window.until("the first stop is the way past the rooms", skip).await;
    window.press("Enter").await;
    window.until("which leads to writing", "document.activeElement?.id === 'compose-body'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_outlives_the_server() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().start().await.expect("a cluster");
    let mut service = Service::on(&cluster).await;
    service.create_room("general").await;
    let window = join(&browser, &service, "Ada").await;
    say(&window, "before").await;
    sees(&window, "Ada", "before").await;
    let banner = "document.getElementById('banner')";
    assert_eq!(window.eval(&format!("{banner}.hidden")).await, true);

    let address = service.address().to_string();
    service.signal("-TERM").await;
    service.ended().await;
    window.until("it says that the server is gone", &format!("!{banner}.hidden")).await;
    say(&window, "meanwhile").await;
    window.until("it says that this was not sent", "document.querySelector('.failed .state')").await;

    let mut command = command_on(&cluster);
    command.env("CHAT_ADDR", address);
    let service = Service::start(command).await;
    service.ready().await;
    window.until("it goes on by itself", &format!("{banner}.hidden")).await;
    window.eval("document.querySelector('.failed .state button').click()").await;
    sees(&window, "Ada", "meanwhile").await;
    sees(&window, "Ada", "before").await;
}
