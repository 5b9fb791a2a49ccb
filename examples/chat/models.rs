//! Rows, as they are loaded and as the API shows them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde::Serialize;

use crate::schema::{messages, read_markers, rooms, users};

#[derive(Debug, HasQuery, Serialize)]
pub struct User {
    pub id: i64,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug, HasQuery, Serialize)]
pub struct Room {
    pub id: i64,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

/// A message with the name of its author.
#[derive(Debug, HasQuery, Serialize)]
#[diesel(base_query = messages::table.inner_join(users::table))]
pub struct Message {
    pub id: i64,
    pub room_id: i64,
    pub author_id: i64,
    #[diesel(select_expression = users::name)]
    pub author: String,
    pub body: String,
    /// What its author called it when it was sent, so that the author knows it again.
    pub client_key: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// How far a user has read a room.
#[derive(Debug, Queryable, Selectable, Serialize)]
#[diesel(table_name = read_markers)]
pub struct ReadMarker {
    pub user_id: i64,
    pub room_id: i64,
    pub message_id: i64,
}

/// A room as the list of rooms shows it.
#[derive(Debug, Serialize)]
pub struct RoomSummary {
    #[serde(flatten)]
    pub room: Room,
    pub message_count: i64,
    /// Messages of others past the reader's marker; `None` when no reader was named.
    pub unread_count: Option<i64>,
    pub last_message: Option<Message>,
}

/// How many there are of each.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    pub users: i64,
    pub rooms: i64,
    pub messages: i64,
}
