//! What nobody has, on a stack.
//!
//! What was used last is used next: it is warm, and what a smaller load does not need stays at the bottom, where its place tells
//! it and not a clock.

use super::wire::Fitness;

#[derive(Debug)]
pub(super) struct Stack<T> {
    items: Vec<T>,
    /// So many at the bottom have not been touched since this was set to all of them.
    untouched: usize,
}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Self { items: Vec::new(), untouched: 0 }
    }
}

impl<T> Stack<T> {
    pub(super) fn put(&mut self, item: T) {
        self.items.push(item);
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The topmost one that is not unsettled.
    pub(super) fn take(&mut self, fitness: impl Fn(&mut T) -> Fitness) -> Option<(T, Fitness)> {
        let settled = |(index, item)| match fitness(item) {
            Fitness::Unsettled => None,
            settled => Some((index, settled)),
        };
        let (index, fitness) = self.items.iter_mut().enumerate().rev().find_map(settled)?;
        self.untouched = self.untouched.min(index);
        Some((self.items.remove(index), fitness))
    }

    /// Those that nobody has had since this was asked last.
    pub(super) fn take_untouched(&mut self) -> Vec<T> {
        let untouched = self.items.drain(..self.untouched).collect();
        self.untouched = self.items.len();
        untouched
    }

    /// Those of which this is true.
    pub(super) fn extract(&mut self, which: impl Fn(&T) -> bool) -> Vec<T> {
        let mut extracted = Vec::new();
        for index in (0..self.items.len()).rev() {
            if which(&self.items[index]) {
                extracted.push(self.items.remove(index));
                self.untouched -= usize::from(index < self.untouched);
            }
        }
        extracted
    }

    pub(super) fn clear(&mut self) -> Vec<T> {
        self.untouched = 0;
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(items: impl IntoIterator<Item = u32>) -> Stack<u32> {
        Stack { items: items.into_iter().collect(), untouched: 0 }
    }

    fn top(stack: &mut Stack<u32>) -> u32 {
        stack.take(|_| Fitness::Fit).expect("there is one").0
    }

    #[test]
    fn the_topmost_one_that_has_settled_is_taken() {
        let mut stack = stack(1..=5);
        let fitness = |item: &mut u32| match item {
            5 | 3 => Fitness::Unsettled,
            4 => Fitness::Unfit,
            _ => Fitness::Fit,
        };
        assert_eq!(stack.take(fitness), Some((4, Fitness::Unfit)));
        assert_eq!(stack.take(fitness), Some((2, Fitness::Fit)));
        assert_eq!(stack.take(fitness), Some((1, Fitness::Fit)));
        assert_eq!(stack.take(fitness), None, "what is unsettled stays");
        assert_eq!(stack.clear(), [3, 5]);
    }

    #[test]
    fn what_a_smaller_load_does_not_need_is_untouched() {
        let mut stack = stack(1..=5);
        assert!(stack.take_untouched().is_empty(), "nobody has looked before");
        // Two at a time, often.
        for _ in 0..10 {
            let taken = [top(&mut stack), top(&mut stack)];
            stack.items.extend(taken);
        }
        assert_eq!(stack.take_untouched(), [1, 2, 3]);
        assert_eq!(stack.take_untouched().len(), 2);
        assert!(stack.items.is_empty());
    }

    #[test]
    fn what_is_extracted_from_the_untouched_is_not_counted_among_them() {
        let mut stack = stack(1..=6);
        stack.take_untouched();
        let six = top(&mut stack);
        stack.items.push(six);
        assert_eq!(stack.extract(|item| item % 2 == 0), [6, 4, 2]);
        assert_eq!(stack.take_untouched(), [1, 3, 5]);
        stack.items.extend([7, 8]);
        assert!(stack.take_untouched().is_empty(), "they have come since");
    }
}
