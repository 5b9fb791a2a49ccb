use diesel_replicas::{ReadConn, WriteConn};

include!("../schema.rs");

fn takes_a_write_conn(_: &mut WriteConn) {}

fn run(conn: &mut ReadConn) {
    takes_a_write_conn(conn);
}

fn main() {}
