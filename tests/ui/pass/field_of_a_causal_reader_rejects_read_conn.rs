use diesel_async::AsyncPgConnection;
use diesel_replicas::{Causal, Latest, ReadConn, Reader, WriteConn};

include!("../schema.rs");

struct Repository<'a> {
    #[expect(dead_code)]
    conn: &'a mut Reader<Causal>,
}

fn run(
    causal: &mut ReadConn<Causal>,
    latest: &mut ReadConn<Latest>,
    reader: &mut Reader<Latest>,
    write: &mut WriteConn,
    pg: &mut AsyncPgConnection,
) {
    let _ = Repository { conn: causal };
    let _ = Repository { conn: latest };
    let _ = Repository { conn: reader };
    let _ = Repository { conn: write };
    let _ = Repository { conn: pg };
}

fn main() {}
