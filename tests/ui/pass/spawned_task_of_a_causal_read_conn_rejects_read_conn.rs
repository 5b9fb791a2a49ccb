use diesel::prelude::*;
use diesel_replicas::{AtLeast, Causal, Latest, ReadConn, Reader, RunQueryDsl};

include!("../schema.rs");

async fn task(mut conn: ReadConn<Causal>) {
    takes_causal(&mut conn).await;
}

async fn task_at_least(mut conn: ReadConn<impl AtLeast<Causal>>) {
    takes_causal(&mut conn).await;
}

async fn takes_causal(conn: &mut Reader<Causal>) {
    let _: QueryResult<Vec<String>> = users::table.select(users::name).load(conn).await;
}

fn run(causal: ReadConn<Causal>, latest: ReadConn<Latest>) {
    tokio::spawn(task(causal));
    tokio::spawn(task_at_least(latest));
}

fn main() {}
