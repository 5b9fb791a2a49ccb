//! Where things are kept: the nodes in memory when there is any, what is made once in the user's cache.

use std::{
    env, fs,
    hash::{BuildHasher, Hasher, RandomState},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Error, account::Account, guardian::Guardian};

/// Memory-backed on Linux, absent elsewhere.
const SHARED_MEMORY: &str = "/dev/shm";

/// Less would hold a cluster that has just started and not much more. Containers often have 64 MiB there.
const ENOUGH_BYTES: u64 = 512 << 20;

/// Makes the directory that holds all of a cluster, and the guardian that will remove it.
pub(crate) fn base_directory(
    parent: Option<&Path>,
    name: &str,
    account: Option<Account>,
) -> Result<(PathBuf, Guardian), Error> {
    let keep = env::var_os("PG_CLUSTER_KEEP").is_some_and(|value| !value.is_empty() && value != "0");
    let make = |parent: &Path| {
        let base = parent.join(name);
        let guardian = Guardian::of_directory(&base, account, keep)?;
        if keep {
            eprintln!("pg-cluster keeps {}, since PG_CLUSTER_KEEP is set", base.display());
        }
        Ok((base, guardian))
    };
    if let Some(parent) = parent {
        return make(parent);
    }
    let memory = Path::new(SHARED_MEMORY);
    if has_room(memory)
        && let Ok(made) = make(memory)
    {
        return Ok(made);
    }
    make(&env::temp_dir())
}

fn has_room(directory: &Path) -> bool {
    rustix::fs::statvfs(directory)
        .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) >= ENOUGH_BYTES)
}

/// A name that no other cluster has, here or in another process.
pub(crate) fn unique_name() -> String {
    format!("pg-cluster-{}-{:016x}", std::process::id(), random())
}

/// The standard library seeds each of these from the system's randomness.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The directory for what is made once and reused, one for each user.
///
/// Root's servers run as another user, who may not look into root's home.
pub(crate) fn cache_directory() -> Result<PathBuf, Error> {
    let user = rustix::process::geteuid();
    let directory =
        |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = directory("PG_CLUSTER_CACHE").unwrap_or_else(|| {
        if user.is_root() {
            PathBuf::from("/var/cache/pg-cluster")
        } else if let Some(caches) =
            directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")))
        {
            caches.join("pg-cluster")
        } else {
            env::temp_dir().join(format!("pg-cluster-cache-{}", user.as_raw()))
        }
    });
    let action = format!("make the cache directory {} (PG_CLUSTER_CACHE names another)", cache.display());
    fs::create_dir_all(&cache).map_err(Error::io(&action))?;
    let owner = fs::metadata(&cache).map_err(Error::io(&action))?.uid();
    if owner != user.as_raw() {
        // Programs of somebody else's cache would run as us.
        return Err(Error::Configuration {
            key: "PG_CLUSTER_CACHE".to_owned(),
            value: cache.display().to_string(),
            expected: format!(
                "a directory of user {} is wanted, this one belongs to user {owner}",
                user.as_raw()
            ),
        });
    }
    Ok(cache)
}

/// Held while something in the cache is made; the kernel releases it however the process ends.
#[derive(Debug)]
pub(crate) struct CacheLock {
    _file: fs::File,
}

impl CacheLock {
    /// Waits for its turn; blocks.
    pub(crate) fn take(cache: &Path, name: &str) -> Result<Self, Error> {
        let path = cache.join(format!("{name}.lock"));
        let action = format!("lock {}", path.display());
        let file = fs::File::create(&path).map_err(Error::io(&action))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| Error::io(&action)(error.into()))?;
        Ok(Self { _file: file })
    }
}
