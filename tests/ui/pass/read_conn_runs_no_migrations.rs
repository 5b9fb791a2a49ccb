use diesel_async::AsyncMigrationHarness;
use diesel_replicas::WriteConn;

include!("../schema.rs");

fn run(conn: WriteConn) {
    let _ = AsyncMigrationHarness::new(conn);
}

fn main() {}
