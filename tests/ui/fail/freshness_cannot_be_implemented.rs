use diesel_replicas::{Freshness, Reader};

include!("../schema.rs");

enum Mine {}

impl Freshness for Mine {
    type Reader = Reader;
}

fn main() {}
