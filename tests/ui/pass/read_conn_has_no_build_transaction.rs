use diesel_replicas::WriteConn;

include!("../schema.rs");

fn run(conn: &mut WriteConn) {
    let _ = conn.build_transaction().read_write();
}

fn main() {}
