use diesel_replicas::WriteConn;

include!("../schema.rs");

fn run(conn: &mut WriteConn) {
    let _ = (**conn).cancel_token();
}

fn main() {}
