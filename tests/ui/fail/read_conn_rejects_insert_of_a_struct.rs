use diesel::prelude::*;
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

#[derive(Insertable)]
#[diesel(table_name = users)]
struct NewUser {
    name: String,
}

async fn run(conn: &mut ReadConn) {
    let _ = diesel::insert_into(users::table).values(NewUser { name: "Ada".to_owned() }).execute(conn).await;
}

fn main() {}
