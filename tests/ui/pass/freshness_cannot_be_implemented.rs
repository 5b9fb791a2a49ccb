use diesel_replicas::{Freshness, ReadConn, Reader};

include!("../schema.rs");

fn run<F: Freshness>(conn: &mut ReadConn<F>) -> &mut Reader {
    conn
}

fn main() {}
