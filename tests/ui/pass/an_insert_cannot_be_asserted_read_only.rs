use diesel::prelude::*;
use diesel_replicas::AssertReadOnlyDsl;

include!("../schema.rs");

fn run() {
    let _ = diesel::sql_query("TABLE users").assert_read_only();
}

fn main() {}
