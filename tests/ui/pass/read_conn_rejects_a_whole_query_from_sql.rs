use diesel::dsl::sql;
use diesel::sql_types::Integer;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = diesel::select(sql::<Integer>("1")).load::<i32>(conn).await;
}

fn main() {}
