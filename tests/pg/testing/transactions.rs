//! Transactions inside of the one that is rolled back.

use super::{add, begin, bodies, committed, insert, shown};
use crate::support::notes;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use diesel_replicas::{AssertReadOnlyDsl, RunQueryDsl};

#[tokio::test]
async fn replicas_show_what_was_written_and_a_rollback_leaves_nothing() {
    let (cluster, database) = begin().await;
    let router = database.router();
    add(&router, "second").await;
    assert_eq!(shown(&router).await, ["first", "second"]);
    assert_eq!(committed(&cluster).await, "first");
    database.rollback().await.unwrap();
    assert_eq!(committed(&cluster).await, "first");
}

#[tokio::test]
async fn the_server_refuses_writes_on_every_read_handle() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let mut conn = router.write().await.unwrap();
    let writes = "CREATE FUNCTION add_note() RETURNS int LANGUAGE sql AS \
                  $$ INSERT INTO notes (body) VALUES ('hidden') RETURNING 1 $$";
    conn.batch_execute(writes).await.unwrap();
    let hidden = || diesel::sql_query("SELECT add_note()").assert_read_only();
    let refused = |result: QueryResult<usize>| {
        let kind =
            |error: &Error| matches!(error, Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _));
        assert!(result.as_ref().is_err_and(kind), "{result:?}");
    };
    for pause in [false, true] {
        if pause {
            database.pause_replay().await.unwrap();
        }
        refused(hidden().execute(&mut router.read().await.unwrap()).await);
        for sql in [
            "SELECT id FROM notes FOR UPDATE",
            "WITH more AS (INSERT INTO notes (body) VALUES ('more') RETURNING id) SELECT id FROM more",
            "DELETE FROM notes",
        ] {
            let asserted = diesel::sql_query(sql).assert_read_only();
            refused(asserted.execute(&mut router.read().await.unwrap()).await);
        }
        refused(hidden().execute(&mut router.read().latest().await.unwrap()).await);
        let mut reading = router.read().await.unwrap();
        refused(reading.snapshot().run(async |conn| hidden().execute(conn).await).await);
        insert(&mut conn, "written").await.unwrap();
    }
    assert_eq!(bodies(&mut conn).await.unwrap(), ["first", "written", "written"]);
}

#[tokio::test]
async fn transactions_nest_and_roll_back_what_is_theirs() {
    let (_cluster, database) = begin().await;
    let mut conn = database.router().write().await.unwrap();
    let gone: Result<(), Error> = conn
        .transaction(async |conn| {
            insert(conn, "gone").await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(gone, Err(Error::RollbackTransaction));
    conn.transaction(async |conn| {
        insert(conn, "outer").await?;
        let inner: Result<(), Error> = conn
            .transaction(async |conn| {
                insert(conn, "inner").await?;
                Err(Error::RollbackTransaction)
            })
            .await;
        assert_eq!(inner, Err(Error::RollbackTransaction));
        conn.transaction(async |conn| insert(conn, "kept").await).await
    })
    .await
    .unwrap();
    assert_eq!(bodies(&mut conn).await.unwrap(), ["first", "outer", "kept"]);
}

#[tokio::test]
async fn an_error_spoils_the_transaction_that_it_is_in_and_no_other() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let mut conn = router.write().await.unwrap();
    let twice = "INSERT INTO notes (id, body) VALUES (1, 'twice')";
    let unique = |result: &QueryResult<()>| {
        matches!(result, Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)))
    };
    assert!(unique(&conn.batch_execute(twice).await));
    let spoiled: QueryResult<()> = conn
        .transaction(async |conn| {
            insert(conn, "gone").await?;
            assert!(unique(&conn.batch_execute(twice).await));
            let more = insert(conn, "more").await.unwrap_err().to_string();
            assert!(more.contains("current transaction is aborted"), "{more}");
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(spoiled, Err(Error::RollbackTransaction));
    let swallowed = router
        .with_write(async |conn| {
            insert(conn, "gone").await?;
            assert!(unique(&conn.batch_execute(twice).await));
            QueryResult::Ok(())
        })
        .await;
    let error = swallowed.unwrap_err().to_string();
    assert!(error.contains("all of it was rolled back"), "{error}");
    insert(&mut conn, "kept").await.unwrap();
    assert_eq!(bodies(&mut conn).await.unwrap(), ["first", "kept"]);
}

#[tokio::test]
async fn raw_commands_begin_and_end_what_they_would_and_never_commit() {
    let (cluster, database) = begin().await;
    let mut conn = database.router().write().await.unwrap();
    for (sql, shown) in [
        ("BEGIN; INSERT INTO notes (body) VALUES ('a'); COMMIT", "first a"),
        ("begin; INSERT INTO notes (body) VALUES ('b'); /* not */ rollback", "first a"),
        ("COMMIT", "first a"),
        ("INSERT INTO notes (body) VALUES ('c'); COMMIT; ROLLBACK", "first a c"),
        (
            "START TRANSACTION; INSERT INTO notes (body) VALUES ('d'); SAVEPOINT s; DELETE FROM notes; \
          ROLLBACK TO s; END",
            "first a c d",
        ),
    ] {
        conn.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(bodies(&mut conn).await.unwrap().join(" "), shown, "{sql}");
        assert_eq!(committed(&cluster).await, "first", "{sql}");
    }
    for (sql, why) in [
        ("BEGIN; INSERT INTO notes (body) VALUES ('e'); PREPARE TRANSACTION 'e'", "prepared transaction"),
        ("ROLLBACK; SAVEPOINT s", "transaction blocks"),
        ("BEGIN; COMMIT AND CHAIN", "AND CHAIN"),
        ("ROLLBACK; DO $$ BEGIN COMMIT; END $$", "invalid transaction termination"),
        ("COPY notes (body) FROM STDIN", "a test database cannot be copied into"),
        ("VACUUM", "VACUUM cannot run inside a transaction block"),
    ] {
        let error = conn.batch_execute(sql).await.unwrap_err().to_string();
        assert!(error.contains(why), "{sql}: {error}");
    }
    let prepared = diesel::sql_query("COMMIT").execute(&mut conn).await.unwrap_err().to_string();
    assert!(prepared.contains("not with a prepared statement"), "{prepared}");
    assert_eq!(committed(&cluster).await, "first");
    database.rollback().await.unwrap();
}

#[tokio::test]
async fn a_commit_checks_what_is_deferred_to_it() {
    let (_cluster, database) = begin().await;
    let router = database.router();
    let mut conn = router.write().await.unwrap();
    let references =
        "ALTER TABLE notes ADD COLUMN follows int REFERENCES notes DEFERRABLE INITIALLY DEFERRED";
    conn.batch_execute(references).await.unwrap();
    let follow = "INSERT INTO notes (id, body, follows) VALUES (10, 'follows', 11)";
    let violated = |result: &QueryResult<()>| {
        matches!(result, Err(Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)))
    };
    assert!(violated(&conn.batch_execute(follow).await));
    assert!(violated(&conn.transaction(async |conn| conn.batch_execute(follow).await).await));
    conn.transaction(async |conn| {
        conn.batch_execute(follow).await?;
        conn.batch_execute("INSERT INTO notes (id, body) VALUES (11, 'followed')").await
    })
    .await
    .unwrap();
    assert_eq!(bodies(&mut conn).await.unwrap(), ["first", "follows", "followed"]);
}

#[tokio::test]
async fn a_statement_that_fails_alone_undoes_itself() {
    let (_cluster, database) = begin().await;
    let mut conn = database.router().write().await.unwrap();
    let both = "INSERT INTO notes (body) VALUES ('gone'); INSERT INTO notes (id, body) VALUES (1, 'twice')";
    conn.batch_execute(both).await.unwrap_err();
    let division = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1 / 0"));
    division.execute(&mut conn).await.unwrap_err();
    let count: i64 = notes::table.count().get_result(&mut conn).await.unwrap();
    assert_eq!(count, 1);
}

/// Where the server reads a text in another way than the testing aid does.
#[tokio::test]
async fn a_commit_that_gets_through_is_told_at_once_and_at_the_end() {
    let (cluster, database) = begin().await;
    let router = database.router();
    add(&router, "there for good").await;
    let mut conn = router.write().await.unwrap();
    conn.batch_execute("SET standard_conforming_strings TO off").await.unwrap();
    conn.batch_execute(r"SELECT 'a\'' ; COMMIT; --'").await.unwrap_err();
    assert_eq!(committed(&cluster).await, "first,there for good");
    if let Ok(mut conn) = router.write().await {
        insert(&mut conn, "more").await.unwrap_err();
    }
    let error = database.rollback().await.unwrap_err().to_string();
    assert!(error.contains("a statement has ended the transaction of the test database"), "{error}");
    assert_eq!(committed(&cluster).await, "first,there for good");
}
