use diesel_replicas::WriteConn;

include!("../schema.rs");

fn takes_a_write_conn(_: &mut WriteConn) {}

fn run(conn: &mut WriteConn) {
    takes_a_write_conn(conn);
}

fn main() {}
