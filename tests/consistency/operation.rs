//! What a window asks of the service, and what the answer says.

use crate::history::{Answer, Fact, MessageLine, Page, RoomLine};
use crate::http;
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    SignUp { name: String },
    FoundRoom { name: String },
    Post { room: i64, key: String },
    MarkRead { room: i64, message: i64 },
    History { room: i64, before: Option<i64>, limit: usize },
    Search { room: i64, limit: usize },
    Rooms,
    FindUser { name: String },
}

/// What is known after an answer.
#[derive(Debug)]
pub enum Outcome {
    Wrote(Fact),
    Read(Answer),
    /// A write that may have been done or not, or a read that showed nothing.
    Unknown,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Asker {
    pub id: i64,
    /// A word that is in all messages of this user and in no other.
    pub word: String,
}

#[derive(Deserialize)]
struct Row {
    id: i64,
}

#[derive(Deserialize)]
struct MessageRow {
    id: i64,
    author_id: i64,
}

#[derive(Deserialize)]
struct MarkerRow {
    message_id: i64,
}

#[derive(Deserialize)]
struct RoomRow {
    id: i64,
    message_count: i64,
    unread_count: Option<i64>,
    last_message: Option<Row>,
}

impl Operation {
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Self::SignUp { .. } | Self::FoundRoom { .. } | Self::Post { .. } | Self::MarkRead { .. }
        )
    }

    /// Method, path and body.
    pub fn request(&self, asker: &Asker) -> (Method, String, Option<String>) {
        let messages = |room: &i64| format!("/api/rooms/{room}/messages");
        let name = |name: &String| Some(json!({ "name": name }).to_string());
        match self {
            Self::SignUp { name: new } => (Method::POST, "/api/users".to_owned(), name(new)),
            Self::FoundRoom { name: new } => (Method::POST, "/api/rooms".to_owned(), name(new)),
            Self::Post { room, key } => {
                let body =
                    format!("{} says {key}, and what else there is to say on a day like this", asker.word);
                let body = json!({ "author_id": asker.id, "body": body, "client_key": key });
                (Method::POST, messages(room), Some(body.to_string()))
            }
            Self::MarkRead { room, message } => {
                let body = json!({ "user_id": asker.id, "message_id": message });
                (Method::PUT, format!("/api/rooms/{room}/read"), Some(body.to_string()))
            }
            Self::History { room, before, limit } => {
                let before = before.map_or_else(String::new, |before| format!("&before={before}"));
                (Method::GET, format!("{}?limit={limit}{before}", messages(room)), None)
            }
            Self::Search { room, limit } => {
                let path = format!("/api/rooms/{room}/search?q={}&limit={limit}", asker.word);
                (Method::GET, path, None)
            }
            Self::Rooms => (Method::GET, format!("/api/rooms?user_id={}", asker.id), None),
            Self::FindUser { name } => (Method::GET, format!("/api/users?name={name}"), None),
        }
    }

    /// What the answer to it says. Of all rooms only those of `rooms` matter.
    pub fn outcome(&self, asker: &Asker, rooms: &[i64], answer: &http::Answer) -> Outcome {
        match (answer.status.as_u16(), self) {
            (201, Self::SignUp { name }) => Outcome::Wrote(Fact::User(name.clone())),
            (201, Self::FoundRoom { .. }) => Outcome::Wrote(Fact::Room(parse::<Row>(answer).id)),
            (200 | 201, Self::Post { room, .. }) => {
                Outcome::Wrote(Fact::Message { room: *room, id: parse::<Row>(answer).id })
            }
            (200, Self::MarkRead { room, .. }) => {
                let message = parse::<MarkerRow>(answer).message_id;
                Outcome::Wrote(Fact::Marker { room: *room, message })
            }
            (200 | 404, Self::History { room, before, limit }) => {
                page(asker, answer, *room, *before, *limit, false)
            }
            (200 | 404, Self::Search { room, limit }) => page(asker, answer, *room, None, *limit, true),
            (200, Self::Rooms) => {
                let lines = parse::<Vec<RoomRow>>(answer).into_iter().filter(|row| rooms.contains(&row.id));
                let lines = lines.map(|row| RoomLine {
                    room: row.id,
                    messages: row.message_count,
                    unread: row.unread_count.unwrap_or_default(),
                    last: row.last_message.map(|last| last.id),
                });
                Outcome::Read(Answer::Rooms(lines.collect()))
            }
            (200, Self::FindUser { name }) => {
                let found = !parse::<Vec<Row>>(answer).is_empty();
                Outcome::Read(Answer::User { name: name.clone(), found })
            }
            _ => Outcome::Unknown,
        }
    }
}

fn page(
    asker: &Asker,
    answer: &http::Answer,
    room: i64,
    before: Option<i64>,
    limit: usize,
    own: bool,
) -> Outcome {
    let messages = (answer.status != 404).then(|| {
        let rows = parse::<Vec<MessageRow>>(answer).into_iter();
        rows.map(|row| MessageLine { id: row.id, own: row.author_id == asker.id }).collect()
    });
    Outcome::Read(Answer::Messages(Page { room, before, limit, own, messages }))
}

fn parse<T: DeserializeOwned>(answer: &http::Answer) -> T {
    serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {}", answer.text))
}
