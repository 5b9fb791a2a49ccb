use diesel_replicas::{CausalToken, Lsn};

include!("../schema.rs");

fn run(lsn: Lsn) {
    let _ = CausalToken { lsn };
}

fn main() {}
