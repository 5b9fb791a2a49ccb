use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

async fn run(conn: &mut ReadConn) {
    let _ = diesel::insert_into(users::table).default_values().execute(conn).await;
}

fn main() {}
