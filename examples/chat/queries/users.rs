use diesel::prelude::*;
use diesel_replicas::{Reader, RunQueryDsl, WriteConn};

use crate::models::User;
use crate::schema::users;
use crate::text::Name;

diesel::define_sql_function! {
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// At most this many users are listed.
pub const LISTED: i64 = 100;

/// The users in the order of their names, or the one of that name whatever its case.
pub async fn list(conn: &mut Reader, name: Option<&Name>) -> QueryResult<Vec<User>> {
    let mut found = User::query().order(lower(users::name)).limit(LISTED).into_boxed();
    if let Some(name) = name {
        found = found.filter(lower(users::name).eq(lower(name.as_str())));
    }
    found.load(conn).await
}

pub async fn create(conn: &mut WriteConn, name: &Name) -> QueryResult<User> {
    diesel::insert_into(users::table)
        .values(users::name.eq(name.as_str()))
        .returning(User::as_returning())
        .get_result(conn)
        .await
}
