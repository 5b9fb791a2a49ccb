//! Which metrics there are. `docs/metrics.md` has the same table.

use metrics::Unit;

/// One metric.
///
/// Those with a name in OpenTelemetry's [conventions for database clients] have that one, and all others one with their unit in it, so
/// that exporters which add no unit lose none.
///
/// [conventions for database clients]: https://opentelemetry.io/docs/specs/semconv/db/database-metrics/
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    unit: Unit,
    help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

macro_rules! table {
    ($($constant:ident: $kind:ident $name:literal in $unit:ident, $help:literal;)*) => {
        $(pub(super) const $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help };)*
        pub(super) const ALL: &[Metric] = &[$($constant),*];
    };
}

table! {
    LAG_SECONDS: Gauge "diesel_replicas.lag_seconds" in Seconds,
        "How far the node was behind the primary at the last probe, at most; NaN where that is unknown";
    LAG_BYTES: Gauge "diesel_replicas.lag_bytes" in Bytes,
        "How much log the node had yet to replay at the last probe, at most; NaN where that is unknown";
    HEALTH: Gauge "diesel_replicas.health" in Count, "1 for the node's health, 0 for every other";
    HEALTH_REASON: Gauge "diesel_replicas.health_reason" in Count,
        "1 for the reason of the node's health, 0 for every other";
    ROLE: Gauge "diesel_replicas.role" in Count, "1 for what the node is, 0 for what it is not";
    SERVES_READS: Gauge "diesel_replicas.serves_reads" in Count,
        "1 if reads go to the node other than for want of anybody else";
    SERVES_WRITES: Gauge "diesel_replicas.serves_writes" in Count, "1 if writes go to the node";
    SERVING_REPLICAS: Gauge "diesel_replicas.serving_replicas" in Count, "How many replicas serve reads";
    HAS_PRIMARY: Gauge "diesel_replicas.has_primary" in Count, "1 while writes go somewhere";
    SPLIT_BRAIN: Gauge "diesel_replicas.split_brain" in Count, "1 while several nodes are writable";
    HANDLES: Counter "diesel_replicas.handles_total" in Count, "Handles that were given out";
    FAILURES: Counter "diesel_replicas.failures_total" in Count, "What the node failed, or cancelled for its replay";
    EJECTIONS: Counter "diesel_replicas.ejections_total" in Count,
        "How often the node was taken out since it failed the work sent to it";
    ROLE_CHANGES: Counter "diesel_replicas.role_changes_total" in Count,
        "How often the node turned out to be something else than it was taken for";
    FALLBACKS: Counter "diesel_replicas.fallbacks_total" in Count,
        "Reads that the node served for want of a replica that could, or that was fresh enough";
    RETRIES: Counter "diesel_replicas.retries_total" in Count,
        "Reads that were run once more, elsewhere if there was another node, since this one had failed them";
    PROBE_FAILURES: Counter "diesel_replicas.probe_failures_total" in Count, "Probes that ended without an answer";
    PROBE_DURATION: Histogram "diesel_replicas.probe_duration_seconds" in Seconds,
        "How long the node took to answer a probe";
    CONNECTIONS: Gauge "db.client.connection.count" in Count, "Open connections of the pool, by state";
    CONNECTIONS_MAX: Gauge "db.client.connection.max" in Count, "Connections of the pool at most";
    PENDING: Gauge "db.client.connection.pending_requests" in Count, "Requests that wait for a connection";
    TIMEOUTS: Counter "db.client.connection.timeouts" in Count,
        "Requests that ended since all connections of the pool stayed in use";
    CREATE_TIME: Histogram "db.client.connection.create_time" in Seconds, "How long it took to open a connection";
    WAIT_TIME: Histogram "db.client.connection.wait_time" in Seconds,
        "How long it took from asking the pool to the handle";
    USE_TIME: Histogram "db.client.connection.use_time" in Seconds, "For how long a handle was out";
    OPERATION_DURATION: Histogram "db.client.operation.duration" in Seconds,
        "How long the node took to begin to answer a call";
}

impl Metric {
    /// Tells the recorder what it is.
    pub(super) fn describe(&self) {
        let Self { name, kind, unit, help } = *self;
        match kind {
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Histogram => metrics::describe_histogram!(name, unit, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = include_str!("../../docs/metrics.md");

    #[test]
    fn the_documented_table_is_this_one() {
        let rows = DOCUMENTED.lines().filter_map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind @ ("gauge" | "counter" | "histogram"), _, _] = *cells else { return None };
            Some((name.trim_matches('`').to_owned(), kind.to_owned()))
        });
        let ours =
            ALL.iter().map(|metric| (metric.name.to_owned(), format!("{:?}", metric.kind).to_lowercase()));
        assert_eq!(rows.collect::<Vec<_>>(), ours.collect::<Vec<_>>());
    }
}
