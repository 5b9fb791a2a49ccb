use diesel::QueryResult;
use diesel_replicas::{Causal, ReadConn, Reader};

include!("../schema.rs");

fn takes_causal(_: &mut Reader<Causal>) {}

fn takes_any(_: &mut Reader) {}

async fn run(conn: &mut ReadConn<Causal>) {
    takes_causal(conn);
    takes_any(conn);
    let _: QueryResult<()> = conn
        .snapshot()
        .run(async |conn| {
            takes_causal(conn);
            Ok(())
        })
        .await;
}

fn main() {}
