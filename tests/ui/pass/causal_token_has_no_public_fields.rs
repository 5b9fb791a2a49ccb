use diesel_replicas::{CausalToken, Lsn};

include!("../schema.rs");

fn run(token: CausalToken) {
    let _: Option<Lsn> = token.lsn();
}

fn main() {}
