//! The second fence: what types cannot see is stopped before it is sent, or by the server.

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_replicas::{AssertReadOnlyDsl, ReadConn, Reader, RunQueryDsl};
use std::fmt::Debug;

use crate::schema::{nextval, posts, sneak, sneak_lock, users};
use crate::stage::Stage;

#[track_caller]
fn is_refused_by_the_server<T: Debug>(result: QueryResult<T>) {
    assert!(
        matches!(result, Err(Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))),
        "{result:?}"
    );
}

async fn writes_that_types_cannot_see(conn: &mut ReadConn) {
    let insert = sql_query("INSERT INTO users (name) VALUES ($1)").bind::<Text, _>("Eve");
    is_refused_by_the_server(insert.assert_read_only().execute(conn).await);
    let cte = sql_query("WITH gone AS (DELETE FROM posts RETURNING id) SELECT id FROM gone");
    is_refused_by_the_server(cte.assert_read_only().execute(conn).await);
    is_refused_by_the_server(sql_query("TRUNCATE users").assert_read_only().execute(conn).await);
    is_refused_by_the_server(sql_query("CREATE TABLE t ()").assert_read_only().execute(conn).await);
    is_refused_by_the_server(sql_query("CREATE TEMP TABLE t ()").assert_read_only().execute(conn).await);
    is_refused_by_the_server(
        sql_query("EXPLAIN ANALYZE DELETE FROM posts").assert_read_only().execute(conn).await,
    );

    is_refused_by_the_server(diesel::select(sneak("Eve")).get_result::<i32>(conn).await);
    is_refused_by_the_server(diesel::select(sneak_lock()).get_result::<i32>(conn).await);
    is_refused_by_the_server(diesel::select(nextval("users_id_seq")).get_result::<i64>(conn).await);
    let reader: &mut Reader = conn;
    is_refused_by_the_server(diesel::select(sneak("Eve")).get_result::<i32>(reader).await);
    is_refused_by_the_server(
        conn.snapshot().run(async |conn| diesel::select(sneak("Eve")).get_result::<i32>(conn).await).await,
    );
}

async fn row_locks_inside_of_a_query(conn: &mut ReadConn) {
    let locked = users::table.filter(users::id.eq(1)).for_update();
    let ids = users::table.select(users::id);

    let subquery = posts::table.filter(posts::user_id.eq_any(locked.select(users::id))).select(posts::id);
    is_refused_by_the_server(subquery.load::<i32>(conn).await);
    is_refused_by_the_server(diesel::select(exists(locked)).get_result::<bool>(conn).await);
    // No connection can do this, whatever its session.
    let combined = ids.union_all(locked.select(users::id)).load::<i32>(conn).await.unwrap_err();
    assert!(combined.to_string().contains("FOR UPDATE is not allowed with UNION"), "{combined}");
}

#[tokio::test]
async fn a_read_session_does_not_write_whichever_node_serves_it() {
    let stage = Stage::set().await;
    for mut conn in [stage.read().await, stage.read_primary().await] {
        writes_that_types_cannot_see(&mut conn).await;
        row_locks_inside_of_a_query(&mut conn).await;
    }

    let mut primary = stage.write().await;
    assert_eq!(users::table.count().get_result::<i64>(&mut primary).await.unwrap(), 3);
    assert_eq!(diesel::select(nextval("users_id_seq")).get_result::<i64>(&mut primary).await.unwrap(), 4);
}

const SESSION_COMMANDS: &[&str] = &[
    "SET default_transaction_read_only = off",
    "set session characteristics as transaction read write",
    "RESET ALL",
    "BEGIN READ WRITE",
    "  start transaction",
    "-- harmless\nCOMMIT",
    "/* harmless /* very */ */ ROLLBACK",
    ";; END",
    "DISCARD ALL",
    "LISTEN news",
    "NOTIFY news",
    "DO $$ BEGIN SET default_transaction_read_only = off; END $$",
    "VACUUM users",
    "PREPARE s AS DELETE FROM users",
    "DECLARE c CURSOR WITH HOLD FOR TABLE users",
];

#[tokio::test]
async fn text_that_is_a_session_command_is_not_sent() {
    let stage = Stage::set().await;
    let mut conn = stage.read_primary().await;
    let pid: i32 = diesel::select(pg_backend_pid()).get_result(&mut conn).await.unwrap();
    let last_query = || async {
        let mut conn = stage.write().await;
        let query = sql_query("SELECT query AS name FROM pg_stat_activity WHERE pid = $1");
        let query = query.bind::<Integer, _>(pid);
        query.get_result::<crate::schema::Named>(&mut conn).await.unwrap().name
    };
    let before = last_query().await;

    for text in SESSION_COMMANDS {
        let refused = sql_query(*text).assert_read_only().execute(&mut conn).await;
        assert!(matches!(refused, Err(Error::QueryBuilderError(_))), "{text}: {refused:?}");
    }

    assert_eq!(last_query().await, before);
    // The connection is as good as before.
    assert_eq!(users::table.count().get_result::<i64>(&mut conn).await.unwrap(), 3);
}

/// As the documentation admits: only the rights of the role stop these.
#[tokio::test]
async fn neither_fence_stops_what_changes_no_table() {
    let stage = Stage::set().await;
    let mut conn = stage.read_primary().await;

    assert!(diesel::select(pg_try_advisory_lock(1)).get_result::<bool>(&mut conn).await.unwrap());
    let off = set_config("default_transaction_read_only", "off", false);
    assert_eq!(diesel::select(off).get_result::<String>(&mut conn).await.unwrap(), "off");
    assert_eq!(diesel::select(sneak("Eve")).get_result::<i32>(&mut conn).await.unwrap(), 4);
}

#[tokio::test]
async fn a_second_command_in_a_text_is_refused_by_the_server() {
    let stage = Stage::set().await;
    let mut conn = stage.read_primary().await;

    let two = sql_query("SELECT 1; SET default_transaction_read_only = off").assert_read_only();
    let error = two.execute(&mut conn).await.unwrap_err();

    assert!(
        error.to_string().contains("cannot insert multiple commands into a prepared statement"),
        "{error}"
    );
}

#[tokio::test]
async fn the_session_of_a_write_conn_lent_as_read_may_write_except_in_a_snapshot() {
    let stage = Stage::set().await;
    let mut conn = stage.write().await;

    let in_snapshot = conn
        .as_read()
        .snapshot()
        .run(async |conn| diesel::select(sneak("Eve")).get_result::<i32>(conn).await);
    is_refused_by_the_server(in_snapshot.await);
    assert_eq!(diesel::select(sneak("Eve")).get_result::<i32>(conn.as_read()).await.unwrap(), 4);
}

diesel::define_sql_function! { fn pg_backend_pid() -> Integer; }
diesel::define_sql_function! { fn pg_try_advisory_lock(key: BigInt) -> Bool; }
diesel::define_sql_function! { fn set_config(name: Text, value: Text, local: Bool) -> Text; }
