//! What each handle can be used as.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_async::{AsyncConnection, AsyncMigrationHarness, SimpleAsyncConnection};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use diesel_replicas::{Freshness, Pipeline, ReadConn, Reader, RunQueryDsl, SaveChangesDsl, WriteConn};

use crate::schema::{NewUser, Rename, posts, shout, users};
use crate::stage::Stage;

async fn user_ids(conn: &mut Reader) -> QueryResult<Vec<i32>> {
    users::table.select(users::id).order(users::id).load(conn).await
}

/// Passes its reader on, more than once.
async fn user_ids_twice(conn: &mut Reader) -> QueryResult<(Vec<i32>, Vec<i32>)> {
    let first = user_ids(conn).await?;
    let second = user_ids(&mut *conn).await?;
    Ok((first, second))
}

#[tokio::test]
async fn every_handle_coerces_to_a_reader() {
    let stage = Stage::set().await;
    let (mut read, mut write, mut plain) = (stage.read().await, stage.write().await, stage.plain().await);

    assert_eq!(user_ids(&mut read).await.unwrap(), [1, 2, 3]);
    assert_eq!(user_ids(&mut write).await.unwrap(), [1, 2, 3]);
    assert_eq!(user_ids(&mut plain).await.unwrap(), [1, 2, 3]);
    assert_eq!(user_ids(write.as_read()).await.unwrap(), [1, 2, 3]);
    assert_eq!(user_ids_twice(&mut read).await.unwrap().1, [1, 2, 3]);
    for conn in [&mut read as &mut Reader, &mut write, &mut plain] {
        for _ in 0..2 {
            assert_eq!(user_ids(conn).await.unwrap(), [1, 2, 3]);
        }
    }
}

#[tokio::test]
async fn readers_go_into_spawned_tasks() {
    let stage = Stage::set().await;
    let mut read = stage.read().await;
    let mut boxed: Box<Reader> = Box::new(stage.write().await);

    let on_read = tokio::spawn(async move { user_ids_twice(&mut read).await });
    let on_boxed = tokio::spawn(async move { user_ids(&mut *boxed).await });

    assert_eq!(on_read.await.unwrap().unwrap().0, [1, 2, 3]);
    assert_eq!(on_boxed.await.unwrap().unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn a_reference_to_a_handle_is_a_handle() {
    let stage = Stage::set().await;
    let (mut read, mut write) = (stage.read().await, stage.write().await);

    let mut conn = &mut read;
    assert_eq!(users::table.count().get_result::<i64>(&mut conn).await.unwrap(), 3);
    let mut conn: &mut Reader = &mut read;
    assert_eq!(users::table.count().get_result::<i64>(&mut conn).await.unwrap(), 3);
    let mut conn = &mut write;
    assert_eq!(users::table.count().get_result::<i64>(&mut conn).await.unwrap(), 3);
}

#[tokio::test]
async fn handles_name_their_node_and_show_nothing_else() {
    let stage = Stage::set().await;
    let (read, write) = (stage.read().await, stage.write().await);

    assert_eq!(format!("{read:?}"), format!("ReadConn {{ node: {:?}, .. }}", read.node()));
    assert_eq!(format!("{write:?}"), format!("WriteConn {{ node: {:?}, .. }}", write.node()));
    assert_ne!(read.node(), write.node());
}

async fn count_users(mut conn: Pipeline<'_>) -> QueryResult<i64> {
    users::table.count().get_result(&mut conn).await
}

async fn count_posts(mut conn: Pipeline<'_>) -> QueryResult<i64> {
    posts::table.count().get_result(&mut conn).await
}

async fn both_counts(conn: Pipeline<'_>) -> QueryResult<(i64, i64)> {
    tokio::try_join!(count_users(conn), count_posts(conn))
}

#[tokio::test]
async fn a_pipeline_runs_several_reads_at_once() {
    let stage = Stage::set().await;
    let (mut read, write, plain) = (stage.read().await, stage.write().await, stage.plain().await);

    let pipeline = read.pipeline();
    let (counts, loud) = tokio::join!(both_counts(pipeline), async {
        diesel::select(shout("hey")).get_result::<String>(&mut { pipeline }).await
    });
    assert_eq!((counts.unwrap(), loud.unwrap().as_str()), ((3, 4), "HEY!"));

    assert_eq!(both_counts(write.pipeline().into()).await.unwrap(), (3, 4));
    assert_eq!(both_counts((&read).into()).await.unwrap(), (3, 4));
    assert_eq!(both_counts((&write).into()).await.unwrap(), (3, 4));
    assert_eq!(both_counts((&plain).into()).await.unwrap(), (3, 4));
    let reader: &mut Reader = &mut read;
    assert_eq!(both_counts(reader.pipeline()).await.unwrap(), (3, 4));
    let ids: Vec<i32> = users::table.select(users::id).load(&mut reader.pipeline()).await.unwrap();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_pipeline_goes_into_a_spawned_task() {
    let stage = Stage::set().await;
    let read = stage.read().await;

    let counts = tokio::spawn(async move { both_counts(read.pipeline()).await });

    assert_eq!(counts.await.unwrap().unwrap(), (3, 4));
}

/// As it stands in services that know nothing of this crate.
mod existing_code {
    use diesel::prelude::*;
    use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

    use crate::schema::{NewUser, posts, users};

    pub(super) async fn create(conn: &mut AsyncPgConnection, name: &str) -> QueryResult<i32> {
        diesel::insert_into(users::table).values(NewUser { name }).returning(users::id).get_result(conn).await
    }

    pub(super) async fn generic<C>(conn: &mut C) -> QueryResult<i64>
    where
        C: AsyncConnection<Backend = diesel::pg::Pg>,
    {
        users::table.count().get_result(conn).await
    }

    pub(super) async fn pipelined(mut conn: &AsyncPgConnection) -> QueryResult<i64> {
        posts::table.count().get_result(&mut conn).await
    }
}

#[tokio::test]
async fn existing_code_takes_a_write_conn_as_it_is() {
    let stage = Stage::set().await;
    let mut conn = stage.write().await;

    assert_eq!(existing_code::create(&mut conn, "Dan").await.unwrap(), 4);
    assert_eq!(existing_code::generic(&mut conn).await.unwrap(), 4);
    assert_eq!(existing_code::generic(&mut *conn).await.unwrap(), 4);
    let (one, two) = tokio::join!(existing_code::pipelined(&conn), existing_code::pipelined(&conn));
    assert_eq!((one.unwrap(), two.unwrap()), (4, 4));
    conn.batch_execute("DELETE FROM posts; DELETE FROM users").await.unwrap();
    assert_eq!(existing_code::generic(&mut conn).await.unwrap(), 0);
}

/// Generic over the connection, with the verbs of this crate.
async fn generic<C>(conn: &mut C) -> QueryResult<i64>
where
    C: AsyncConnection<Backend = Pg>,
{
    diesel::insert_into(users::table).values(NewUser { name: "Gen" }).execute(conn).await?;
    users::table.count().get_result(conn).await
}

#[tokio::test]
async fn the_verbs_work_on_connections_of_diesel_async_and_in_generic_code() {
    let stage = Stage::set().await;
    let (mut plain, mut write) = (stage.plain().await, stage.write().await);

    assert_eq!(generic(&mut plain).await.unwrap(), 4);
    assert_eq!(generic(&mut write).await.unwrap(), 5);
    let mut shared = &plain;
    assert_eq!(users::table.count().get_result::<i64>(&mut shared).await.unwrap(), 5);
    let raw = diesel::sql_query("DELETE FROM posts").execute(&mut write).await.unwrap();
    assert_eq!(raw, 4);
    let locked =
        users::table.select(users::id).find(1).for_update().skip_locked().first::<i32>(&mut plain).await;
    assert_eq!(locked.unwrap(), 1);
    let (one, two) = tokio::join!(
        users::table.count().get_result::<i64>(&mut &*write),
        posts::table.count().get_result::<i64>(&mut &*write),
    );
    assert_eq!((one.unwrap(), two.unwrap()), (5, 0));
}

#[tokio::test]
async fn changes_are_saved_on_connections_that_write() {
    let stage = Stage::set().await;
    let (mut plain, mut write) = (stage.plain().await, stage.write().await);
    type Row = (i32, String, Option<String>, Vec<String>, serde_json::Value);

    let row: Row = Rename { id: 1, name: "Ida" }.save_changes(&mut write).await.unwrap();
    assert_eq!(row.1, "Ida");
    let row: Row = Rename { id: 1, name: "Ada" }.save_changes(&mut plain).await.unwrap();
    assert_eq!(row.1, "Ada");
    let missing = Rename { id: 9, name: "Nil" }.save_changes::<Row>(&mut write).await;
    assert_eq!(missing, Err(Error::NotFound));
}

#[tokio::test]
async fn transactions_nest_on_a_write_conn() {
    let stage = Stage::set().await;
    let mut conn = stage.write().await;

    conn.transaction(async |conn| {
        existing_code::create(conn, "kept").await?;
        let inner = conn
            .transaction(async |conn| {
                existing_code::create(conn, "undone").await?;
                Err::<(), _>(Error::RollbackTransaction)
            })
            .await;
        assert_eq!(inner, Err(Error::RollbackTransaction));
        QueryResult::Ok(())
    })
    .await
    .unwrap();
    assert_eq!(users::table.count().get_result::<i64>(&mut conn).await.unwrap(), 4);

    let level: String = conn
        .build_transaction()
        .serializable()
        .run(async |conn| {
            existing_code::create(conn, "kept").await?;
            user_ids(conn).await?;
            setting("transaction_isolation", conn).await
        })
        .await
        .unwrap();
    assert_eq!(level, "serializable");
    assert_eq!(users::table.count().get_result::<i64>(&mut conn).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_run_on_a_write_conn() {
    let stage = Stage::set().await;
    let folder = std::env::temp_dir().join(format!("migrations-{}", std::process::id()));
    let migration = folder.join("2024-01-01-000000_things");
    std::fs::create_dir_all(&migration).unwrap();
    std::fs::write(migration.join("up.sql"), "CREATE TABLE things (id integer PRIMARY KEY)").unwrap();
    std::fs::write(migration.join("down.sql"), "DROP TABLE things").unwrap();

    let mut harness = AsyncMigrationHarness::new(stage.write().await);
    harness.run_pending_migrations(FileBasedMigrations::from_path(&folder).unwrap()).unwrap();
    let mut conn: WriteConn = harness.into_inner();
    std::fs::remove_dir_all(folder).unwrap();

    assert_eq!(diesel::sql_query("TABLE things").execute(&mut conn).await.unwrap(), 0);
}

diesel::define_sql_function! { fn current_setting(name: diesel::sql_types::Text) -> diesel::sql_types::Text; }

async fn setting(name: &str, conn: &mut Reader) -> QueryResult<String> {
    diesel::select(current_setting(name)).get_result(conn).await
}

#[tokio::test]
async fn a_snapshot_sees_one_state() {
    let stage = Stage::set().await;
    for mut conn in [stage.read().await, stage.read_primary().await] {
        let (before, after) = conn
            .snapshot()
            .run(async |conn| {
                let before = users::table.count().get_result::<i64>(conn).await?;
                let mut other = stage.write().await;
                existing_code::create(&mut other, "meanwhile").await?;
                stage.caught_up().await;
                let after = users::table.count().get_result::<i64>(conn).await?;
                QueryResult::Ok((before, after))
            })
            .await
            .unwrap();
        let outside = users::table.count().get_result::<i64>(&mut conn).await.unwrap();

        assert_eq!((after, outside), (before, before + 1), "{conn:?}");
    }
}

async fn modes<F: Freshness>(conn: &mut ReadConn<F>) -> QueryResult<[String; 3]> {
    Ok([
        setting("transaction_isolation", conn).await?,
        setting("transaction_read_only", conn).await?,
        setting("transaction_deferrable", conn).await?,
    ])
}

#[tokio::test]
async fn a_snapshot_is_read_only_at_the_level_that_was_asked_for() {
    let stage = Stage::set().await;
    let (mut replica, mut primary, mut write) =
        (stage.read().await, stage.read_primary().await, stage.write().await);

    assert_eq!(replica.snapshot().run(modes).await.unwrap(), ["repeatable read", "on", "off"]);
    assert_eq!(write.as_read().snapshot().run(modes).await.unwrap(), ["repeatable read", "on", "off"]);
    assert_eq!(primary.snapshot().serializable().run(modes).await.unwrap(), ["serializable", "on", "off"]);
    assert_eq!(primary.snapshot().deferrable().run(modes).await.unwrap(), ["serializable", "on", "on"]);

    let error = replica.snapshot().serializable().run(modes).await.unwrap_err();
    assert!(error.to_string().contains("cannot use serializable mode in a hot standby"), "{error}");
    assert_eq!(user_ids(&mut replica).await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn a_snapshot_ends_when_its_closure_fails_and_does_not_nest() {
    #[derive(Debug, PartialEq)]
    enum Failure {
        Mine,
        Diesel(Error),
    }
    impl From<Error> for Failure {
        fn from(error: Error) -> Self {
            Self::Diesel(error)
        }
    }
    let stage = Stage::set().await;
    let mut conn = stage.read().await;

    let failed = conn.snapshot().run(async |_| Err::<(), _>(Failure::Mine)).await;
    assert_eq!(failed, Err(Failure::Mine));

    let nested =
        conn.snapshot().run(async |conn| conn.snapshot().run(async |_| QueryResult::Ok(())).await).await;
    assert_eq!(nested, Err(Error::AlreadyInTransaction));

    let broken = conn.snapshot().run(async |conn| nonsense(conn).await).await;
    assert!(matches!(broken, Err(Error::DatabaseError(..))), "{broken:?}");
    assert_eq!(setting("transaction_isolation", &mut conn).await.unwrap(), "read committed");
}

async fn nonsense(conn: &mut Reader) -> QueryResult<i32> {
    diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1 / 0")).get_result(conn).await
}

#[tokio::test]
async fn a_snapshot_goes_into_a_spawned_task() {
    let stage = Stage::set().await;
    let mut conn = stage.read().await;
    let wanted = String::from("Ada");

    let found = tokio::spawn(async move {
        conn.snapshot()
            .run(async |conn| {
                let found =
                    users::table.filter(users::name.eq(&wanted)).count().get_result::<i64>(conn).await?;
                both_counts(conn.pipeline()).await?;
                QueryResult::Ok(found)
            })
            .await
    });

    assert_eq!(found.await.unwrap().unwrap(), 1);
}
