//! What is on the screen: a function of the state, and of nothing else.

use super::load::Rates;
use crate::doctor::{Finding, Severity, printable};
use crate::health::HealthState;
use crate::limitation::Limitation;
use crate::status::NodeStatus;
use std::time::Duration;

/// All that is shown.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) rows: Vec<Row>,
    /// Why no node takes writes, if none does.
    pub(super) no_primary: Option<String>,
    /// `None` before the first examination has ended.
    pub(super) findings: Option<Findings>,
    pub(super) every: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) node: NodeStatus,
    /// `None` while the server does not say.
    pub(super) load: Option<Rates>,
}

#[derive(Debug, Clone)]
pub(super) struct Findings {
    pub(super) bad: Vec<Finding>,
    pub(super) age: Duration,
}

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// One line, no wider than the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Title,
    Warning,
    Bad,
}

const NAME: usize = 24;

const TITLES: [&str; 10] =
    ["NODE", "ROLE", "HEALTH", "LAG", "BYTES", "CONNS", "ACTIVE", "TPS", "", "LIMITATIONS"];

pub(super) fn lines(state: &State, size: Size) -> Vec<Line> {
    let mut lines = vec![];
    let mut say = |tone, text: String| lines.push((tone, text));
    let nodes = state.rows.len();
    let seconds = state.every.as_secs_f64();
    say(Tone::Title, format!("diesel-replicas top: {nodes} nodes, every {seconds} s, q quits"));
    match &state.no_primary {
        Some(why) => say(Tone::Bad, format!("writes go nowhere: {why}")),
        None => {
            let writer = state.rows.iter().find(|row| row.node.serves_writes);
            let writer = writer.map_or("nowhere", |row| &row.node.name);
            say(Tone::Plain, format!("writes go to {writer}"));
        }
    }
    say(Tone::Plain, String::new());

    let cells: Vec<_> = state.rows.iter().map(cells).collect();
    let widths = widths(&cells);
    say(Tone::Title, row(&TITLES.map(str::to_owned), &widths));
    for (cells, Row { node, .. }) in cells.iter().zip(&state.rows) {
        say(tone(node.health), row(cells, &widths));
    }
    say(Tone::Plain, String::new());
    for Row { node, .. } in state.rows.iter().filter(|row| row.node.health != HealthState::Healthy) {
        say(tone(node.health), format!("{} is {}: {}", node.name, node.health, node.reason));
    }
    match &state.findings {
        None => say(Tone::Plain, "the servers are being examined".to_owned()),
        Some(Findings { bad, age }) => {
            let age = age.as_secs();
            say(Tone::Title, format!("{}, {age} s ago (`diesel-replicas doctor` tells all)", count(bad)));
            for finding in bad {
                let tone = if finding.severity == Severity::Problem { Tone::Bad } else { Tone::Warning };
                let nodes = if finding.nodes.is_empty() {
                    String::new()
                } else {
                    format!("{}: ", finding.nodes.join(", "))
                };
                say(tone, format!("{:8} {nodes}{}", finding.severity, finding.found));
                say(Tone::Plain, format!("  do     {}", finding.action));
            }
        }
    }
    fit(lines, size)
}

fn count(findings: &[Finding]) -> String {
    match findings.len() {
        0 => "no warnings".to_owned(),
        1 => "1 warning or problem".to_owned(),
        findings => format!("{findings} warnings and problems"),
    }
}

fn tone(health: HealthState) -> Tone {
    match health {
        HealthState::Healthy => Tone::Plain,
        HealthState::Lagging | HealthState::Unproven | HealthState::Draining => Tone::Warning,
        _ => Tone::Bad,
    }
}

/// In the order of the titles; what is not known is a dash.
fn cells(row: &Row) -> [String; TITLES.len()] {
    let Row { node, load } = row;
    let unknown = || "-".to_owned();
    let lag = node.lag.and_then(|lag| Some(shown(lag.time()?)));
    let bytes = node.lag.and_then(|lag| Some(lag.bytes()?.to_string()));
    let connections = load.map(|load| match load.max_connections {
        Some(max) => format!("{}/{max}", load.usage.clients),
        None => load.usage.clients.to_string(),
    });
    let rate = load.and_then(|load| load.transactions);
    [
        shortened(&node.name, NAME),
        node.role.to_string(),
        node.health.to_string(),
        lag.unwrap_or_else(unknown),
        bytes.unwrap_or_else(unknown),
        connections.unwrap_or_else(unknown),
        load.map_or_else(unknown, |load| load.usage.active.to_string()),
        rate.map_or_else(unknown, |rate| format!("{rate:.1}")),
        // What is right-aligned ends here.
        String::new(),
        node.limitations.iter().map(brief).collect::<Vec<_>>().join(", "),
    ]
}

fn brief(limitation: &Limitation) -> &'static str {
    match limitation {
        Limitation::Unencrypted(_) => "unencrypted",
        Limitation::Withheld(_) => "functions withheld",
        Limitation::LagReported => "lag reported",
        Limitation::StatisticsHidden => "statistics hidden",
        Limitation::SeveralServers => "several servers",
    }
}

/// A bound, rounded up.
fn shown(time: Duration) -> String {
    let ms = time.as_nanos().div_ceil(1_000_000);
    if ms < 10_000 { format!("{ms} ms") } else { format!("{:.1} s", time.as_secs_f64()) }
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

fn widths(cells: &[[String; TITLES.len()]]) -> [usize; TITLES.len()] {
    let mut widths = TITLES.map(|title| title.len());
    for row in cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// Names to the left, numbers to the right.
fn row(cells: &[String; TITLES.len()], widths: &[usize; TITLES.len()]) -> String {
    let mut text = String::new();
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let numbers = 3..=7;
        let cell =
            if numbers.contains(&i) { format!("{cell:>width$}  ") } else { format!("{cell:width$}  ") };
        // The empty column is only there to be a wider gap.
        text.push_str(if i == 8 { " " } else { &cell });
    }
    text.trim_end().to_owned()
}

/// Cut to what there is room for; the last line says how much is missing.
fn fit(mut lines: Vec<(Tone, String)>, Size { width, height }: Size) -> Vec<Line> {
    if lines.len() > height {
        let hidden = lines.len() + 1 - height.max(1);
        lines.truncate(height.saturating_sub(1));
        lines.push((Tone::Plain, format!("{hidden} more lines")));
    }
    let line = |(tone, text): (Tone, String)| Line { tone, text: shortened(&printable(&text), width.max(1)) };
    lines.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Check, Finding, Usage};
    use crate::fleet::Role;
    use crate::health::{Lag, Reason};
    use tokio::time::Instant;

    const SIZE: Size = Size { width: 100, height: 40 };

    fn row(name: &str, role: Role) -> Row {
        let now = Instant::now();
        let lag = Lag::reported(now, now, Duration::from_millis(12));
        let node = NodeStatus {
            name: name.into(),
            role,
            health: HealthState::Healthy,
            reason: Reason::Writable,
            serves_reads: true,
            spare: false,
            serves_writes: role == Role::Primary,
            weight: 1,
            zone: None,
            lag: (role == Role::Replica).then_some(lag),
            timeline: Some(1),
            version: Some(150_018),
            replay_paused: None,
            receiver: None,
            limitations: vec![],
            in_flight: 0,
            reads: 0,
            writes: 0,
            answered: 0,
            failed: 0,
        };
        let usage = Usage { clients: 7, routers: 5, active: 2 };
        let load = Rates { usage, max_connections: Some(97), transactions: Some(123.44) };
        Row { node, load: Some(load) }
    }

    fn state() -> State {
        State {
            rows: vec![row("primary", Role::Primary), row("replica1", Role::Replica)],
            no_primary: None,
            findings: Some(Findings { bad: vec![], age: Duration::from_secs(3) }),
            every: Duration::from_secs(1),
        }
    }

    fn text(state: &State, size: Size) -> String {
        lines(state, size).iter().map(|line| format!("{}\n", line.text)).collect()
    }

    #[test]
    fn a_healthy_cluster_has_a_line_a_node() {
        let expected = "\
diesel-replicas top: 2 nodes, every 1 s, q quits
writes go to primary

NODE      ROLE     HEALTH     LAG  BYTES  CONNS  ACTIVE    TPS   LIMITATIONS
primary   primary  healthy      -      -   7/97       2  123.4
replica1  replica  healthy  12 ms      -   7/97       2  123.4

no warnings, 3 s ago (`diesel-replicas doctor` tells all)
";
        assert_eq!(text(&state(), SIZE), expected);
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_what_is_wrong_has_its_reason() {
        let mut state = state();
        state.no_primary = Some("no node that answers is writable".into());
        state.findings = None;
        let replica = &mut state.rows[1];
        replica.load = None;
        replica.node.health = HealthState::Unreachable;
        replica.node.lag = None;
        replica.node.reason = Reason::TimedOut { probes: 2, after: Duration::from_millis(500) };
        replica.node.limitations =
            vec![Limitation::StatisticsHidden, Limitation::Unencrypted("no TLS".into())];
        let text = text(&state, SIZE);
        let line = "replica1  replica  unreachable    -      -      -       -      -   statistics hidden, unencrypted\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("\nwrites go nowhere: no node that answers is writable\n"), "{text}");
        assert!(text.contains("\nreplica1 is unreachable: 2 probes timed out after 500 ms\n"), "{text}");
        assert!(text.ends_with("the servers are being examined\n"), "{text}");
        let bad = |line: &Line| line.tone == Tone::Bad;
        assert_eq!(lines(&state, SIZE).into_iter().filter(bad).count(), 3);
    }

    #[test]
    fn findings_stand_below_with_what_to_do() {
        let mut state = state();
        let bad = vec![Finding {
            severity: Severity::Problem,
            check: Check::Replay,
            nodes: vec!["replica1".into()],
            found: "its replay is paused".into(),
            why: "it lags".into(),
            action: "resume it\u{1b}[2J".into(),
        }];
        state.findings = Some(Findings { bad, age: Duration::ZERO });
        let text = text(&state, SIZE);
        assert!(text.contains("\n1 warning or problem, 0 s ago"), "{text}");
        assert!(
            text.ends_with("\nproblem  replica1: its replay is paused\n  do     resume it\u{fffd}[2J\n"),
            "{text}"
        );
    }

    #[test]
    fn a_picture_fits_the_screen_however_small() {
        let mut state = state();
        state.rows = vec![row(&"long".repeat(30), Role::Replica); 30];
        for (width, height) in [(80, 24), (20, 5), (3, 2), (1, 1), (0, 0)] {
            let lines = lines(&state, Size { width, height });
            assert!(lines.len() <= height.max(1), "{width} x {height}");
            assert!(lines.iter().all(|line| line.text.chars().count() <= width.max(1)), "{width} x {height}");
        }
        let lines = lines(&state, Size { width: 80, height: 24 });
        assert_eq!(lines[23].text, "13 more lines");
    }
}
