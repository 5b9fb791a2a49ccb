use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: &mut ReadConn) {
    let _ = (**conn).cancel_token();
}

fn main() {}
