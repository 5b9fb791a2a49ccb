use diesel_async::AsyncPgConnection;
use diesel_replicas::Reader;

include!("../schema.rs");

struct Mine(AsyncPgConnection);

impl Mine {
    #[expect(dead_code)]
    fn reader(&mut self) -> &mut Reader {
        &mut self.0
    }
}

fn run() {}

fn main() {}
