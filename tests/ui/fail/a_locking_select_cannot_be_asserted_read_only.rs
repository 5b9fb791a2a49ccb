use diesel::prelude::*;
use diesel_replicas::AssertReadOnlyDsl;

include!("../schema.rs");

fn run() {
    let _ = users::table.for_update().assert_read_only();
}

fn main() {}
