//! `initdb` takes longer than everything else together, so its result is kept: every node of every cluster starts as a copy.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    account::Account,
    installation::{self, Installation},
    storage::CacheLock,
};

/// 1 MiB WAL segments keep a data directory small.
pub(crate) const INITDB: [&str; 7] = [
    "--username=postgres",
    "--auth=trust",
    "--no-sync",
    "--no-instructions",
    "--locale=C",
    "--encoding=UTF8",
    "--wal-segsize=1",
];

/// A data directory that nobody has started.
#[derive(Debug)]
pub(crate) struct Template {
    path: PathBuf,
    /// Unknown of one that was made a moment ago.
    size: Option<Size>,
}

/// What tells a whole directory from a damaged one without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    files: u64,
    bytes: u64,
}

impl Size {
    fn record(path: &Path) -> PathBuf {
        path.with_extension("size")
    }

    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(Self::record(path)).ok()?;
        let (files, bytes) = text.split_once(' ')?;
        Some(Self { files: files.parse().ok()?, bytes: bytes.parse().ok()? })
    }

    fn write(self, path: &Path) -> io::Result<()> {
        fs::write(Self::record(path), format!("{} {}", self.files, self.bytes))
    }
}

impl Template {
    /// The cached template of this installation, made now if there is none. Blocks.
    ///
    /// Several processes may ask at once; a lock lets one of them make it. `scratch` is a directory in which the servers' account may write.
    pub(crate) fn of(
        cache: &Path,
        installation: &Installation,
        account: Option<Account>,
        scratch: &Path,
    ) -> Result<Self, Error> {
        let name = name(installation);
        let path = cache.join(&name);
        if let Some(size) = Size::read(&path) {
            return Ok(Self { path, size: Some(size) });
        }
        let _lock = CacheLock::take(cache, &name)?;
        if let Some(size) = Size::read(&path) {
            return Ok(Self { path, size: Some(size) });
        }
        let fresh = Self::fresh(installation, account, scratch)?.path;
        let size = Self::store(&fresh, &path)
            .map_err(Error::io(format!("keep a template in {}", cache.display())))?;
        fs::remove_dir_all(&fresh).map_err(Error::io(format!("remove {}", fresh.display())))?;
        Ok(Self { path, size: Some(size) })
    }

    /// A template of one's own, with a system identifier that no other has. Blocks.
    pub(crate) fn fresh(
        installation: &Installation,
        account: Option<Account>,
        scratch: &Path,
    ) -> Result<Self, Error> {
        let path = scratch.join("template");
        let mut command = installation.command("initdb", account);
        installation::run(command.args(INITDB).arg("--pgdata").arg(&path).current_dir(scratch))?;
        Ok(Self { path, size: None })
    }

    /// The record of the size is written last: a template without it is not there.
    fn store(fresh: &Path, path: &Path) -> io::Result<Size> {
        let partial = path.with_extension("partial");
        for leftover in [&partial, path] {
            match fs::remove_dir_all(leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let size = copy(fresh, &partial, None)?;
        fs::rename(&partial, path)?;
        size.write(path)?;
        Ok(size)
    }

    /// Copies the template to `to`. Blocks.
    ///
    /// # Errors
    ///
    /// When the copy is not of the recorded size; the template is then forgotten, so that the next cluster makes it anew.
    pub(crate) fn copy_to(&self, to: &Path, account: Option<Account>) -> Result<(), Error> {
        let action = format!("copy {} to {}", self.path.display(), to.display());
        let copied = copy(&self.path, to, account);
        if copied.as_ref().is_ok_and(|size| self.size.is_none_or(|expected| *size == expected)) {
            return Ok(());
        }
        // A failure to forget it fails the next cluster in the same way.
        let _ = fs::remove_file(Size::record(&self.path));
        Err(Error::io(action)(copied.err().unwrap_or_else(|| {
            io::Error::other("the template is damaged and was forgotten; the next cluster makes it anew")
        })))
    }
}

/// Another installation or other options make another template.
fn name(installation: &Installation) -> String {
    let mut hasher = DefaultHasher::new();
    installation.bin().hash(&mut hasher);
    installation.version().to_string().hash(&mut hasher);
    INITDB.hash(&mut hasher);
    format!("template-{}-{:016x}", installation.version().major, hasher.finish())
}

fn copy(from: &Path, to: &Path, account: Option<Account>) -> io::Result<Size> {
    let give = |path: &Path| account.map_or(Ok(()), |account| account.give(path));
    let mut size = Size::default();
    fs::create_dir(to)?;
    // PostgreSQL refuses a data directory that others can read.
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    give(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            let inner = copy(&entry.path(), &target, account)?;
            size.files += inner.files;
            size.bytes += inner.bytes;
        } else {
            size.bytes += fs::copy(entry.path(), &target)?;
            give(&target)?;
        }
        size.files += 1;
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::fs::PermissionsExt, process::Command, thread};

    use super::*;
    use crate::storage::unique_name;

    /// An installation whose `initdb` writes two files and notes that it ran.
    struct Workshop {
        root: PathBuf,
    }

    impl Workshop {
        fn new() -> Self {
            let root = env::temp_dir().join(unique_name());
            fs::create_dir_all(root.join("bin")).unwrap();
            fs::create_dir(root.join("cache")).unwrap();
            let this = Self { root };
            this.program("postgres", "echo 'postgres (PostgreSQL) 15.18'");
            this.program("pg_basebackup", "exit 1");
            let initdb = "for data; do :; done\n\
                          echo run >>\"$(dirname \"$0\")/../runs\"\n\
                          mkdir -p \"$data/base\" && chmod 700 \"$data\"\n\
                          echo 15 >\"$data/PG_VERSION\"\n\
                          echo data >\"$data/base/1\"";
            this.program("initdb", initdb);
            this
        }

        fn program(&self, name: &str, script: &str) {
            // Written by another process: what another test's thread forks meanwhile would hold our file open for writing,
            // and a file that is open for writing cannot be run.
            let write = r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod 755 "$1""#;
            let path = self.root.join("bin").join(name);
            let written =
                Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(script).status().unwrap();
            assert!(written.success());
        }

        fn template(&self) -> Template {
            let scratch = self.root.join(unique_name());
            fs::create_dir(&scratch).unwrap();
            let installation = Installation::at(&self.root.join("bin"), None).unwrap();
            Template::of(&self.root.join("cache"), &installation, None, &scratch).unwrap()
        }

        fn copy(&self, template: &Template) -> Result<PathBuf, Error> {
            let copy = self.root.join(unique_name());
            template.copy_to(&copy, None).map(|()| copy)
        }

        fn runs_of_initdb(&self) -> usize {
            fs::read_to_string(self.root.join("runs")).unwrap().lines().count()
        }
    }

    impl Drop for Workshop {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.root).unwrap();
        }
    }

    #[test]
    fn many_at_once_make_one_template_and_all_get_whole_copies() {
        let workshop = Workshop::new();
        // A lock belongs to an open file, so threads exclude each other as processes do.
        let copies: Vec<_> = thread::scope(|scope| {
            let copies: Vec<_> =
                (0..8).map(|_| scope.spawn(|| workshop.copy(&workshop.template()).unwrap())).collect();
            copies.into_iter().map(|copy| copy.join().unwrap()).collect()
        });
        for copy in copies {
            assert_eq!(fs::read_to_string(copy.join("PG_VERSION")).unwrap(), "15\n");
            assert_eq!(fs::read_to_string(copy.join("base/1")).unwrap(), "data\n");
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(workshop.runs_of_initdb(), 1);
    }

    #[test]
    fn a_damaged_template_is_noticed_and_made_anew() {
        let workshop = Workshop::new();
        fs::write(workshop.template().path.join("base/1"), "").unwrap();
        let error = workshop.copy(&workshop.template()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");

        workshop.copy(&workshop.template()).unwrap();
        assert_eq!(workshop.runs_of_initdb(), 2);
    }
}
