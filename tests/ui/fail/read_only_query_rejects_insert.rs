use diesel::prelude::*;
use diesel_replicas::ReadOnlyQuery;

include!("../schema.rs");

fn takes_a_read(_: impl ReadOnlyQuery) {}

fn run() {
    takes_a_read(diesel::insert_into(users::table).values(users::name.eq("Ada")));
}

fn main() {}
