use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: ReadConn) {
    let _ = conn.lease;
}

fn main() {}
