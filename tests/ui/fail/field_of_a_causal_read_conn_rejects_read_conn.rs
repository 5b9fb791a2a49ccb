use diesel_replicas::{Causal, ReadConn};

include!("../schema.rs");

struct Repository {
    #[expect(dead_code)]
    conn: ReadConn<Causal>,
}

fn run(conn: ReadConn) {
    let _ = Repository { conn };
}

fn main() {}
