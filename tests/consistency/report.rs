//! What came of a run.

use crate::history::{Guarantee, Missing, Violation};
use crate::user::Exchange;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// So many violations are told in full by each window.
const EXAMPLES: usize = 2;

/// Of a token that knows no position.
const NO_POSITION: &str = "ffffffffffffffff";

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    pub took: Duration,
    pub by_primary: bool,
}

#[derive(Debug, Default)]
pub struct Report {
    reads: Vec<Served>,
    writes: Vec<Served>,
    failed: BTreeMap<String, usize>,
    failed_reads: usize,
    failed_writes: usize,
    violations: BTreeMap<(Guarantee, Missing), usize>,
    examples: Vec<String>,
    /// Writes that were acknowledged without a token.
    untold: usize,
    /// Tokens without a position: only the primary serves them.
    without_position: usize,
    /// By timeline.
    tokens: BTreeMap<String, usize>,
}

impl Report {
    pub fn served(&mut self, wrote: bool, served: Served) {
        if wrote { &mut self.writes } else { &mut self.reads }.push(served);
    }

    pub fn failed(&mut self, wrote: bool, why: &str) {
        let what = if wrote { "write" } else { "read" };
        *self.failed.entry(format!("{what}: {why}")).or_default() += 1;
        *if wrote { &mut self.failed_writes } else { &mut self.failed_reads } += 1;
    }

    /// The token that a client has after an answer, empty for none.
    pub fn token(&mut self, wrote: bool, token: &str) {
        self.untold += usize::from(wrote && token.is_empty());
        if let Some(timeline) = token.get(19..27) {
            *self.tokens.entry(timeline.to_owned()).or_default() += 1;
            self.without_position += usize::from(token.get(28..44) == Some(NO_POSITION));
        }
    }

    /// Whether the next violation is told in full.
    pub fn is_curious(&self) -> bool {
        self.examples.len() < EXAMPLES
    }

    pub fn violated(&mut self, violation: &Violation<Arc<Exchange>>, read: &Exchange, evidence: String) {
        *self.violations.entry((violation.guarantee, violation.missing)).or_default() += 1;
        if self.is_curious() {
            self.examples.push(format!("{violation}\n      read: {read}{evidence}"));
        }
    }

    pub fn merge(&mut self, other: Self) {
        let Self {
            reads,
            writes,
            failed,
            failed_reads,
            failed_writes,
            violations,
            examples,
            untold,
            without_position,
            tokens,
        } = other;
        self.reads.extend(reads);
        self.writes.extend(writes);
        for (text, times) in failed {
            *self.failed.entry(text).or_default() += times;
        }
        self.failed_reads += failed_reads;
        self.failed_writes += failed_writes;
        for (kind, times) in violations {
            *self.violations.entry(kind).or_default() += times;
        }
        self.examples.extend(examples);
        self.untold += untold;
        self.without_position += without_position;
        for (timeline, times) in tokens {
            *self.tokens.entry(timeline).or_default() += times;
        }
    }

    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    pub fn writes(&self) -> usize {
        self.writes.len()
    }

    pub fn by_replicas(&self) -> usize {
        self.reads.iter().filter(|read| !read.by_primary).count()
    }

    pub fn failed_reads(&self) -> usize {
        self.failed_reads
    }

    /// Acknowledged writes that came without a token.
    pub fn untold(&self) -> usize {
        self.untold
    }

    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub fn violations(&self, of: Guarantee) -> usize {
        self.violations.iter().filter(|((guarantee, _), _)| *guarantee == of).map(|(_, times)| times).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reads, writes) = (self.reads(), self.writes());
        let failed = self.failed_reads + self.failed_writes;
        write!(
            f,
            "\n  {} operations: {reads} reads, {writes} writes, {failed} failed",
            reads + writes + failed
        )?;
        let (by_primary, by_replicas): (Vec<_>, Vec<_>) = self.reads.iter().partition(|read| read.by_primary);
        let share = by_replicas.len() as f64 * 100.0 / reads.max(1) as f64;
        write!(f, "\n  replicas served {share:.1} % of the reads")?;
        let all = [
            ("all reads", self.reads.clone()),
            ("by replicas", by_replicas),
            ("by the primary", by_primary),
            ("writes", self.writes.clone()),
        ];
        for (name, served) in all {
            write!(f, "\n  {name:14} {}", Latencies::of(&served))?;
        }
        write!(f, "\n  tokens by timeline {:?}, {} without a position", self.tokens, self.without_position)?;
        for (text, times) in &self.failed {
            write!(f, "\n  {times} times {text}")?;
        }
        for ((guarantee, missing), times) in &self.violations {
            write!(f, "\n  violated {times} times: {guarantee:?}, {missing:?}")?;
        }
        for example in self.examples.iter().take(10) {
            write!(f, "\n    {example}")?;
        }
        Ok(())
    }
}

struct Latencies([Duration; 5]);

impl Latencies {
    fn of(served: &[Served]) -> Self {
        let mut took: Vec<_> = served.iter().map(|served| served.took).collect();
        took.sort_unstable();
        let last = took.len().saturating_sub(1) as f64;
        let within = |share: f64| took.get((last * share) as usize).copied().unwrap_or_default();
        Self([0.5, 0.9, 0.99, 0.999, 1.0].map(within))
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, p999, most] = self.0;
        write!(f, "p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, at most {most:.1?}")
    }
}
