use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: &mut ReadConn) {
    let _ = conn.build_transaction().read_write();
}

fn main() {}
