//! A small service on a bare pool.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use diesel::prelude::*;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8::Pool};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
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

type Db = Pool<AsyncPgConnection>;

pub async fn connect() -> Result<Db, Box<dyn Error + Send + Sync>> {
    let url = std::env::var("DATABASE_URL")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    Ok(Pool::builder().max_size(10).build(manager).await?)
}

pub fn service(db: Db) -> Router {
    Router::new()
        .route("/notes", get(list).post(create))
        .route("/notes/count", get(count))
        .route("/notes/{id}", get(show))
        .with_state(db)
}

async fn list(State(db): State<Db>) -> Result<Json<Vec<Note>>, Failure> {
    let mut conn = db.get().await?;
    Ok(Json(newest(&mut conn).await?))
}

async fn count(State(db): State<Db>) -> Result<Json<i64>, Failure> {
    let mut conn = db.get().await?;
    Ok(Json(notes::table.count().get_result(&mut conn).await?))
}

async fn show(State(db): State<Db>, Path(id): Path<i32>) -> Result<Json<Note>, Failure> {
    let mut conn = db.get().await?;
    Ok(Json(look_at(&mut conn, id).await?))
}

async fn create(State(db): State<Db>, Json(new): Json<NewNote>) -> Result<(StatusCode, Json<Note>), Failure> {
    let mut conn = db.get().await?;
    let insert = diesel::insert_into(notes::table).values(new).returning(Note::as_returning());
    Ok((StatusCode::CREATED, Json(insert.get_result(&mut conn).await?)))
}

async fn newest(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Note>> {
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
