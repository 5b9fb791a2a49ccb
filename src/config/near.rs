//! Which of our names somebody may have meant.

/// The name that this text is a slip of, if there is one: as many as one in four letters are wrong, missing, too many or changed
/// over with the next, two at most; or it has another unit at its end than `_MS`.
pub(super) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_uppercase();
    let measured = names.into_iter().map(|name| (distance(&text, name), name));
    let is_near =
        |(distance, name): &(usize, &str)| *distance <= 2.min(name.len() / 4) || has_other_unit(&text, name);
    measured.filter(is_near).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

fn has_other_unit(text: &str, name: &str) -> bool {
    const UNITS: [&str; 9] =
        ["_S", "_SEC", "_SECS", "_SECONDS", "_MSEC", "_MILLIS", "_MILLISECONDS", "_MIN", "_MINUTES"];
    let of_a_time = name.strip_suffix("_MS");
    of_a_time.and_then(|name| text.strip_prefix(name)).is_some_and(|unit| UNITS.contains(&unit))
}

/// Optimal string alignment: insertions, deletions, substitutions, and transpositions of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let other = usize::from(a[i - 1] != b[j - 1]);
                let changed = rows[i - 1][j - 1] + other;
                let least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swaps = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swaps { least.min(rows[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] =
        ["POOL_SIZE", "ZONE", "CHECKOUT_TIMEOUT", "CHECKOUT_TIMEOUT_MS", "READ_REPLICA_URLS"];

    #[test]
    fn slips_are_told() {
        for (text, meant) in [
            ("POOL_SIZ", "POOL_SIZE"),
            ("POOL_SZIE", "POOL_SIZE"),
            ("POOLSIZE", "POOL_SIZE"),
            ("POOL_SIZES", "POOL_SIZE"),
            ("pool_size", "POOL_SIZE"),
            ("ZONES", "ZONE"),
            ("READ_REPLICA_URL", "READ_REPLICA_URLS"),
            ("READ_REPLICAS_URL", "READ_REPLICA_URLS"),
            ("CHECKOUT_TIMEOUT_SECS", "CHECKOUT_TIMEOUT_MS"),
            ("CHEKOUT_TIMEOUT", "CHECKOUT_TIMEOUT"),
        ] {
            assert_eq!(nearest(text, NAMES), Some(meant), "{text}");
        }
    }

    #[test]
    fn what_a_service_has_of_its_own_is_left_alone() {
        for text in [
            "HOST",
            "PORT",
            "NAME",
            "USER",
            "PASSWORD",
            "PASS",
            "URL",
            "SCHEMA",
            "SSLMODE",
            "SSL_MODE",
            "MAX_POOL_SIZE",
            "POOL_MAX_SIZE",
            "POOL_MIN",
            "MAX_CONNECTIONS",
            "TIMEOUT",
            "CONN",
            "TYPE",
            "TZ",
            "NODE",
            "DRIVER",
            "REPLICA_URLS",
            "STATEMENT_TIMEOUT",
            "",
        ] {
            assert_eq!(nearest(text, NAMES), None, "{text}");
        }
    }
}
