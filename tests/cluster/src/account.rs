//! Who the servers run as. PostgreSQL refuses to run as root, so a root process drops to another account for it.

use std::{fs, io, os::unix, os::unix::process::CommandExt, path::Path, process::Command};

/// The account nearly every Unix calls `nobody`.
const NOBODY: Account = Account { uid: 65534, gid: 65534 };

/// An account that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account for servers, or `None` when they can run as the user we are.
    pub(crate) fn for_servers() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(Self::find(&passwd, "postgres").or_else(|| Self::find(&passwd, "nobody")).unwrap_or(NOBODY))
    }

    fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let mut ids = fields.skip(1);
            Some(Self { uid: ids.next()?.parse().ok()?, gid: ids.next()?.parse().ok()? })
        })
    }

    pub(crate) fn run(self, command: &mut Command) {
        // The standard library also drops the supplementary groups when root sets a uid.
        command.uid(self.uid).gid(self.gid);
    }

    pub(crate) fn give(self, path: &Path) -> io::Result<()> {
        unix::fs::lchown(path, Some(self.uid), Some(self.gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          postgres2:x:7:8::/:/bin/sh\n\
                          postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n\
                          broken:x\n";

    #[test]
    fn finds_the_account_by_its_whole_name() {
        assert_eq!(Account::find(PASSWD, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(Account::find(PASSWD, "broken"), None);
        assert_eq!(Account::find(PASSWD, "nobody"), None);
    }
}
