//! Every shape of a read that Diesel knows, on a replica, through a `ReadConn` and a `Reader`.

use diesel::dsl::{self, OnlyDsl, TablesampleDsl, auto_type, count_star, exists, max, not, sql, sum};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::positional_order_dsl::{OrderColumn, PositionalOrderDsl};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel_replicas::{AssertReadOnlyDsl, ReadConn, ReadOnlyQuery, Reader, RunQueryDsl, Statement};
use futures_util::TryStreamExt;
use serde_json::json;

use crate::schema::{Named, Post, User, posts, shout, users};
use crate::stage::Stage;

/// Loads the rows of a query twice, from a `ReadConn` and from a `Reader`, and compares.
macro_rules! rows {
    ($conn:ident, $query:expr, $expected:expr $(,)?) => {{
        let expected = $expected;
        let conn: &mut ReadConn = &mut $conn;
        same($query.load(conn).await, &expected);
        let conn: &mut Reader = &mut $conn;
        same($query.load(conn).await, &expected);
    }};
}

#[track_caller]
fn same<T: std::fmt::Debug + PartialEq>(loaded: QueryResult<Vec<T>>, expected: &Vec<T>) {
    assert_eq!(&loaded.unwrap(), expected);
}

fn strings<const N: usize>(strings: [&str; N]) -> Vec<String> {
    strings.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn tables_finds_filters_and_verbs() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let named = users::table.select((users::id, users::name));

    rows!(conn, users::table.count(), vec![3_i64]);
    rows!(conn, named.find(2), vec![(2, "Bob".to_owned())]);
    rows!(conn, users::table.filter(users::name.eq("Ada")).select(users::id), vec![1]);
    rows!(conn, users::table.filter(users::id.eq_any([1, 3])).order(users::id).select(users::id), vec![1, 3]);
    rows!(
        conn,
        users::table
            .filter(users::id.gt(2))
            .or_filter(users::name.like("B%"))
            .order(users::id)
            .select(users::id),
        vec![2, 3]
    );
    rows!(
        conn,
        users::table
            .filter(users::team.is_not_null().and(not(users::name.eq("Bob"))))
            .filter(users::id.between(0, 9))
            .select(users::name),
        strings(["Ada"])
    );
    rows!(
        conn,
        users::table
            .order((users::team.asc().nulls_last(), users::id.desc()))
            .limit(2)
            .offset(1)
            .select(users::id),
        vec![1, 3]
    );

    assert_eq!(named.first::<(i32, String)>(&mut conn).await.unwrap().0, 1);
    assert_eq!(named.get_result::<(i32, String)>(&mut conn).await.unwrap().0, 1);
    assert_eq!(named.get_results::<(i32, String)>(&mut conn).await.unwrap().len(), 3);
    assert_eq!(named.execute(&mut conn).await.unwrap(), 3);
    assert_eq!(
        users::table.find(9).select(users::id).first::<i32>(&mut conn).await.optional().unwrap(),
        None
    );
    // A query by reference, for one that is run twice.
    assert_eq!((&named).load::<(i32, String)>(&mut conn).await.unwrap().len(), 3);
}

#[tokio::test]
async fn joins_of_every_kind() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let editors = diesel::alias!(users as editors);

    rows!(
        conn,
        users::table
            .inner_join(posts::table)
            .filter(posts::score.gt(4))
            .order(posts::id)
            .select(posts::title),
        strings(["Engines", "Welcome"])
    );
    rows!(
        conn,
        users::table
            .left_join(posts::table)
            .filter(posts::id.is_null())
            .select((users::name, posts::title.nullable())),
        vec![("Cleo".to_owned(), None::<String>)]
    );
    rows!(
        conn,
        users::table
            .inner_join(posts::table.on(posts::user_id.eq(users::id).and(posts::score.lt(2))))
            .select(posts::title),
        strings(["Hello"])
    );
    rows!(
        conn,
        users::table
            .inner_join(editors.on(editors.field(users::team).eq(users::team)))
            .filter(users::id.lt(editors.field(users::id)))
            .select((users::name, editors.field(users::name))),
        vec![("Ada".to_owned(), "Bob".to_owned())]
    );
    rows!(
        conn,
        editors.filter(editors.field(users::id).eq(1)).select(editors.field(users::name)),
        strings(["Ada"])
    );
    rows!(
        conn,
        posts::table
            .inner_join(users::table.left_join(editors.on(editors.field(users::id).eq(users::id + 1))))
            .filter(posts::id.eq(3))
            .select(editors.field(users::name).nullable()),
        vec![Some("Cleo".to_owned())]
    );
}

#[tokio::test]
async fn groups_aggregates_and_windows() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;

    rows!(
        conn,
        posts::table.group_by(posts::user_id).having(count_star().gt(1)).select((
            posts::user_id,
            count_star(),
            sum(posts::score),
            max(posts::score)
        )),
        vec![(1, 3_i64, Some(17_i64), Some(9))]
    );
    rows!(
        conn,
        users::table
            .left_join(posts::table)
            .group_by(users::id)
            .order(users::id)
            .select((users::name, dsl::count(posts::id.nullable()))),
        vec![("Ada".to_owned(), 3_i64), ("Bob".to_owned(), 1), ("Cleo".to_owned(), 0)]
    );
    rows!(conn, users::table.select(dsl::count(users::team).aggregate_distinct()), vec![1_i64]);
    rows!(conn, posts::table.select(dsl::count(posts::id).aggregate_filter(posts::score.gt(4))), vec![2_i64]);
    rows!(
        conn,
        posts::table.order(posts::id).select((
            posts::id,
            dsl::rank().partition_by(posts::user_id).window_order(posts::score.desc()),
            sum(posts::score).partition_by(posts::user_id),
        )),
        vec![(1, 2_i64, Some(17_i64)), (2, 3, Some(17)), (3, 1, Some(1)), (4, 1, Some(17))]
    );
}

#[tokio::test]
async fn bare_selects_and_subqueries() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let authors = posts::table.select(posts::user_id);

    rows!(conn, diesel::select(1.into_sql::<Integer>()), vec![1]);
    rows!(conn, diesel::select(exists(users::table.filter(users::name.eq("Ada")))), vec![true]);
    rows!(conn, diesel::select(not(exists(users::table.find(9)))), vec![true]);
    rows!(conn, diesel::select(users::table.select(max(users::id)).single_value()), vec![Some(3)]);
    rows!(conn, users::table.filter(users::id.ne_all(authors)).select(users::name), strings(["Cleo"]));
    rows!(
        conn,
        users::table
            .filter(exists(posts::table.filter(posts::user_id.eq(users::id).and(posts::score.gt(4)))))
            .select(users::name),
        strings(["Ada"])
    );
    rows!(
        conn,
        users::table.order(users::id).select((
            users::name,
            posts::table.filter(posts::user_id.eq(users::id)).select(max(posts::score)).single_value(),
        )),
        vec![("Ada".to_owned(), Some(9)), ("Bob".to_owned(), Some(1)), ("Cleo".to_owned(), None)]
    );
    rows!(
        conn,
        posts::table.select(dsl::case_when(posts::id.eq(1), posts::score).otherwise(posts::id)).find(1),
        vec![5]
    );
}

#[tokio::test]
async fn boxed_queries_and_boxed_expressions() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;

    let search = |team: Option<&'static str>, name: Option<&'static str>| {
        let mut query = users::table.select(users::id).order(users::id).into_boxed();
        if let Some(team) = team {
            query = query.filter(users::team.eq(team));
        }
        if let Some(name) = name {
            query = query.filter(users::name.eq(name));
        }
        query
    };
    rows!(conn, search(Some("red"), None), vec![1, 2]);
    rows!(conn, search(Some("red"), Some("Bob")), vec![2]);
    rows!(conn, search(None, None).distinct(), vec![1, 2, 3]);
    rows!(
        conn,
        users::table.inner_join(posts::table).select(posts::id).filter(users::id.eq(2)).into_boxed::<Pg>(),
        vec![3]
    );

    let condition = |wanted: i32| -> Box<dyn BoxableExpression<users::table, Pg, SqlType = Bool>> {
        if wanted == 0 {
            Box::new(users::team.is_null().assume_not_null())
        } else {
            Box::new(users::id.eq(wanted))
        }
    };
    rows!(conn, users::table.filter(condition(2)).select(users::name), strings(["Bob"]));
    rows!(conn, users::table.filter(condition(0)).select(users::name), strings(["Cleo"]));
}

#[tokio::test]
async fn structs_associations_and_composed_queries() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let ada = User { id: 1, name: "Ada".to_owned() };

    rows!(conn, users::table.select(User::as_select()).filter(users::id.eq(1)), vec![ada.clone()]);
    rows!(conn, User::query().filter(users::id.eq(1)), vec![ada.clone()]);
    rows!(conn, Post::belonging_to(&ada).select(posts::id).order(posts::id), vec![1, 2, 4]);
    rows!(
        conn,
        users::table
            .inner_join(posts::table)
            .filter(posts::id.eq(3))
            .select((User::as_select(), Post::as_select())),
        vec![(
            User { id: 2, name: "Bob".to_owned() },
            Post { id: 3, user_id: 2, title: "Hello".to_owned(), score: 1 }
        )]
    );

    let everyone = User::query().order(users::id).load(&mut conn).await.unwrap();
    let all: Vec<Post> =
        Post::belonging_to(&everyone).select(Post::as_select()).load(&mut conn).await.unwrap();
    let counts: Vec<usize> = all.grouped_by(&everyone).iter().map(Vec::len).collect();
    assert_eq!(counts, [3, 1, 0]);

    #[auto_type]
    fn in_team<'a>(team: &'a str) -> _ {
        users::table.filter(users::team.eq(team)).select(users::id)
    }
    rows!(conn, in_team("red").order(users::id), vec![1, 2]);
    rows!(conn, posts::table.filter(posts::user_id.eq_any(in_team("red"))).count(), vec![4_i64]);
}

#[tokio::test]
async fn combinations() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let red = users::table.filter(users::team.eq("red")).select(users::id);
    let authors = posts::table.select(posts::user_id);

    rows!(conn, red.union(users::table.select(users::id)).positional_order_by(1), vec![1, 2, 3]);
    rows!(conn, red.union_all(authors).positional_order_by(1), vec![1, 1, 1, 1, 2, 2]);
    rows!(conn, users::table.select(users::id).intersect(authors).positional_order_by(1), vec![1, 2]);
    rows!(conn, users::table.select(users::id).except(authors), vec![3]);
    rows!(
        conn,
        red.union(authors)
            .except(users::table.filter(users::id.eq(1)).select(users::id))
            .union_all(red)
            .limit(9),
        vec![2, 1, 2]
    );
    rows!(
        conn,
        red.into_boxed::<Pg>()
            .union(users::table.select(users::id).into_boxed::<Pg>())
            .positional_order_by(OrderColumn::from(1).desc()),
        vec![3, 2, 1]
    );
    rows!(conn, red.union(authors).positional_order_by(1).limit(1).offset(1), vec![2]);
    rows!(conn, users::table.filter(users::id.eq_any(authors)).count(), vec![2_i64]);
    assert_eq!(red.union(authors).positional_order_by(1).first::<i32>(&mut conn).await.unwrap(), 1);
}

#[tokio::test]
async fn what_only_postgres_has() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;

    rows!(conn, posts::table.distinct().select(posts::user_id).order(posts::user_id), vec![1, 2]);
    rows!(
        conn,
        posts::table
            .distinct_on(posts::user_id)
            .order((posts::user_id, posts::score.desc()))
            .select((posts::user_id, posts::title)),
        vec![(1, "Welcome".to_owned()), (2, "Hello".to_owned())]
    );
    rows!(conn, posts::table.only().count(), vec![3_i64]);
    rows!(conn, posts::table.only().order(posts::id).select(posts::id), vec![1, 2, 3]);
    rows!(conn, posts::table.tablesample_bernoulli(100).select(posts::id).count(), vec![4_i64]);

    rows!(conn, users::table.filter(users::tags.contains(vec!["math"])).select(users::id), vec![1]);
    rows!(conn, users::table.filter(users::tags.overlaps_with(vec!["code"])).count(), vec![2_i64]);
    rows!(
        conn,
        users::table.filter(users::name.eq(dsl::array((users::name, users::name)).index(1))).count(),
        vec![3_i64]
    );
    rows!(conn, users::table.filter(users::profile.contains(json!({"age": 36}))).select(users::id), vec![1]);
    rows!(conn, users::table.filter(users::profile.has_key("city")).select(users::id), vec![1]);
    rows!(
        conn,
        users::table.filter(users::id.eq(1)).select(users::profile.retrieve_as_text("city")),
        strings(["London"])
    );
    rows!(conn, users::table.filter(users::name.ilike("a%")).select(users::id), vec![1]);
    rows!(
        conn,
        users::table.filter(users::team.is_not_distinct_from(None::<String>)).select(users::id),
        vec![3]
    );
}

#[tokio::test]
async fn fragments_and_functions() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;

    rows!(conn, users::table.filter(users::id.eq(1)).select(shout(users::name)), strings(["ADA!"]));
    rows!(conn, diesel::select(shout("hey")), strings(["HEY!"]));
    rows!(conn, users::table.filter(sql::<Bool>("length(name) = 4")).select(users::id), vec![3]);
    rows!(
        conn,
        users::table.filter(sql::<Bool>("id = ").bind::<Integer, _>(2).sql(" AND true")).select(users::id),
        vec![2]
    );
    rows!(conn, users::table.select(sql::<BigInt>("count(*)")), vec![3_i64]);
    rows!(conn, users::table.order(sql::<Integer>("id DESC")).select(users::id), vec![3, 2, 1]);
    rows!(conn, diesel::select(sql::<Nullable<Text>>("NULL")), vec![None::<String>]);
    rows!(
        conn,
        diesel::select(dsl::now.into_sql::<diesel::sql_types::Timestamptz>().is_not_null()),
        vec![true]
    );
}

#[tokio::test]
async fn raw_sql_that_was_asserted_to_only_read() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let query = || diesel::sql_query("SELECT name FROM users WHERE id = $1");
    let two = || diesel::sql_query("SELECT name FROM users WHERE id = $1 AND name = $2");
    let bob = vec![Named { name: "Bob".to_owned() }];

    rows!(conn, diesel::sql_query("SELECT name FROM users WHERE id = 2").assert_read_only(), bob.clone());
    rows!(conn, query().bind::<Integer, _>(2).assert_read_only(), bob.clone());
    rows!(conn, query().assert_read_only().bind::<Integer, _>(2), bob.clone());
    rows!(conn, two().bind::<Integer, _>(2).assert_read_only().bind::<Text, _>("Bob"), bob.clone());
    rows!(conn, two().assert_read_only().bind::<Integer, _>(2).bind::<Text, _>("Bob"), bob.clone());
    rows!(conn, query().into_boxed::<Pg>().bind::<Integer, _>(2).assert_read_only(), bob.clone());
    rows!(conn, query().into_boxed::<Pg>().assert_read_only().bind::<Integer, _>(2), bob.clone());
    rows!(conn, query().bind::<Integer, _>(2).sql(" AND true").assert_read_only(), bob.clone());

    let mut any = diesel::sql_query("SELECT name FROM users WHERE id IN (0").into_boxed::<Pg>();
    for (n, id) in [1, 2].into_iter().enumerate() {
        any = any.sql(format!(", ${}", n + 1)).bind::<Integer, _>(id);
    }
    assert_eq!(any.sql(")").assert_read_only().load::<Named>(&mut conn).await.unwrap().len(), 2);
    assert_eq!(diesel::sql_query("TABLE users").assert_read_only().execute(&mut conn).await.unwrap(), 3);
}

#[tokio::test]
async fn streams() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;

    let ids = users::table.order(users::id).select(users::id);
    let stream = ids.load_stream::<i32>(&mut conn).await.unwrap();
    assert_eq!(stream.try_fold(0, |sum, id| async move { Ok(sum + id) }).await.unwrap(), 6);

    let reader: &mut Reader = &mut conn;
    let stream = ids.load_stream::<i32>(reader).await.unwrap();
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap(), [1, 2, 3]);
}

/// One page of a query, with the number of all its rows: a query type such as services write for themselves.
#[derive(Debug, Clone, QueryId)]
struct Page<Q> {
    query: Q,
    offset: i64,
}

impl<Q: Statement> Statement for Page<Q> {
    type Effect = Q::Effect;
}

impl<Q: Query> Query for Page<Q> {
    type SqlType = (Q::SqlType, BigInt);
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Page<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT *, COUNT(*) OVER () FROM (");
        self.query.walk_ast(out.reborrow())?;
        out.push_sql(") AS page LIMIT 2 OFFSET ");
        out.push_bind_param::<BigInt, _>(&self.offset)
    }
}

#[tokio::test]
async fn a_query_type_of_ones_own() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let page = |offset| Page { query: users::table.order(users::id).select(users::id), offset };

    rows!(conn, page(0), vec![(1, 3_i64), (2, 3)]);
    rows!(conn, page(2), vec![(3, 3_i64)]);
    let boxed = Page { query: users::table.select(users::id).order(users::id).into_boxed::<Pg>(), offset: 1 };
    assert_eq!(boxed.load::<(i32, i64)>(&mut conn).await.unwrap().len(), 2);
}

/// Generic over the query: the first two rows of anything that only reads.
async fn two<'q, Q>(query: Q, conn: &mut Reader) -> QueryResult<Vec<i32>>
where
    Q: diesel::query_dsl::methods::LimitDsl,
    Q::Output:
        ReadOnlyQuery + diesel_async::methods::LoadQuery<'q, diesel_async::AsyncPgConnection, i32> + 'q,
{
    query.limit(2).load(conn).await
}

#[tokio::test]
async fn functions_that_are_generic_over_the_query() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;

    assert_eq!(two(users::table.order(users::id).select(users::id), &mut conn).await.unwrap(), [1, 2]);
    assert_eq!(
        two(posts::table.order(posts::id).select(posts::id).into_boxed::<Pg>(), &mut conn).await.unwrap(),
        [1, 2]
    );
}
