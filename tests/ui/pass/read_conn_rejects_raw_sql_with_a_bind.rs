use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_replicas::{AssertReadOnlyDsl, ReadConn, RunQueryDsl};

include!("../schema.rs");

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = diesel::sql_types::Text)]
    #[expect(dead_code)]
    name: String,
}

async fn run(conn: &mut ReadConn) {
    let _ = sql_query("SELECT name FROM users WHERE name = $1")
        .bind::<Text, _>("Ada")
        .assert_read_only()
        .load::<Named>(conn)
        .await;
}

fn main() {}
