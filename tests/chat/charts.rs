//! The charts of the last minutes, in a browser.

use pg_cluster::Cluster;
use serde_json::json;

use crate::browser::{Window, browser};
use crate::page::join;
use crate::service::{Service, name_of};

/// The nodes that a chart shows, as an expression: their names in a list, as text.
fn shown_in(chart: &str) -> String {
    format!("[...document.querySelectorAll('#{chart} [data-of]')].map((node) => node.dataset.of).join()")
}

/// The points of a node's line as an expression: a list of its runs, each a list of x and y.
fn runs_of(node: &str) -> String {
    let lines = format!("#lag-chart [data-of={}] path", json!(node));
    format!(
        "[...document.querySelectorAll({})].map((line) =>
            line.getAttribute('d').replace('h0', '').slice(1).split('L').map((point) => point.split(',').map(Number)))",
        json!(lines)
    )
}

/// Whether a node's line ends over that of the threshold, as an expression.
fn is_over(node: &str) -> String {
    let threshold = "Number(document.querySelector('#lag-chart .threshold line').getAttribute('y1'))";
    format!("{}.at(-1)?.at(-1)[1] < {threshold}", runs_of(node))
}

async fn label(window: &Window<'_>, chart: &str) -> String {
    let label = window.eval(&format!("document.getElementById('{chart}').getAttribute('aria-label')")).await;
    label.as_str().expect("a label").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_seen_to_rise_over_the_threshold_also_after_a_reload() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().replicas(2).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let room = service.create_room("general").await;
    let window = join(&browser, &service, "Ada").await;
    let ada = service.get("/api/users?name=Ada").await.expect(200)[0]["id"].as_i64().expect("an id");
    let [primary, laggard, other] = [0, 1, 2].map(|index| name_of(&cluster.nodes()[index]));

    let replicas = format!("{laggard},{other}");
    window
        .until("each replica has a line", &format!("{} === {}", shown_in("lag-chart"), json!(replicas)))
        .await;
    let all = format!("{primary},{replicas}");
    window.until("each node has a share", &format!("{} === {}", shown_in("share-chart"), json!(all))).await;
    let legend = "[...document.querySelectorAll('#legend li')].map((node) => node.textContent).join()";
    assert_eq!(window.eval(legend).await, all);
    let tone = |selector: &str| format!("getComputedStyle(document.querySelector({})).", json!(selector));
    let card = format!("{}backgroundColor", tone(&format!("[data-node={}] .swatch", json!(laggard))));
    let line = format!("{}stroke", tone(&format!("#lag-chart [data-of={}] path", json!(laggard))));
    assert_eq!(window.eval(&card).await, window.eval(&line).await, "one colour a node");
    assert_eq!(window.eval(&is_over(&laggard)).await, false);

    cluster.replica(0).pause_replay().await.expect("replay pauses");
    service.say(room, ada, "a message that the replica lacks").await;
    window.until("its line is over the threshold", &is_over(&laggard)).await;
    assert_eq!(window.eval(&is_over(&other)).await, false);
    let out = format!("document.querySelector('#lag-chart [data-of={}] .out')", json!(laggard));
    window.until("it is drawn as one that takes no reads", &out).await;
    let lag = label(&window, "lag-chart").await;
    assert!(
        lag.contains(&format!("{laggard} at most ")) && lag.contains(&format!("{other} at most ")),
        "{lag}"
    );
    let label_of_shares = "document.getElementById('share-chart').getAttribute('aria-label')";
    let none = json!(format!("{laggard} 0 %"));
    window.until("its share sinks to nothing", &format!("{label_of_shares}.includes({none})")).await;

    // The past is the service's: a page that is new has all of it.
    let looks = format!("{}.flat().length", runs_of(&laggard));
    let before = window.eval(&looks).await.as_u64().expect("a number");
    window.reload().await;
    window.until("the chart is there", "!document.getElementById('charts').hidden").await;
    let after = window.eval(&looks).await.as_u64().expect("a number");
    assert!(after >= before, "{after} points after {before}");
    assert_eq!(window.eval(&is_over(&laggard)).await, true);
    assert_eq!(window.eval(&shown_in("lag-chart")).await, replicas);
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_that_nobody_knows_is_a_gap() {
    let Some(browser) = browser().await else { return };
    let cluster = Cluster::builder().replicas(1).start().await.expect("a cluster");
    let service = Service::on(&cluster).await;
    let window = join(&browser, &service, "Ada").await;
    let replica = name_of(cluster.replica(0));
    window.until("it has a line", &format!("{}.flat().length > 1", runs_of(&replica))).await;

    cluster.replica(0).kill().await.expect("the replica dies");
    let label_of_lag = "document.getElementById('lag-chart').getAttribute('aria-label')";
    let unknown = json!(format!("{replica} unknown"));
    window.until("its lag is not known", &format!("{label_of_lag}.includes({unknown})")).await;
    cluster.replica(0).start().await.expect("the replica starts");
    let apart = format!(
        "{}.some((run, index, runs) => index > 0 && run[0][0] > runs[index - 1].at(-1)[0])",
        runs_of(&replica)
    );
    window.until("its line goes on after a gap", &apart).await;
}
