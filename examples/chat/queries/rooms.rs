use std::collections::HashMap;

use diesel::dsl::{count, exists, max, select};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz};
use diesel::upsert::excluded;
use diesel_replicas::{Reader, RunQueryDsl, WriteConn};

use crate::models::{Message, ReadMarker, Room, RoomSummary};
use crate::schema::{messages, read_markers, rooms};
use crate::text::Name;

diesel::define_sql_function! {
    #[sql_name = "coalesce"]
    fn time_or(time: diesel::sql_types::Nullable<Timestamptz>, otherwise: Timestamptz) -> Timestamptz;
}

diesel::define_sql_function! {
    fn greatest(a: BigInt, b: BigInt) -> BigInt;
}

/// At most this many rooms are listed.
pub const LISTED: i64 = 500;

/// The rooms, those with the latest news first. With a `reader`, how many messages of others each holds past that user's
/// marker.
pub async fn list(conn: &mut Reader, reader: Option<i64>) -> QueryResult<Vec<RoomSummary>> {
    let marker_of_reader =
        read_markers::room_id.eq(rooms::id).and(read_markers::user_id.nullable().eq(reader));
    let is_new = read_markers::message_id
        .nullable()
        .is_null()
        .or(messages::id.nullable().gt(read_markers::message_id.nullable()));
    let is_of_others = messages::author_id.nullable().ne(reader);
    let message = messages::id.nullable();

    let found = rooms::table
        .left_join(messages::table)
        .left_join(read_markers::table.on(marker_of_reader))
        .group_by(rooms::id)
        .select((
            Room::as_select(),
            count(message),
            // For a filter NULL is false.
            count(message).aggregate_filter(is_of_others.and(is_new).assume_not_null()),
            max(message),
        ))
        .order((time_or(max(messages::created_at.nullable()), rooms::created_at).desc(), rooms::id.desc()))
        .limit(LISTED)
        .load::<(Room, i64, i64, Option<i64>)>(conn)
        .await?;

    let last_ids: Vec<i64> = found.iter().filter_map(|(.., last)| *last).collect();
    let last_messages = Message::query().filter(messages::id.eq_any(last_ids)).load(conn).await?;
    let mut last_of: HashMap<i64, Message> = last_messages.into_iter().map(|m| (m.room_id, m)).collect();

    let summaries = found.into_iter().map(|(room, message_count, unread, _)| RoomSummary {
        last_message: last_of.remove(&room.id),
        room,
        message_count,
        unread_count: reader.map(|_| unread),
    });
    Ok(summaries.collect())
}

pub async fn is_there(conn: &mut Reader, room: i64) -> QueryResult<bool> {
    select(exists(rooms::table.find(room))).get_result(conn).await
}

pub async fn create(conn: &mut WriteConn, name: &Name) -> QueryResult<Room> {
    diesel::insert_into(rooms::table)
        .values(rooms::name.eq(name.as_str()))
        .returning(Room::as_returning())
        .get_result(conn)
        .await
}

/// Moves the marker of `user` to `message`, never back.
pub async fn mark_read(conn: &mut WriteConn, room: i64, user: i64, message: i64) -> QueryResult<ReadMarker> {
    diesel::insert_into(read_markers::table)
        .values((
            read_markers::user_id.eq(user),
            read_markers::room_id.eq(room),
            read_markers::message_id.eq(message),
        ))
        .on_conflict((read_markers::user_id, read_markers::room_id))
        .do_update()
        .set((
            read_markers::message_id
                .eq(greatest(read_markers::message_id, excluded(read_markers::message_id))),
            read_markers::read_at.eq(excluded(read_markers::read_at)),
        ))
        .returning(ReadMarker::as_returning())
        .get_result(conn)
        .await
}
