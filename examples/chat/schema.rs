//! The tables, as the migrations leave them.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! {
    users (id) {
        id -> BigInt,
        name -> Text,
        created_at -> Timestamptz,
    }
}

table! {
    rooms (id) {
        id -> BigInt,
        name -> Text,
        created_at -> Timestamptz,
    }
}

table! {
    use super::sql_types::Tsvector;
    use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};

    messages (id) {
        id -> BigInt,
        room_id -> BigInt,
        author_id -> BigInt,
        body -> Text,
        client_key -> Nullable<Text>,
        created_at -> Timestamptz,
        words -> Tsvector,
    }
}

table! {
    read_markers (user_id, room_id) {
        user_id -> BigInt,
        room_id -> BigInt,
        message_id -> BigInt,
        read_at -> Timestamptz,
    }
}

joinable!(messages -> rooms (room_id));
joinable!(messages -> users (author_id));
joinable!(read_markers -> rooms (room_id));
joinable!(read_markers -> users (user_id));
allow_tables_to_appear_in_same_query!(users, rooms, messages, read_markers);

/// The types of full text search, which Diesel does not bring.
pub mod sql_types {
    use diesel::query_builder::QueryId;
    use diesel::sql_types::SqlType;

    #[derive(Debug, SqlType, QueryId)]
    #[diesel(postgres_type(name = "tsvector", schema = "pg_catalog"))]
    pub struct Tsvector;

    #[derive(Debug, SqlType, QueryId)]
    #[diesel(postgres_type(name = "tsquery", schema = "pg_catalog"))]
    pub struct Tsquery;
}
