use diesel::prelude::*;
use diesel_replicas::{RunQueryDsl, WriteConn};

include!("../schema.rs");

#[derive(Insertable)]
#[diesel(table_name = users)]
struct NewUser {
    name: String,
}

async fn run(conn: &mut WriteConn) {
    let _ = diesel::insert_into(users::table).values(NewUser { name: "Ada".to_owned() }).execute(conn).await;
}

fn main() {}
