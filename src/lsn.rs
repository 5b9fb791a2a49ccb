//! Positions in the write-ahead log, and distances between them.

use std::{fmt, str::FromStr};

/// A position in PostgreSQL's write-ahead log (a log sequence number).
///
/// Its text form is PostgreSQL's: two hexadecimal halves, as in `16/B374D848`. Parsing also takes the zero-padded form
/// (`00000016/B374D848`), so compare positions as values and never as text.
///
/// Positions can be compared only within one timeline of one cluster.
///
/// # Example
///
/// ```
/// use diesel_replicas::Lsn;
///
/// let earlier: Lsn = "16/B374D848".parse()?;
/// let later: Lsn = "17/0".parse()?;
/// assert!(earlier < later);
/// assert_eq!(earlier.bytes_behind(later).get(), 1_284_188_088);
/// # Ok::<(), diesel_replicas::ParseLsnError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// The position at this many bytes from the beginning of the log.
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// Bytes from the beginning of the log.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same position, or if it is the beginning of a page's contents the end of the page before: nobody replays up to behind a
    /// page's header before something follows it.
    pub(crate) const fn before_page_header(self) -> Self {
        const PAGE: u64 = 8192;
        const HEADER: u64 = 24;
        if self.0 % PAGE == HEADER { Self(self.0 - HEADER) } else { self }
    }

    /// How much log there is from here to `ahead`: zero when this position is already at or past it.
    pub const fn bytes_behind(self, ahead: Self) -> WalBytes {
        WalBytes(ahead.0.saturating_sub(self.0))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

fn half(digits: &str) -> Result<u32, ParseLsnError> {
    // `from_str_radix` would also take a sign.
    let only_digits = digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !only_digits {
        return Err(ParseLsnError);
    }
    u32::from_str_radix(digits, 16).map_err(|_| ParseLsnError)
}

/// The text is not a position in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an LSN: expected two halves of one to eight hexadecimal digits, like `16/B374D848`")]
pub struct ParseLsnError;

/// An amount of write-ahead log, in bytes.
///
/// Displays with a binary unit: `512 B`, `1.5 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WalBytes(u64);

impl WalBytes {
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The amount in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WalBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut amount = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // What would be printed as 1024.0 belongs to the next unit.
        while amount >= 1023.95 && unit + 1 < UNITS.len() {
            amount /= 1024.0;
            unit += 1;
        }
        write!(f, "{amount:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_survives_a_round_trip(position: u64) {
            let lsn = Lsn::new(position);
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }

        #[test]
        fn padded_and_lower_case_text_mean_the_same(position: u64) {
            let (high, low) = (position >> 32, position & 0xFFFF_FFFF);
            prop_assert_eq!(format!("{high:08X}/{low:08X}").parse(), Ok(Lsn::new(position)));
            prop_assert_eq!(format!("{high:x}/{low:x}").parse(), Ok(Lsn::new(position)));
        }

        #[test]
        fn order_is_numeric_and_agrees_with_the_distance(a: u64, b: u64) {
            let (x, y) = (Lsn::new(a), Lsn::new(b));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.bytes_behind(y).get(), b.saturating_sub(a));
            prop_assert!(x.bytes_behind(y).get() == 0 || y.bytes_behind(x).get() == 0);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,20}") {
            if let Ok(lsn) = text.parse::<Lsn>() {
                prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
            }
        }

        #[test]
        fn human_readable_amounts_are_short(amount: u64) {
            prop_assert!(WalBytes(amount).to_string().len() <= "1023.9 MiB".len());
        }
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            "/",
            "0",
            "0/",
            "/0",
            "0/0/0",
            "+1/0",
            "1/-1",
            "123456789/0",
            "0/123456789",
            " 0/0",
            "G/0",
            "0/é",
        ] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError), "{text:?}");
        }
    }

    #[test]
    fn amounts_are_human_readable() {
        for (amount, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(WalBytes(amount).to_string(), text);
        }
    }

    #[test]
    fn a_page_header_with_nothing_behind_it_is_no_log() {
        for (position, end) in [(8192 * 5 + 24, 8192 * 5), (8192 * 5 + 32, 8192 * 5 + 32), (24, 0), (0, 0)] {
            assert_eq!(Lsn::new(position).before_page_header(), Lsn::new(end));
        }
    }
}
