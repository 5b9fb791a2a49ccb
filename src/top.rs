//! The nodes live, in a terminal: `diesel-replicas top`.
//!
//! Health and lag are those of a router of its own, which probes as services do; counts come from the servers, and findings from
//! [`doctor`], which is asked again every few seconds.

mod load;
mod picture;
mod screen;

use crate::config::Config;
use crate::doctor::{self, Report, Severity};
use crate::router::Router;
use load::Loads;
use picture::{Findings, Row, State};
use screen::{Input, Screen};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// The pause between two examinations: each opens connections to all nodes.
const EXAMINATION: Duration = Duration::from_secs(5);

/// Why nothing is shown, or nothing more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Standard input or output leads to something else than a terminal.
    #[error("`top` needs a terminal: use `doctor`, or `doctor --json`, where there is none")]
    NoTerminal,
    /// The terminal fails.
    #[error("the terminal fails")]
    Terminal(#[source] io::Error),
}

/// Shows the nodes of this configuration, replicas that are not enabled included, until `q` or Ctrl-C is pressed or the process is asked
/// to end, anew after every such time. The terminal is left as it was.
///
/// The prefix is that of the variables, as in [`examine_prefixed`](doctor::examine_prefixed).
///
/// # Errors
///
/// There is no terminal, or it fails.
///
/// # Cancel safety
///
/// A dropped call leaves the terminal as it was.
pub async fn run(mut config: Config, prefix: &str, every: Duration) -> Result<(), Error> {
    let mut screen = Screen::open()?;
    let mut examined = Examined::start(config.clone(), prefix.to_owned());
    // Replicas that no service uses yet are to be seen as well.
    config.read_replicas_enabled = true;
    let router = Router::new(config);
    let mut loads = Loads::new(every);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        loads.follow(router.endpoints());
        let state = state(&router, &loads, &mut examined, every);
        screen.draw(|size| picture::lines(&state, size)).map_err(Error::Terminal)?;
        tokio::select! {
            input = screen.input() => match input {
                Input::Quit => return Ok(()),
                Input::Redraw => {}
            },
            _ = ticks.tick() => {}
        }
    }
}

fn state(router: &Router, loads: &Loads, examined: &mut Examined, every: Duration) -> State {
    let status = router.status();
    let row = |node: crate::NodeStatus| Row { load: loads.of(&node.name), node };
    State {
        rows: status.nodes.into_iter().map(row).collect(),
        no_primary: status.no_primary,
        findings: examined.latest(),
        every,
    }
}

/// The latest report, made anew in the background.
struct Examined {
    report: watch::Receiver<Option<(Instant, Arc<Report>)>>,
    _examining: JoinSet<()>,
}

impl Examined {
    fn start(config: Config, prefix: String) -> Self {
        let (told, report) = watch::channel(None);
        let mut examining = JoinSet::new();
        examining.spawn(async move {
            loop {
                let report = doctor::examine_prefixed(&config, &prefix).await;
                told.send_replace(Some((Instant::now(), Arc::new(report))));
                sleep(EXAMINATION).await;
            }
        });
        Self { report, _examining: examining }
    }

    /// Those that are warnings or worse.
    fn latest(&mut self) -> Option<Findings> {
        let latest = self.report.borrow_and_update();
        let (at, report) = latest.as_ref()?;
        let bad = report.findings.iter().filter(|finding| finding.severity >= Severity::Warning);
        Some(Findings { bad: bad.cloned().collect(), age: at.elapsed() })
    }
}
