use diesel_replicas::{ReadConn, Target};

include!("../schema.rs");

fn run(conn: &mut ReadConn) {
    let _ = conn.__raw(());
}

fn main() {}
