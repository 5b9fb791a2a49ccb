//! The page in a browser, worked by keyboard.

use pg_cluster::Cluster;
use serde_json::{Value, json};

use crate::browser::{Browser, Window, browser};
use crate::service::{Service, command_on, name_of};

/// Opens the page and signs in, as somebody without a mouse would.
pub async fn join<'a>(browser: &'a Browser, service: &Service, name: &str) -> Window<'a> {
    let window = browser.open(&format!("http://{}/", service.address()), 1280, 800).await;
    sign_in(&window, name).await;
    window
}

pub async fn sign_in(window: &Window<'_>, name: &str) {
    window.until("the page asks for a name", "document.activeElement?.id === 'ask-text'").await;
    window.enter(name).await;
    window.press("Enter").await;
    let signed_in = format!("document.getElementById('my-name').textContent === {}", json!(name));
    window.until("the name is taken", &signed_in).await;
}

pub async fn say(window: &Window<'_>, text: &str) {
    window.until("one can write", "!document.getElementById('compose-body').disabled").await;
    window.eval("document.getElementById('compose-body').focus()").await;
    window.enter(text).await;
    window.press("Enter").await;
}

/// Waits until a message is there, once, as the text that it is.
pub async fn sees(window: &Window<'_>, author: &str, text: &str) {
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

    let laggard = card(&name_of(cluster.replica(0)));
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

/// The card of a node, as an expression.
fn card(node: &str) -> String {
    format!("document.querySelector('[data-node={}]')", json!(node))
}

/// The texts of what a selector finds, as an expression.
fn texts(selector: &str) -> String {
    format!("[...document.querySelectorAll('{selector}')].map((element) => element.textContent)")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_seen_to_move_the_writes() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    service.create_room("general").await;
    service.replicated(&cluster).await;
    let [old, promoted, _] = cluster.nodes() else { panic!("three nodes") };
    let (before, after) = (card(&name_of(old)), card(&name_of(promoted)));
    let window = join(&browser, &service, "Ada").await;
    say(&window, "before").await;
    sees(&window, "Ada", "before").await;
    service.replicated(&cluster).await;
    let first = "document.getElementById('nodes').firstChild";
    let takes_writes = |card: &str| {
        format!("!{card}.querySelector('.crown').hidden && {card}.textContent.includes('serves writes')")
    };
    window.until("the primary is first", &format!("{first} === {before} && {}", takes_writes(&before))).await;
    let banner = "document.getElementById('no-primary')";
    assert_eq!(window.eval(&format!("{banner}.hidden")).await, true);

    old.kill().await.expect("the primary dies");
    let says = format!("!{banner}.hidden && {banner}.textContent.startsWith('Writes fail: ')");
    window.until("it says that writes fail", &says).await;
    window.until("it says who is gone", &format!("{before}.dataset.health === 'unreachable'")).await;
    assert_eq!(window.eval(&format!("{before}.querySelector('.crown').hidden")).await, true);
    say(&window, "meanwhile").await;
    let failed = "document.querySelector('.failed')";
    let why = format!("{failed}?.textContent.includes('no primary takes writes right now')");
    window.until("it says why that was not sent", &why).await;
    assert_eq!(window.eval(&format!("{failed}.querySelector('.body').textContent")).await, "meanwhile");

    promoted.promote().await.expect("the replica is promoted");
    window
        .until("the new primary is first", &format!("{first} === {after} && {}", takes_writes(&after)))
        .await;
    window.until("writes fail no more", &format!("{banner}.hidden")).await;
    let facts = format!("{after}.querySelector('dl').textContent");
    window.until("it is on another timeline", &format!("{facts}.includes('Timeline2')")).await;
    let events = texts("#events li span");
    let moved = json!(format!("{} takes the writes", name_of(promoted)));
    window.until("it is told", &format!("{events}.includes({moved})")).await;
    window.eval(&format!("{failed}.querySelector('button').click()")).await;
    sees(&window, "Ada", "meanwhile").await;
    sees(&window, "Ada", "before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_come_go_and_change_do_so_on_the_page() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let window = join(&browser, &service, "Ada").await;
    // What the page is to show of nodes that nobody has: it asks a stand-in.
    let stand_in = "const real = fetch;
        window.fetch = (path, options) =>
            path === '/api/status' ? Promise.resolve(new Response(window.answer)) : real(path, options)";
    let show = async |nodes: &[Value], no_primary: Option<&str>| {
        let answer = json!({ "no_primary": no_primary, "nodes": nodes }).to_string();
        window.eval(&format!("window.answer = {}", json!(answer))).await;
    };
    let states = ["unproven", "healthy", "lagging", "unreachable", "ejected", "draining", "refused"];
    let mut nodes: Vec<_> = states.map(|state| node(&format!("db-{state}"), state)).into();
    nodes.push(node("db-primary", "healthy"));
    nodes[7]["role"] = "primary".into();
    nodes[7]["serves_writes"] = true.into();
    show(&nodes, None).await;
    window.eval(stand_in).await;

    // The primary comes first, the others in their order.
    let names = texts("#nodes h3");
    let wanted = json!([
        "db-primary",
        "db-unproven",
        "db-healthy",
        "db-lagging",
        "db-unreachable",
        "db-ejected",
        "db-draining",
        "db-refused"
    ]);
    window.until("all are there", &format!("{names}.join() === {wanted}.join()")).await;
    for state in states {
        let card = card(&format!("db-{state}"));
        window
            .until(
                &format!("it says {state}"),
                &format!("{card}.querySelector('.health').textContent.endsWith('{state}')"),
            )
            .await;
        let reason = format!("!{card}.querySelector('.reason').hidden");
        assert_eq!(window.eval(&reason).await, state != "healthy", "why {state}");
    }
    let signs = texts("#nodes [data-health] .health > :first-child");
    assert_eq!(window.eval(&format!("new Set({signs}).size")).await, states.len(), "a sign for each");
    assert_eq!(window.eval("document.querySelectorAll('.crown:not([hidden])').length").await, 1);

    // Reads and failures of the last seconds.
    nodes[1]["reads"] = 30.into();
    nodes[2]["reads"] = 10.into();
    nodes[2]["failed"] = 7.into();
    nodes[2]["replay_paused"] = true.into();
    nodes[2]["limitations"] = json!(["it says little"]);
    show(&nodes, None).await;
    let (fresh, laggard) = (card("db-healthy"), card("db-lagging"));
    window.until("shares show", &format!("{fresh}.textContent.includes('75 % · 30 in all')")).await;
    assert_eq!(window.eval(&format!("{laggard}.querySelector('.failures').textContent")).await, "7 (+7)");
    assert_eq!(
        window.eval(&format!("{laggard}.querySelector('.halted').textContent")).await,
        "replay is paused, it says little"
    );

    // One goes, one comes, and writes move, on the page that is open.
    nodes.remove(5);
    nodes.push(node("db-new", "unproven"));
    nodes[6]["serves_writes"] = false.into();
    nodes[1]["serves_writes"] = true.into();
    nodes[1]["role"] = "primary".into();
    show(&nodes, None).await;
    let wanted = json!([
        "db-healthy",
        "db-unproven",
        "db-lagging",
        "db-unreachable",
        "db-ejected",
        "db-refused",
        "db-primary",
        "db-new"
    ]);
    window.until("they have moved", &format!("{names}.join() === {wanted}.join()")).await;
    let events = window.eval(&texts("#events li span")).await;
    for told in ["db-draining removed", "db-new added, unproven", "db-healthy takes the writes"] {
        assert!(events.as_array().expect("a list").contains(&json!(told)), "{told}: {events}");
    }

    let why = "split brain: more than one node has been writable on one timeline";
    nodes[1]["serves_writes"] = false.into();
    show(&nodes, Some(why)).await;
    let banner = "document.getElementById('no-primary')";
    window
        .until("it says so", &format!("{banner}.textContent === 'Writes fail: {why}.' && !{banner}.hidden"))
        .await;
}

/// A replica in `/api/status`.
fn node(name: &str, health: &str) -> Value {
    json!({
        "name": name, "role": "replica", "health": health, "reason": "for some reason", "serves_reads": health == "healthy",
        "serves_writes": false, "spare": false, "lag_ms": 3, "lag_bytes": 0, "timeline": 1, "version": "15.18", "replay_paused": false,
        "receiver": "streaming", "limitations": [], "weight": 1, "zone": null, "in_flight": 0, "reads": 0, "writes": 0, "answered": 0, "failed": 0,
    })
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
