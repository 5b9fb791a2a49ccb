use diesel::prelude::*;
use diesel_replicas::AssertReadOnlyDsl;

include!("../schema.rs");

fn run() {
    let _ = diesel::update(users::table).set(users::name.eq("Ada")).assert_read_only();
}

fn main() {}
