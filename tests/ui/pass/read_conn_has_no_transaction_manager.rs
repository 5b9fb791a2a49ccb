use diesel_async::{AsyncConnection, TransactionManager};
use diesel_replicas::WriteConn;

include!("../schema.rs");

fn status<C: AsyncConnection>(conn: &mut C) -> bool {
    C::TransactionManager::is_broken_transaction_manager(conn)
}

fn run(conn: &mut WriteConn) {
    let _ = status(conn);
}

fn main() {}
