//! Limiting the CPU of the nodes. For processes of this machine that takes a control group of Linux for each node, all of them below
//! one of the cluster's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{Error, guardian::Guardian, processes};

/// Over so long a node may use its share, and is paused once it has. The kernel's usual 100 ms would make pauses of nearly as much.
const PERIOD_US: u32 = 10_000;

/// The kernel takes no lower quota.
const MIN_QUOTA_US: u32 = 1_000;

/// How much CPU each node may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuLimit {
    quota_us: u32,
}

impl CpuLimit {
    /// This share of one processor.
    pub(crate) fn new(share: f64) -> Result<Self, Error> {
        // The conversion saturates, and takes what is no number for 0.
        let quota_us = (share * f64::from(PERIOD_US)).round() as u32;
        if quota_us < MIN_QUOTA_US {
            return Err(Error::Configuration {
                key: "cpu_limit".to_owned(),
                value: share.to_string(),
                expected: "a share of one processor is wanted, at least 0.1".to_owned(),
            });
        }
        Ok(Self { quota_us })
    }

    #[cfg(feature = "containers")]
    pub(crate) fn of_container(self, config: &mut testcontainers::bollard::models::HostConfig) {
        config.cpu_period = Some(PERIOD_US.into());
        config.cpu_quota = Some(self.quota_us.into());
    }
}

/// The control groups of one cluster.
#[derive(Debug)]
pub(crate) struct Groups {
    version: Version,
    cluster: PathBuf,
    limit: CpuLimit,
}

/// Of the kernel's interface to control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Groups {
    /// Makes the group of a cluster, and the guardian that will remove it with those of the nodes. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::CpuLimit`] where this process may not do that, or the kernel cannot.
    pub(crate) fn of_cluster(name: &str, limit: CpuLimit) -> Result<(Self, Guardian), Error> {
        let (version, parent) = Place::of_this_process()?.parent_for_groups()?;
        let cluster = parent.join(name);
        let guardian = Guardian::of_groups(&cluster)?;
        let groups = Self { version, cluster, limit };
        make(&groups.cluster)?;
        if version == Version::V2 {
            set(&groups.cluster, "cgroup.subtree_control", "+cpu")?;
        }
        Ok((groups, guardian))
    }

    /// Puts a server that has just been started into the group of its node.
    pub(crate) fn admit(&self, node: &str, postmaster: u32) -> Result<(), Error> {
        let group = self.cluster.join(node);
        make(&group)?;
        let quota_us = self.limit.quota_us.to_string();
        match self.version {
            Version::V1 => {
                set(&group, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
                set(&group, "cpu.cfs_quota_us", &quota_us)?;
            }
            Version::V2 => set(&group, "cpu.max", &format!("{quota_us} {PERIOD_US}"))?,
        }
        enter(&group, postmaster)?;
        // What it forks is in its group from here on. It may have been quicker.
        let family = processes::of_server(postmaster);
        let mut family = family.map_err(Error::io(format!("list the processes of {node}")))?.into_iter();
        family.try_for_each(|process| enter(&group, process))
    }
}

/// Where a process is among the control groups.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    version: Version,
    /// Where the hierarchy that limits the CPU begins.
    root: PathBuf,
    /// The process's own group, there or further down.
    group: PathBuf,
}

impl Place {
    fn of_this_process() -> Result<Self, Error> {
        let read = |path| fs::read_to_string(path).map_err(|error| refused("read", Path::new(path), &error));
        let (groups, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
        Self::parse(&groups, &mounts).ok_or_else(|| {
            let reason =
                "no hierarchy of control groups with the controller `cpu` is mounted where this process is";
            Error::CpuLimit { reason: reason.to_owned() }
        })
    }

    /// Lines such as `1:cpu,cpuacct:/a`, or `0::/a` of version 2, and
    /// `33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct`, where the third path is the mounted one.
    fn parse(groups: &str, mounts: &str) -> Option<Self> {
        let has_cpu = |list: &str| list.split(',').any(|entry| entry == "cpu");
        let group = |wanted: &dyn Fn(&str) -> bool| {
            groups.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                wanted(fields.next()?).then(|| fields.next())?
            })
        };
        // Where version 1 has the controller, version 2 lacks it.
        let (version, group) = match group(&has_cpu) {
            Some(group) => (Version::V1, group),
            None => (Version::V2, group(&str::is_empty)?),
        };
        mounts.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let (kind, options) = filesystem.split_once(' ')?;
            let fits = match version {
                Version::V1 => kind == "cgroup" && has_cpu(options.rsplit(' ').next()?),
                Version::V2 => kind == "cgroup2",
            };
            let mut paths = mount.split(' ').skip(3);
            let (mounted, root) = (paths.next()?, Path::new(paths.next()?));
            let below = Path::new(group).strip_prefix(mounted).ok().filter(|_| fits)?;
            Some(Self { version, root: root.to_owned(), group: root.join(below) })
        })
    }

    /// The group nearest to this process that can have others below it with a limit of their own.
    fn parent_for_groups(self) -> Result<(Version, PathBuf), Error> {
        let hands_on = |group: &&Path| {
            let controllers = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
            self.version == Version::V1 || controllers.split_whitespace().any(|one| one == "cpu")
        };
        let mut above = self.group.ancestors().take_while(|group| group.starts_with(&self.root));
        let parent = above.find(hands_on).ok_or_else(|| Error::CpuLimit {
            reason: format!(
                "neither {} nor a group above it hands the controller `cpu` on to those below; \
                 `echo +cpu` into the `cgroup.subtree_control` of one of them",
                self.group.display()
            ),
        })?;
        Ok((self.version, parent.to_owned()))
    }
}

fn make(group: &Path) -> Result<(), Error> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(refused("make", group, &error)),
        _ => Ok(()),
    }
}

fn set(group: &Path, file: &str, value: &str) -> Result<(), Error> {
    let path = group.join(file);
    fs::write(&path, value).map_err(|error| refused(&format!("write {value} to"), &path, &error))
}

fn enter(group: &Path, process: u32) -> Result<(), Error> {
    let procs = group.join("cgroup.procs");
    match fs::write(&procs, process.to_string()) {
        // One that has ended needs no limit.
        Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
            Err(refused(&format!("write {process} to"), &procs, &error))
        }
        _ => Ok(()),
    }
}

fn refused(action: &str, path: &Path, error: &io::Error) -> Error {
    Error::CpuLimit {
        reason: format!(
            "cannot {action} {}: {error}; it takes Linux, and root or a delegated control group",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::storage::unique_name;

    fn place(version: Version, root: &str, group: &str) -> Place {
        Place { version, root: root.into(), group: group.into() }
    }

    #[test]
    fn a_share_that_the_kernel_does_not_take_is_refused() {
        for share in [0.0, -1.0, 0.09, f64::NAN] {
            let message = CpuLimit::new(share).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("cpu_limit is `{share}`: a share of one processor is wanted, at least 0.1")
            );
        }
        assert_eq!(CpuLimit::new(0.1).unwrap().quota_us, 1_000);
        assert_eq!(CpuLimit::new(1.5).unwrap().quota_us, 15_000);
    }

    #[test]
    fn finds_the_group_of_a_process_in_version_1() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
                      33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let groups = "3:cpuset:/\n1:cpu,cpuacct:/user.slice\n0::/user.slice/user-0.slice\n";
        let (root, group) = ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/user.slice");
        assert_eq!(Place::parse(groups, mounts), Some(place(Version::V1, root, group)));

        // In a container the mounted path is that of its group.
        let mounts = mounts.replace("0:30 / ", "0:30 /docker/1a ");
        let inside = Place::parse("1:cpu,cpuacct:/docker/1a\n0::/\n", &mounts);
        assert_eq!(inside, Some(place(Version::V1, root, root)));
        // A group that is not below the mounted one has no path here.
        assert_eq!(Place::parse("1:cpu,cpuacct:/docker/2b\n", &mounts), None);
    }

    #[test]
    fn finds_the_group_of_a_process_in_version_2() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let group = "/sys/fs/cgroup/user.slice/session-2.scope";
        let found = Place::parse("0::/user.slice/session-2.scope\n", mounts);
        assert_eq!(found, Some(place(Version::V2, "/sys/fs/cgroup", group)));
        assert_eq!(Place::parse("0::/\n", ""), None);
        assert_eq!(Place::parse("", mounts), None);
    }

    /// A directory with files in the place of the kernel's. It shows what is written where, not what the kernel makes of it.
    struct Files(PathBuf);

    impl Files {
        fn new() -> Self {
            let root = std::env::temp_dir().join(unique_name());
            fs::create_dir_all(root.join("a/b")).unwrap();
            Self(root)
        }

        fn place(&self, version: Version) -> Place {
            Place { version, root: self.0.clone(), group: self.0.join("a/b") }
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.0.join(file)).unwrap()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn groups_stand_where_the_controller_is_handed_on() {
        let files = Files::new();
        let error = files.place(Version::V2).parent_for_groups().unwrap_err().to_string();
        assert!(error.contains("cgroup.subtree_control"), "{error}");
        fs::write(files.0.join("cgroup.subtree_control"), "cpuset cpu io\n").unwrap();
        fs::write(files.0.join("a/cgroup.subtree_control"), "cpuset\n").unwrap();
        let found = files.place(Version::V2).parent_for_groups().unwrap();
        assert_eq!(found, (Version::V2, files.0.clone()));

        let found = files.place(Version::V1).parent_for_groups().unwrap();
        assert_eq!(found, (Version::V1, files.0.join("a/b")));
    }

    #[test]
    fn a_server_is_put_into_the_group_of_its_node_with_its_limit() {
        let files = Files::new();
        let mut server = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        for version in [Version::V1, Version::V2] {
            let groups = Groups { version, cluster: files.0.clone(), limit: CpuLimit::new(0.2).unwrap() };
            let node = format!("{version:?}");
            // It is there already when a server is started again.
            for _ in 0..2 {
                groups.admit(&node, server.id()).unwrap();
            }
            assert_eq!(files.read(&format!("{node}/cgroup.procs")), server.id().to_string());
        }
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(files.read("V1/cpu.cfs_period_us"), "10000");
        assert_eq!(files.read("V1/cpu.cfs_quota_us"), "2000");
        assert_eq!(files.read("V2/cpu.max"), "2000 10000");
    }
}
