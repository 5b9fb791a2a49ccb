//! `GET /api/history`: the last five minutes of the nodes, a look a second. Asks no node.
//!
//! `span_ms` and `interval_ms` say how far back it goes and how often it looked; `ages_ms` how long ago each look was, the oldest
//! first. `nodes` has up to 32, in the order in which they came, those of the last five minutes that are gone among them. Each has
//! its `name`, and lists with one value for each look:
//!
//! | field | is |
//! |---|---|
//! | `lag_ms` | how far it was behind, at most |
//! | `reads` | connections for reading given out since the look before |
//! | `health` | as in `/api/status` |
//!
//! What is unknown, or has no meaning for the node's role, is `null`, and so is everything of a node that was not there.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::App;
use super::status::whole_ms;
use crate::history::{INTERVAL, SPAN, Track};

#[derive(Serialize)]
pub struct History {
    span_ms: u64,
    interval_ms: u64,
    ages_ms: Vec<u64>,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    lag_ms: Vec<Option<u64>>,
    reads: Vec<Option<u64>>,
    health: Vec<Option<String>>,
}

impl History {
    fn of(ages: Vec<Duration>, tracks: &[Track]) -> Self {
        Self {
            span_ms: whole_ms(SPAN),
            interval_ms: whole_ms(INTERVAL),
            ages_ms: ages.into_iter().map(whole_ms).collect(),
            nodes: tracks.iter().map(Node::from).collect(),
        }
    }
}

impl From<&Track> for Node {
    fn from(track: &Track) -> Self {
        let points = || track.points.iter().copied();
        Self {
            name: track.name.clone(),
            lag_ms: points().map(|point| point?.lag.map(whole_ms)).collect(),
            reads: points().map(|point| Some(point?.reads)).collect(),
            health: points().map(|point| Some(point?.health.to_string())).collect(),
        }
    }
}

pub async fn nodes(State(app): State<App>) -> Json<History> {
    Json(app.history.show(History::of))
}
