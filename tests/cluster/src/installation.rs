//! PostgreSQL's programs on this machine.

use std::{
    env,
    fmt::{self, Display},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{Error, account::Account};

/// The oldest major version whose functions the levers use.
pub(crate) const OLDEST: u32 = 14;

/// What a cluster needs of an installation.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_basebackup"];

/// Where systems put PostgreSQL without putting it on the `PATH`; a star stands for any one version.
const USUAL_PLACES: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
];

/// A directory with PostgreSQL's programs, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    bin: PathBuf,
    /// Where the programs' own libraries are, when the programs do not know it themselves.
    libraries: Option<PathBuf>,
    version: Version,
}

/// What `postgres --version` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u32,
    text: String,
}

impl Version {
    /// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `postgres (PostgreSQL) 19rc1`.
    fn parse(output: &str) -> Option<Self> {
        let (_, text) = output.trim().split_once("(PostgreSQL) ")?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        Some(Self { major: text[..digits].parse().ok()?, text: text.to_owned() })
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Installation {
    /// The first installation that is of the wanted major version, or of any that will do: the one that `PG_CLUSTER_BIN`
    /// names, else the `PATH`'s, `pg_config`'s, or the newest in one of the usual places.
    ///
    /// # Errors
    ///
    /// When `PG_CLUSTER_BIN` is set to something that is no such installation.
    pub(crate) fn find(wanted: Option<u32>) -> Result<Option<Self>, Error> {
        let fits =
            |found: &Self| wanted.map_or(found.version.major >= OLDEST, |major| found.version.major == major);
        if let Some(bin) = env::var_os("PG_CLUSTER_BIN") {
            return match Self::at(Path::new(&bin), None).filter(fits) {
                Some(found) => Ok(Some(found)),
                None => Err(Error::Configuration {
                    key: "PG_CLUSTER_BIN".to_owned(),
                    value: bin.to_string_lossy().into_owned(),
                    expected: format!(
                        "a directory with {} of PostgreSQL {} is wanted",
                        PROGRAMS.join(", "),
                        wanted.map_or(format!("{OLDEST} or later"), |major| major.to_string())
                    ),
                }),
            };
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path)
            .chain(told_by_pg_config())
            .chain(USUAL_PLACES.into_iter().flat_map(expand))
            .filter_map(|bin| Self::at(&bin, None))
            .find(fits);
        Ok(found)
    }

    /// The installation in this directory, if it is whole.
    pub(crate) fn at(bin: &Path, libraries: Option<PathBuf>) -> Option<Self> {
        if !PROGRAMS.iter().all(|program| bin.join(program).is_file()) {
            return None;
        }
        let mut command = Command::new(bin.join("postgres"));
        if let Some(libraries) = &libraries {
            command.env(LIBRARY_PATH, libraries);
        }
        let output = command.arg("--version").output().ok()?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { bin: bin.to_owned(), libraries, version })
    }

    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// A command that runs one of the programs in a clean environment: no `PG*` variable and no locale of ours reaches it.
    pub(crate) fn command(&self, program: &str, account: Option<Account>) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env_clear().env("LC_ALL", "C");
        for inherited in ["PATH", LIBRARY_PATH] {
            if let Some(value) = env::var_os(inherited) {
                command.env(inherited, value);
            }
        }
        if let Some(libraries) = &self.libraries {
            command.env(LIBRARY_PATH, libraries);
        }
        if let Some(account) = account {
            account.run(&mut command);
        }
        command
    }
}

const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// Runs a program to its end; what it printed becomes part of the error.
pub(crate) fn run(command: &mut Command) -> Result<Output, Error> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(Error::io(format!("run {}", program.display())))?;
    if output.status.success() {
        return Ok(output);
    }
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let printed = last_lines(&printed, 10);
    Err(Error::Program { program, status: output.status, output: printed })
}

/// The end of a text: an error carries what explains it, not everything.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn told_by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end()))
}

/// The directories that a pattern with at most one star stands for, the newest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let Some((parent, prefix)) = before.rsplit_once('/') else {
        return Vec::new();
    };
    let mut versions: Vec<u32> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|version| PathBuf::from(format!("{before}{version}{after}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_as_every_packager_prints_them() {
        for (output, major, text) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15, "15.18 (Debian 15.18-0+deb12u1)"),
            ("postgres (PostgreSQL) 18.6\n", 18, "18.6"),
            ("postgres (PostgreSQL) 19rc1\n", 19, "19rc1"),
            ("postgres (PostgreSQL) 20devel", 20, "20devel"),
        ] {
            assert_eq!(Version::parse(output), Some(Version { major, text: text.to_owned() }), "{output}");
        }
        assert_eq!(Version::parse("bash: postgres: command not found"), None);
    }

    #[test]
    fn looks_at_newer_versions_first() {
        let root = env::temp_dir().join(format!("pg-cluster-expand-{}", std::process::id()));
        for name in ["pgsql-9", "pgsql-14", "pgsql-18", "pgsql-old", "other-20"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let pattern = format!("{}/pgsql-*/bin", root.display());
        let found = expand(&pattern);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, ["pgsql-18/bin", "pgsql-14/bin", "pgsql-9/bin"].map(|name| root.join(name)));
    }

    #[test]
    fn keeps_the_end_of_a_text() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
