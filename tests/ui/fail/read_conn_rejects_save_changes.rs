use diesel::prelude::*;
use diesel_replicas::{ReadConn, SaveChangesDsl};

include!("../schema.rs");

#[derive(AsChangeset, Clone, Copy, Identifiable)]
#[diesel(table_name = users)]
struct Rename<'a> {
    id: i32,
    name: &'a str,
}

async fn run(conn: &mut ReadConn) {
    let _ = Rename { id: 1, name: "Ada" }.save_changes::<(i32, String)>(conn).await;
}

fn main() {}
