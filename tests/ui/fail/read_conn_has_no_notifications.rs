use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: &mut ReadConn) {
    let _ = conn.notifications_stream();
}

fn main() {}
