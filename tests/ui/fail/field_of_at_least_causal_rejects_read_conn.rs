use diesel_replicas::{AtLeast, Causal, ReadConn};

include!("../schema.rs");

struct Repository<F: AtLeast<Causal>> {
    #[expect(dead_code)]
    conn: ReadConn<F>,
}

fn run(conn: ReadConn) {
    let _ = Repository { conn };
}

fn main() {}
