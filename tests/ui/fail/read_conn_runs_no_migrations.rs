use diesel_async::AsyncMigrationHarness;
use diesel_replicas::ReadConn;

include!("../schema.rs");

fn run(conn: ReadConn) {
    let _ = AsyncMigrationHarness::new(conn);
}

fn main() {}
