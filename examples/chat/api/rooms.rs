use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::db::Db;
use crate::error::ApiError;
use crate::extract;
use crate::models::{ReadMarker, Room, RoomSummary};
use crate::queries::rooms;
use crate::text::Name;

#[derive(Deserialize)]
pub struct NewRoom {
    name: Name,
}

pub async fn create(
    db: Db,
    extract::Json(new): extract::Json<NewRoom>,
) -> Result<(StatusCode, Json<Room>), ApiError> {
    let mut conn = db.write().await?;
    let room = rooms::create(&mut conn, &new.name).await?;
    Ok((StatusCode::CREATED, Json(room)))
}

#[derive(Deserialize)]
pub struct ForUser {
    user_id: Option<i64>,
}

pub async fn list(
    db: Db,
    extract::Query(reader): extract::Query<ForUser>,
) -> Result<Json<Vec<RoomSummary>>, ApiError> {
    db.read(async |conn| Ok(Json(rooms::list(conn, reader.user_id).await?))).await
}

#[derive(Deserialize)]
pub struct ReadUpTo {
    user_id: i64,
    message_id: i64,
}

pub async fn mark_read(
    db: Db,
    extract::Path(room): extract::Path<i64>,
    extract::Json(up_to): extract::Json<ReadUpTo>,
) -> Result<Json<ReadMarker>, ApiError> {
    let mut conn = db.write().await?;
    Ok(Json(rooms::mark_read(&mut conn, room, up_to.user_id, up_to.message_id).await?))
}
