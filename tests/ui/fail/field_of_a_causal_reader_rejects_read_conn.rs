use diesel_replicas::{Causal, ReadConn, Reader};

include!("../schema.rs");

struct Repository<'a> {
    #[expect(dead_code)]
    conn: &'a mut Reader<Causal>,
}

fn run(conn: &mut ReadConn) {
    let _ = Repository { conn };
}

fn main() {}
