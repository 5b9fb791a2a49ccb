use axum::Json;
use axum::http::StatusCode;
use diesel_replicas::Reader;
use serde::Deserialize;

use crate::db::Db;
use crate::error::ApiError;
use crate::extract;
use crate::models::Message;
use crate::queries::messages::{self, Page, Posted};
use crate::queries::rooms;
use crate::text::{Body, ClientKey, Terms};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 100;

#[derive(Deserialize)]
pub struct NewMessage {
    author_id: i64,
    body: Body,
    client_key: Option<ClientKey>,
}

pub async fn post(
    db: Db,
    extract::Path(room): extract::Path<i64>,
    extract::Json(new): extract::Json<NewMessage>,
) -> Result<(StatusCode, Json<Message>), ApiError> {
    let mut conn = db.write().await?;
    match messages::post(&mut conn, room, new.author_id, &new.body, new.client_key.as_ref()).await? {
        Posted::New(message) => Ok((StatusCode::CREATED, Json(message))),
        Posted::Again(message) => Ok((StatusCode::OK, Json(message))),
    }
}

#[derive(Deserialize)]
pub struct HistoryQuery {
    before: Option<i64>,
    limit: Option<i64>,
}

pub async fn history(
    db: Db,
    extract::Path(room): extract::Path<i64>,
    extract::Query(query): extract::Query<HistoryQuery>,
) -> Result<Json<Vec<Message>>, ApiError> {
    let page = page(query.before, query.limit)?;
    db.read(async |conn| {
        let found = messages::history(conn, room, page).await?;
        of_room(conn, room, found).await
    })
    .await
}

#[derive(Deserialize)]
pub struct SearchQuery {
    q: Terms,
    before: Option<i64>,
    limit: Option<i64>,
}

pub async fn search(
    db: Db,
    extract::Path(room): extract::Path<i64>,
    extract::Query(query): extract::Query<SearchQuery>,
) -> Result<Json<Vec<Message>>, ApiError> {
    let page = page(query.before, query.limit)?;
    db.read(async |conn| {
        let found = messages::search(conn, room, &query.q, page).await?;
        of_room(conn, room, found).await
    })
    .await
}

fn page(before: Option<i64>, limit: Option<i64>) -> Result<Page, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let message = format!("limit must be between 1 and {MAX_LIMIT}, it is {limit}");
        return Err(ApiError::refused(StatusCode::BAD_REQUEST, message));
    }
    Ok(Page { before, limit })
}

/// Nothing found is an answer, unless the room itself is missing: looked up only then, for it costs a query.
async fn of_room(conn: &mut Reader, room: i64, found: Vec<Message>) -> Result<Json<Vec<Message>>, ApiError> {
    if found.is_empty() && !rooms::is_there(conn, room).await? {
        return Err(ApiError::not_found("no such room"));
    }
    Ok(Json(found))
}
