use axum::Json;
use axum::extract::State;

use super::App;
use crate::error::ApiError;
use crate::models::Totals;
use crate::queries::totals;

/// Of what the client has written itself, some may lack: these are figures for whoever runs the service. Where the primary counts
/// them, a replica may count them as well, to be compared (`DB_SHADOW_PERCENT`).
pub async fn count(State(app): State<App>) -> Result<Json<Totals>, ApiError> {
    if !app.migrated.is_done() {
        return Err(ApiError::STARTING);
    }
    let read = app.router.read().site("totals");
    read.run_shadowed(|conn| Box::pin(async move { Ok(totals::count(conn).await?) })).await.map(Json)
}
