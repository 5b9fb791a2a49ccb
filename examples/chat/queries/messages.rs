use diesel::prelude::*;
use diesel_replicas::{Reader, RunQueryDsl, WriteConn};

use crate::models::Message;
use crate::schema::messages;
use crate::schema::sql_types::Tsquery;
use crate::text::{Body, ClientKey, Terms};

diesel::infix_operator!(Matches, " @@ ", backend: diesel::pg::Pg);

diesel::define_sql_function! {
    /// Comes with the migrations.
    fn word_prefixes(terms: diesel::sql_types::Text) -> diesel::sql_types::Nullable<Tsquery>;
}

/// A part of a room's history: the newest `limit` messages older than `before`.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub before: Option<i64>,
    pub limit: i64,
}

/// Newest first.
pub async fn history(conn: &mut Reader, room: i64, page: Page) -> QueryResult<Vec<Message>> {
    Message::query()
        .filter(messages::room_id.eq(room))
        .filter(messages::id.lt(page.before.unwrap_or(i64::MAX)))
        .order(messages::id.desc())
        .limit(page.limit)
        .load(conn)
        .await
}

/// Messages with words that begin with each of the terms, newest first.
pub async fn search(conn: &mut Reader, room: i64, terms: &Terms, page: Page) -> QueryResult<Vec<Message>> {
    Message::query()
        .filter(messages::room_id.eq(room))
        .filter(messages::id.lt(page.before.unwrap_or(i64::MAX)))
        .filter(Matches::new(messages::words, word_prefixes(terms.as_str())))
        .order(messages::id.desc())
        .limit(page.limit)
        .load(conn)
        .await
}

/// What became of a message that was sent.
pub enum Posted {
    New(Message),
    /// Its author had sent one with the same key before: this is that one.
    Again(Message),
}

pub async fn post(
    conn: &mut WriteConn,
    room: i64,
    author: i64,
    body: &Body,
    key: Option<&ClientKey>,
) -> QueryResult<Posted> {
    let key = key.map(ClientKey::as_str);
    let inserted = diesel::insert_into(messages::table)
        .values((
            messages::room_id.eq(room),
            messages::author_id.eq(author),
            messages::body.eq(body.as_str()),
            messages::client_key.eq(key),
        ))
        .on_conflict((messages::room_id, messages::author_id, messages::client_key))
        .do_nothing()
        .returning(messages::id)
        .get_result::<i64>(conn)
        .await
        .optional()?;
    match inserted {
        Some(id) => by_id(conn, id).await.map(Posted::New),
        None => by_key(conn, room, author, key).await.map(Posted::Again),
    }
}

async fn by_id(conn: &mut Reader, id: i64) -> QueryResult<Message> {
    Message::query().filter(messages::id.eq(id)).first(conn).await
}

async fn by_key(conn: &mut Reader, room: i64, author: i64, key: Option<&str>) -> QueryResult<Message> {
    Message::query()
        .filter(messages::room_id.eq(room))
        .filter(messages::author_id.eq(author))
        .filter(messages::client_key.eq(key))
        .first(conn)
        .await
}
