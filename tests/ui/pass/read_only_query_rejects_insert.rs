use diesel::prelude::*;
use diesel_replicas::ReadOnlyQuery;

include!("../schema.rs");

fn takes_a_read(_: impl ReadOnlyQuery) {}

fn run() {
    takes_a_read(users::table.filter(users::id.gt(1)));
}

fn main() {}
