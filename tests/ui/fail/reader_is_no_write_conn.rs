use diesel_replicas::{Reader, WriteConn};

include!("../schema.rs");

fn takes_a_write_conn(_: &mut WriteConn) {}

fn run(conn: &mut Reader) {
    takes_a_write_conn(conn);
}

fn main() {}
