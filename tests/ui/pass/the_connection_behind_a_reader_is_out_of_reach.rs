use diesel_replicas::Reader;

include!("../schema.rs");

fn run(conn: &mut Reader) {
    let _ = conn.pipeline();
}

fn main() {}
