use diesel_async::AsyncPgConnection;
use diesel_replicas::Readable;

include!("../schema.rs");

struct Mine(#[expect(dead_code)] AsyncPgConnection);

impl Readable for Mine {}

fn run() {}

fn main() {}
