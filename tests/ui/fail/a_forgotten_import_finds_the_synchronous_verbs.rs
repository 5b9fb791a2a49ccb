use diesel::prelude::*;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: &mut ReadConn) {
    let _ = users::table.load::<(i32, String)>(conn);
}

fn main() {}
