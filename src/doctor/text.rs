//! The report for people.

use super::judge::shown_version;
use super::{Examined, Finding, Report, Severity};
use crate::health::Millis;
use std::fmt::{self, Write};

/// No line is longer, unless by one word.
const WIDTH: usize = 110;

/// Where the text of a finding begins.
const INDENT: usize = 9;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, findings } = self;
        for node in nodes {
            f.write_str(&printable(&block(node)))?;
        }
        for finding in findings {
            f.write_str(&printable(&paragraphs(finding)))?;
        }
        writeln!(f, "\n{}", summary(findings))
    }
}

/// What is known of a node.
fn block(node: &Examined) -> String {
    let Examined {
        name,
        listed,
        role,
        version,
        timeline,
        lag,
        user,
        encrypted,
        connections,
        max_connections,
    } = node;
    let as_listed = match role {
        None => format!("listed as {listed}, does not answer"),
        Some(role) if role == listed => format!("{role}, as listed"),
        Some(role) => format!("{role}, listed as {listed}"),
    };
    let mut block = format!("{name} ({as_listed})\n");
    let mut line = |title: &str, text: Option<String>| {
        if let Some(text) = text {
            let _ = writeln!(block, "  {title:12} {text}");
        }
    };
    let on_timeline = timeline.map_or_else(String::new, |timeline| format!(", timeline {timeline}"));
    line("server", version.map(|version| format!("PostgreSQL {}{on_timeline}", shown_version(version))));
    line("lag", lag.map(|lag| format!("at most {}", Millis(lag))));
    let how = match encrypted {
        Some(true) => ", encrypted",
        Some(false) => ", in plain text",
        None => "",
    };
    line("connected", user.as_ref().map(|user| format!("as {user}{how}")));
    let of = max_connections.map_or_else(String::new, |max| format!(" of {max}"));
    line("connections", connections.map(|connections| format!("{connections}{of} in use")));
    block.push('\n');
    block
}

fn paragraphs(finding: &Finding) -> String {
    let Finding { severity, check: _, nodes, found, why, action } = finding;
    let nodes = if nodes.is_empty() { String::new() } else { format!("{}: ", nodes.join(", ")) };
    let mut text = String::new();
    paragraph(&mut text, &severity.to_string(), &format!("{nodes}{found}"));
    if !why.is_empty() {
        paragraph(&mut text, "  why", why);
    }
    if !action.is_empty() {
        paragraph(&mut text, "  do", action);
    }
    text
}

fn paragraph(into: &mut String, title: &str, text: &str) {
    let mut line = format!("{title:INDENT$}");
    let mut begun = false;
    for word in text.split(' ') {
        if begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(into, "{line}");
            line = " ".repeat(INDENT);
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    let _ = writeln!(into, "{line}");
}

/// `1 problem, 2 notes`.
fn summary(findings: &[Finding]) -> String {
    let count = |severity, one: &str| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        (count > 0).then(|| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") })
    };
    let counts = [(Severity::Problem, "problem"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts: Vec<_> = counts.into_iter().filter_map(|(severity, one)| count(severity, one)).collect();
    if counts.is_empty() { "all is well".to_owned() } else { counts.join(", ") }
}

/// Text as a terminal may show it: what servers and networks say may contain anything.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Cause, Silent, fixture::healthy};
    use super::*;

    #[test]
    fn a_healthy_cluster_is_shown_node_by_node() {
        let text = Report::of(&healthy()).to_string();
        let expected = "\
a (primary, as listed)
  server       PostgreSQL 15.18, timeline 1
  connected    as app, encrypted
  connections  5 of 97 in use

b (replica, as listed)
  server       PostgreSQL 15.18, timeline 1
  lag          at most 3 ms
  connected    as app, encrypted
  connections  5 of 97 in use
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("\nok       all 3 nodes answer\n"), "{text}");
        assert!(text.ends_with("\n\nall is well\n"), "{text}");
    }

    #[test]
    fn what_is_bad_says_where_and_why_and_what_to_do() {
        let mut facts = healthy();
        let text = "connection refused\u{1b}[2J".into();
        facts.node("c").answer = Err(Silent { cause: Cause::Network, text });
        facts.server("b").account.as_mut().expect("known").writes = true;
        let text = Report::of(&facts).to_string();
        assert!(text.contains("c (listed as replica, does not answer)\n\n"), "{text}");
        assert!(
            text.contains("\nproblem  c: does not answer: connection refused\u{fffd}[2J\n  why    it serves"),
            "{text}"
        );
        assert!(text.contains("\n  do     start the server"), "{text}");
        assert!(text.ends_with("\n\n1 problem, 1 note\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn long_texts_are_broken_between_words_and_indented() {
        let mut text = String::new();
        paragraph(&mut text, "note", &"word ".repeat(40));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("note     word") && lines[1].starts_with("         word"));
    }
}
