use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::db::Db;
use crate::error::ApiError;
use crate::extract;
use crate::models::User;
use crate::queries::users;
use crate::text::Name;

#[derive(Deserialize)]
pub struct NewUser {
    name: Name,
}

pub async fn create(
    db: Db,
    extract::Json(new): extract::Json<NewUser>,
) -> Result<(StatusCode, Json<User>), ApiError> {
    let mut conn = db.write().await?;
    let user = users::create(&mut conn, &new.name).await?;
    Ok((StatusCode::CREATED, Json(user)))
}

#[derive(Deserialize)]
pub struct Filter {
    name: Option<Name>,
}

pub async fn list(
    db: Db,
    extract::Query(filter): extract::Query<Filter>,
) -> Result<Json<Vec<User>>, ApiError> {
    db.read(async |conn| Ok(Json(users::list(conn, filter.name.as_ref()).await?))).await
}
