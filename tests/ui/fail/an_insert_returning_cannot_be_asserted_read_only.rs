use diesel::prelude::*;
use diesel_replicas::AssertReadOnlyDsl;

include!("../schema.rs");

fn run() {
    let _ = diesel::insert_into(users::table)
        .values(users::name.eq("Ada"))
        .returning(users::id)
        .assert_read_only();
}

fn main() {}
