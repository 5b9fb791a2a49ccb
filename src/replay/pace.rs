//! How closely one question follows another.

use std::time::Duration;

/// The pauses between attempts at the same thing: none at first, and then each is twice as long as the one before, up to a maximum.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Attempts that follow one another without a pause.
    at_once: u32,
    first: Duration,
    most: Duration,
    /// Attempts since the start.
    made: u32,
}

impl Pace {
    /// Of questions while somebody waits: a standby that keeps up has replayed what was just written before it has been asked
    /// five times, and one that lags is spared.
    pub(super) const fn of_questions() -> Self {
        Self { at_once: 5, first: Duration::from_millis(1), most: Duration::from_millis(10), made: 0 }
    }

    /// Of attempts that fail. The second is made at once, since the first may only have found the connection closed.
    pub(super) const fn of_failures() -> Self {
        Self { at_once: 2, first: Duration::from_millis(10), most: Duration::from_millis(200), made: 0 }
    }

    /// As if no attempt had been made.
    pub(super) fn restart(&mut self) {
        self.made = 0;
    }

    /// An attempt was made: the pause before the next one.
    pub(super) fn pause(&mut self) -> Duration {
        self.made = self.made.saturating_add(1);
        match self.made.checked_sub(self.at_once) {
            None => Duration::ZERO,
            Some(doublings) => self.first.saturating_mul(1 << doublings.min(16)).min(self.most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(pace: &mut Pace, count: usize) -> Vec<u128> {
        (0..count).map(|_| pace.pause().as_millis()).collect()
    }

    #[test]
    fn five_questions_in_a_row_and_then_growing_pauses() {
        let mut pace = Pace::of_questions();
        for _ in 0..2 {
            assert_eq!(pauses(&mut pace, 11), [0, 0, 0, 0, 1, 2, 4, 8, 10, 10, 10]);
            pace.restart();
        }
        pauses(&mut pace, 2);
        pace.restart();
        assert_eq!(pauses(&mut pace, 5), [0, 0, 0, 0, 1], "five more");
    }

    #[test]
    fn a_failure_is_followed_by_one_attempt_at_once_and_others_in_growing_pauses() {
        let mut pace = Pace::of_failures();
        assert_eq!(pauses(&mut pace, 8), [0, 10, 20, 40, 80, 160, 200, 200]);
    }

    #[test]
    fn the_longest_pause_lasts() {
        let mut pace = Pace::of_questions();
        pace.made = u32::MAX - 1;
        assert_eq!(pauses(&mut pace, 3), [10, 10, 10]);
    }
}
