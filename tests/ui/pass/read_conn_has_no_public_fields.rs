use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: &ReadConn) -> &str {
    conn.node()
}

fn main() {}
