//! What the program is asked to do.

use lexopt::prelude::*;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Checks the PostgreSQL primary and replicas that a service of diesel-replicas is configured with.

Usage:
    diesel-replicas doctor [--json] [--prefix PREFIX]
    diesel-replicas top [--every SECONDS] [--prefix PREFIX]

    doctor            checks every node once, and says what it found and what to do about it
    top               shows every node live; q or Ctrl-C quits

    --json            for programs
    --every SECONDS   how often to ask the servers and to draw, from 0.1 to 3600 [default: 1]
    --prefix PREFIX   that of the variables, as ORDERS_ of ORDERS_URL and ORDERS_READ_REPLICA_URLS [default: DB_]
    -h, --help        this text
    -V, --version     the version

The configuration is what the service has in its environment: DATABASE_URL, DB_READ_REPLICA_URLS and the other variables that
docs/configuration.md lists. Nothing is written to any server. No password is shown.

Exit status of doctor:
    0   all is well, or there are notes alone
    1   there are warnings
    2   there are problems
    64  wrong usage, or a wrong configuration: every fault of it is told
    70  the program cannot run here
Of top: 0 after q, Ctrl-C or a request to end; 64, also without a terminal; 70.
";

/// What to do, with which variables.
#[derive(Debug, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) prefix: String,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Version,
    Doctor { json: bool },
    Top { every: Duration },
}

impl Arguments {
    pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut name: Option<String> = None;
        let (mut json, mut every, mut prefix) = (false, None, "DB_".to_owned());
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(Self { command: Command::Help, prefix }),
                Short('V') | Long("version") => return Ok(Self { command: Command::Version, prefix }),
                Long("json") => json = true,
                Long("every") => every = Some(parser.value()?.parse_with(interval)?),
                Long("prefix") => prefix = parser.value()?.string()?,
                Value(value) if name.is_none() => name = Some(value.string()?),
                other => return Err(other.unexpected()),
            }
        }
        let command = match (name.as_deref(), json, every) {
            (Some("doctor"), json, None) => Command::Doctor { json },
            (Some("doctor"), ..) => return Err("`--every` goes with `top` alone".into()),
            (Some("top"), false, every) => Command::Top { every: every.unwrap_or(Duration::from_secs(1)) },
            (Some("top"), ..) => return Err("`--json` goes with `doctor` alone".into()),
            (Some(other), ..) => {
                return Err(format!("there is no command `{other}`: it is `doctor` or `top`").into());
            }
            (None, ..) => return Err("a command is missing: `doctor` or `top`".into()),
        };
        Ok(Self { command, prefix })
    }
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0.1 to 3600 is wanted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Arguments, String> {
        let all = ["diesel-replicas"].into_iter().chain(arguments.split_whitespace());
        Arguments::parse(lexopt::Parser::from_iter(all)).map_err(|error| error.to_string())
    }

    fn command(arguments: &str) -> Command {
        parse(arguments).expect(arguments).command
    }

    #[test]
    fn commands_and_options_are_understood_in_any_order() {
        assert_eq!(command("doctor"), Command::Doctor { json: false });
        assert_eq!(command("--json doctor"), Command::Doctor { json: true });
        assert_eq!(command("top"), Command::Top { every: Duration::from_secs(1) });
        assert_eq!(command("top --every=0.5"), Command::Top { every: Duration::from_millis(500) });
        assert_eq!(parse("doctor --prefix ORDERS_").expect("valid").prefix, "ORDERS_");
        assert_eq!(parse("doctor").expect("valid").prefix, "DB_");
        assert_eq!(command("doctor --help"), Command::Help);
        assert_eq!(command("-V"), Command::Version);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (arguments, words) in [
            ("", "a command is missing"),
            ("nurse", "no command `nurse`"),
            ("doctor top", "unexpected argument"),
            ("doctor --jsn", "invalid option"),
            ("doctor --every 1", "goes with `top` alone"),
            ("top --json", "goes with `doctor` alone"),
            ("top --every 0", "from 0.1 to 3600"),
            ("top --every nan", "from 0.1 to 3600"),
            ("doctor --prefix", "missing argument"),
        ] {
            let error = parse(arguments).expect_err(arguments);
            assert!(error.contains(words), "{arguments}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_option_and_status() {
        for words in ["--json", "--every", "--prefix", "--help", "--version", "64", "DATABASE_URL"] {
            assert!(HELP.contains(words));
        }
    }
}
