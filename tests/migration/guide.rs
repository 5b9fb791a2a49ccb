//! The guide shows every line that changes, and no other.

use std::collections::BTreeMap;

const GUIDE: &str = include_str!("../../docs/migrating.md");
const BEFORE: &str = include_str!("../../examples/migration/before.rs");
const SWAPPED: &str = include_str!("../../examples/migration/swapped.rs");
const AFTER: &str = include_str!("../../examples/migration/after.rs");

/// How many more of each line there are in `to` than in `from`.
fn changes<'a>(
    from: impl Iterator<Item = &'a str>,
    to: impl Iterator<Item = &'a str>,
) -> BTreeMap<&'a str, i64> {
    let mut counts = BTreeMap::new();
    from.for_each(|line| *counts.entry(line).or_default() -= 1);
    to.for_each(|line| *counts.entry(line).or_default() += 1);
    counts.retain(|line, count| *count != 0 && !line.is_empty());
    counts
}

/// The lines of a file that are code.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("//!"))
}

/// The blocks of the section that begins with this heading.
fn shown(heading: &str) -> Vec<&'static str> {
    let section = GUIDE.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    section.split("```diff\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines()).collect()
}

fn assert_shows(heading: &str, from: &str, to: &str) {
    let lines = shown(heading);
    let with = |sign: char| lines.iter().filter_map(move |line| line.strip_prefix(sign));
    let (removed, added) = (with('-').collect::<Vec<_>>(), with('+').collect::<Vec<_>>());
    assert_eq!(changes(removed.into_iter(), added.into_iter()), changes(code(from), code(to)), "{heading}");
    for line in with(' ') {
        assert!(
            code(from).any(|other| other == line) && code(to).any(|other| other == line),
            "{heading}: {line}"
        );
    }
}

#[test]
fn the_guide_shows_what_changes() {
    assert_shows("Swap the pool", BEFORE, SWAPPED);
    assert_shows("Move the reads", SWAPPED, AFTER);
}

#[test]
fn the_guide_counts_the_lines() {
    for (heading, from, to) in [("Swap the pool", BEFORE, SWAPPED), ("Move the reads", SWAPPED, AFTER)] {
        let changes = changes(code(from), code(to));
        let count = |sign: i64| {
            changes.values().filter(|count| **count * sign > 0).map(|count| count.abs()).sum::<i64>()
        };
        let told = format!("{} lines go and {} come", count(-1), count(1));
        let section = GUIDE.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
        assert!(section.contains(&told), "{heading}: {told}");
    }
}
