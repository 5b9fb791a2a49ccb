use diesel_replicas::{AtLeast, Causal, Latest, ReadConn};

include!("../schema.rs");

struct Repository<F: AtLeast<Causal>> {
    #[expect(dead_code)]
    conn: ReadConn<F>,
}

fn run(causal: ReadConn<Causal>, latest: ReadConn<Latest>) {
    let _ = Repository { conn: causal };
    let _ = Repository { conn: latest };
}

fn main() {}
