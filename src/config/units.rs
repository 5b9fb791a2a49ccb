//! Times and sizes as text, with the units of PostgreSQL's own settings.
//!
//! Source: PostgreSQL documentation, "Parameter Names and Values", numeric with unit; a size is in multiples of 1024.

use super::fault::Unusable;
use std::time::Duration;

const TIMES: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];

/// `250ms`, `5 s`.
pub(super) fn time(text: &str) -> Result<Duration, Unusable> {
    let unusable = |problem| {
        Unusable::new(problem, "a whole number and one of the units us, ms, s, min, h and d, as in 250ms")
    };
    measure(text, &TIMES).map(Duration::from_micros).map_err(unusable)
}

/// `16MB`; without a unit in bytes.
pub(super) fn size(text: &str) -> Result<u64, Unusable> {
    let unusable = |problem| {
        Unusable::new(problem, "a whole number of bytes, or one of B, kB, MB, GB and TB, as in 16MB")
    };
    match text.parse() {
        Ok(bytes) => Ok(bytes),
        Err(_) => measure(text, &SIZES).map_err(unusable),
    }
}

fn measure(text: &str, units: &[(&str, u64)]) -> Result<u64, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor =
        units.iter().find(|(name, _)| *name == unit.trim_start_matches(' ')).map(|(_, factor)| factor);
    match (number, unit, factor) {
        ("", ..) => Err("is not a whole number with a unit"),
        (_, "", _) => Err("lacks its unit"),
        (.., None) => Err("is not a whole number with a unit"),
        (number, _, Some(factor)) => {
            let number = number.parse::<u64>().ok();
            number.and_then(|number| number.checked_mul(*factor)).ok_or("is too large")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_a_unit() {
        for (text, micros) in [
            ("7us", 7),
            ("0ms", 0),
            ("250ms", 250_000),
            ("5 s", 5_000_000),
            ("2min", 120_000_000),
            ("1h", 3_600_000_000),
            ("1d", 86_400_000_000),
        ] {
            assert_eq!(time(text).expect(text), Duration::from_micros(micros), "{text}");
        }
        for (text, problem) in [
            ("", "is not a whole number with a unit"),
            ("s", "is not a whole number with a unit"),
            ("-1s", "is not a whole number with a unit"),
            ("+1s", "is not a whole number with a unit"),
            ("1e9s", "is not a whole number with a unit"),
            ("1.5s", "is not a whole number with a unit"),
            ("1S", "is not a whole number with a unit"),
            ("1s1", "is not a whole number with a unit"),
            ("1\u{a0}s", "is not a whole number with a unit"),
            ("\u{661}s", "is not a whole number with a unit"),
            ("5", "lacks its unit"),
            ("99999999999999999999h", "is too large"),
            ("18446744073709551615s", "is too large"),
        ] {
            assert_eq!(time(text).expect_err(text).problem, problem, "{text:?}");
        }
    }

    #[test]
    fn sizes_may_have_one() {
        for (text, bytes) in [
            ("0", 0),
            ("18", 18),
            ("18B", 18),
            ("2kB", 2048),
            ("16 MB", 16 << 20),
            ("3GB", 3 << 30),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(size(text).expect(text), bytes, "{text}");
        }
        for text in ["", "kB", "1KB", "1mb", "-1", "1.5GB", "16777216TB", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_is_it_is_read_or_refused(text in "[0-9]{0,22} ?[a-zA-Z\u{661}]{0,4}|.{0,8}") {
            let _ = (time(&text), size(&text));
        }

        #[test]
        fn what_fits_is_exact(number: u64, unit in prop::sample::select(&TIMES[..])) {
            let expected = u128::from(number) * u128::from(unit.1);
            let told = time(&format!("{number}{}", unit.0)).ok().map(|time| time.as_micros());
            prop_assert_eq!(told, u64::try_from(expected).ok().map(u128::from));
        }
    }
}
