use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_replicas::{Reader, RunQueryDsl};

use crate::models::Totals;
use crate::schema::{messages, rooms, users};

pub async fn count(conn: &mut Reader) -> QueryResult<Totals> {
    let rooms = rooms::table.select(count_star()).single_value();
    let messages = messages::table.select(count_star()).single_value();
    let (users, rooms, messages): (i64, Option<i64>, Option<i64>) =
        users::table.select((count_star(), rooms, messages)).get_result(conn).await?;
    Ok(Totals { users, rooms: rooms.unwrap_or_default(), messages: messages.unwrap_or_default() })
}
