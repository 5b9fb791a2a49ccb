//! The same with its reads on replicas.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_replicas::tower::CausalLayer;
use diesel_replicas::{Causal, ReadConn, Reader, RunQueryDsl, TokenKeys, WriteConn};
use serde::{Deserialize, Serialize};
use std::error::Error;

diesel::table! {
    notes (id) {
        id -> Integer,
        body -> Text,
        views -> Integer,
    }
}

#[derive(Queryable, Selectable, Serialize)]
struct Note {
    id: i32,
    body: String,
    views: i32,
}

#[derive(Deserialize, Insertable)]
#[diesel(table_name = notes)]
struct NewNote {
    body: String,
}

type Db = diesel_replicas::Router;

pub async fn connect() -> Result<Db, Box<dyn Error + Send + Sync>> {
    Ok(Db::from_env().await?)
}

pub fn service(db: Db, keys: TokenKeys) -> Router {
    Router::new()
        .route("/notes", get(list).post(create))
        .route("/notes/count", get(count))
        .route("/notes/{id}", get(show))
        .layer(CausalLayer::signed(&db, keys))
        .with_state(db)
}

async fn list(mut conn: ReadConn<Causal>) -> Result<Json<Vec<Note>>, Failure> {
    Ok(Json(newest(&mut conn).await?))
}

async fn count(mut conn: ReadConn) -> Result<Json<i64>, Failure> {
    Ok(Json(notes::table.count().get_result(&mut conn).await?))
}

async fn show(mut conn: WriteConn, Path(id): Path<i32>) -> Result<Json<Note>, Failure> {
    Ok(Json(look_at(&mut conn, id).await?))
}

async fn create(mut conn: WriteConn, Json(new): Json<NewNote>) -> Result<(StatusCode, Json<Note>), Failure> {
    let insert = diesel::insert_into(notes::table).values(new).returning(Note::as_returning());
    Ok((StatusCode::CREATED, Json(insert.get_result(&mut conn).await?)))
}

async fn newest(conn: &mut Reader<Causal>) -> QueryResult<Vec<Note>> {
    notes::table.order(notes::id.desc()).limit(50).select(Note::as_select()).load(conn).await
}

async fn look_at(conn: &mut AsyncPgConnection, id: i32) -> QueryResult<Note> {
    let seen = diesel::update(notes::table.find(id)).set(notes::views.eq(notes::views + 1));
    seen.returning(Note::as_returning()).get_result(conn).await
}

/// Whatever went wrong, for the log; the client is told no more than that.
struct Failure(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("{}", self.0);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
