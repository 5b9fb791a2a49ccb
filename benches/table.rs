//! A table to read from.

use crate::followed::followed;
use pg_cluster::Cluster;

diesel::table! {
    notes (id) {
        id -> Integer,
        body -> Text,
    }
}

/// Makes it, with ids from 1 to 1,000, on all nodes.
pub(crate) async fn fill(cluster: &Cluster) {
    let sql = "CREATE TABLE notes AS SELECT id, 'note ' || id AS body FROM generate_series(1, 1000) AS id; \
               ALTER TABLE notes ADD PRIMARY KEY (id)";
    cluster.primary().sql(sql).await.expect("a table");
    followed(cluster).await;
}
