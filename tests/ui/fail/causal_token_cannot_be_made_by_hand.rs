use diesel_replicas::{CausalToken, Lsn};

include!("../schema.rs");

fn run(lsn: Lsn) {
    let _ = CausalToken::new(None, None, Some(lsn));
}

fn main() {}
