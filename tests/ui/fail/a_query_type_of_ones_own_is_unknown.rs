use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AsQuery, AstPass, Query, QueryFragment, QueryId};
use diesel_replicas::{ReadConn, RunQueryDsl};

include!("../schema.rs");

#[derive(QueryId)]
struct Paginated<Q>(Q);

impl<Q: Query> Query for Paginated<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Paginated<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" LIMIT 10");
        Ok(())
    }
}

async fn run(conn: &mut ReadConn) {
    let _ = Paginated(users::table.as_query()).load::<(i32, String)>(conn).await;
}

fn main() {}
