//! The program `diesel-replicas`: what a service's configuration comes to, checked once or shown live.

mod arguments;

use arguments::{Arguments, Command, HELP};
use diesel_replicas::{Config, RouterBuilder, doctor, top};
use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

/// Usage or configuration is wrong, as in `sysexits.h`.
const USAGE: u8 = 64;

/// The terminal, or what the program runs on, fails.
const FAILURE: u8 = 70;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(lexopt::Parser::from_env()) {
        Ok(arguments) => arguments,
        Err(error) => return complain(USAGE, &format!("{error}\nTry `diesel-replicas --help`.")),
    };
    let Arguments { command, prefix } = arguments;
    match command {
        Command::Help => tell(HELP),
        Command::Version => tell(concat!("diesel-replicas ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Doctor { json } => with_config(&prefix, async |config| {
            let report = doctor::examine_prefixed(&config, &prefix).await;
            tell(&if json { format!("{}\n", report.json()) } else { report.to_string() });
            match report.severity() {
                doctor::Severity::Ok | doctor::Severity::Note => ExitCode::SUCCESS,
                doctor::Severity::Warning => ExitCode::from(1),
                _ => ExitCode::from(2),
            }
        }),
        Command::Top { every } => {
            with_config(&prefix, async |config| match top::run(config, &prefix, every).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error @ top::Error::NoTerminal) => complain(USAGE, &error.to_string()),
                Err(error) => {
                    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
                    complain(FAILURE, &format!("{error}{cause}"))
                }
            })
        }
    }
}

fn with_config(prefix: &str, work: impl AsyncFnOnce(Config) -> ExitCode) -> ExitCode {
    let config = match RouterBuilder::from_prefixed_env(prefix).config() {
        Ok(config) => config,
        Err(error) => return complain(USAGE, &error.to_string()),
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work(config)),
        Err(error) => complain(FAILURE, &format!("no runtime can be started: {error}")),
    }
}

/// A reader that has gone, as `head` does, is no failure.
fn tell(text: &str) -> ExitCode {
    let _ = stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(status: u8, text: &str) -> ExitCode {
    let _ = writeln!(stderr(), "{text}");
    ExitCode::from(status)
}
