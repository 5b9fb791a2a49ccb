//! A server is a postmaster and the children it forked. Each of those makes itself a session of its own, so that neither a
//! process group nor a session holds them all: they are found by their parent.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    /// As `ps` prints it: `R` running, `S` sleeping, `T` stopped, `Z` ended but not waited for.
    state: char,
}

impl Process {
    fn is_gone(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    fn is_stopped(self) -> bool {
        matches!(self.state, 'T' | 't') || self.is_gone()
    }
}

/// How long the kernel may take to act on a signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops every process of the server. The postmaster goes first, so that it starts no more of them.
pub(crate) fn freeze(postmaster: u32) -> io::Result<()> {
    let postmaster = signed(postmaster)?;
    send(postmaster, Signal::STOP)?;
    settle("stopped", || Ok(family(postmaster)?.first().is_none_or(|process| process.is_stopped())))?;
    for child in family(postmaster)? {
        send(child.pid, Signal::STOP)?;
    }
    settle("stopped", || Ok(family(postmaster)?.iter().all(|process| process.is_stopped())))
}

/// Lets every process of the server run again.
pub(crate) fn thaw(postmaster: u32) -> io::Result<()> {
    let postmaster = signed(postmaster)?;
    for process in family(postmaster)?.iter().rev() {
        send(process.pid, Signal::CONT)?;
    }
    settle("running", || {
        Ok(family(postmaster)?.iter().all(|process| !process.is_stopped() || process.is_gone()))
    })
}

/// Kills every process of the server, frozen or not, and returns when they are gone; the postmaster remains to be waited for.
pub(crate) fn kill(postmaster: u32) -> io::Result<()> {
    let postmaster = signed(postmaster)?;
    // Frozen first: children of a dead postmaster have another parent and could not be found any more.
    freeze(postmaster as u32)?;
    let family = family(postmaster)?;
    for process in &family {
        send(process.pid, Signal::KILL)?;
    }
    settle("gone", || {
        let now = table()?;
        Ok(family.iter().all(|dead| now.get(&dead.pid).is_none_or(|process| process.is_gone())))
    })
}

/// Sends one signal to one process; a process that is gone already is no error.
pub(crate) fn signal(process: u32, signal: Signal) -> io::Result<()> {
    send(signed(process)?, signal)
}

/// The server's processes that there are now, the postmaster first.
pub(crate) fn of_server(postmaster: u32) -> io::Result<Vec<u32>> {
    family(signed(postmaster)?)?
        .iter()
        .map(|process| u32::try_from(process.pid).map_err(io::Error::other))
        .collect()
}

fn send(pid: i32, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Err(io::Error::other("process 0 is no server"));
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn signed(pid: u32) -> io::Result<i32> {
    i32::try_from(pid).map_err(io::Error::other)
}

/// Waits, in steps of a millisecond, until `done`: signals act in microseconds, so this does not hold up a runtime.
fn settle(state: &str, done: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("not every process is {state} after {PATIENCE:?}"),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The process and all that descend from it, parents before their children.
fn family(root: i32) -> io::Result<Vec<Process>> {
    let table = table()?;
    let mut family: Vec<Process> = table.get(&root).copied().into_iter().collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).map(|process| process.pid) {
        family.extend(table.values().filter(|process| process.parent == parent));
        next += 1;
    }
    Ok(family)
}

fn table() -> io::Result<HashMap<i32, Process>> {
    let processes = if Path::new("/proc/self/stat").exists() { from_proc()? } else { from_ps()? };
    Ok(processes.into_iter().map(|process| (process.pid, process)).collect())
}

fn from_proc() -> io::Result<Vec<Process>> {
    Ok(fs::read_dir("/proc")?
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        // A process that ends while we read is not there.
        .filter_map(|entry| parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect())
}

/// `123 (any ) thing) S 1 ...`: the name may hold anything, so the last parenthesis counts.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Process {
        pid: pid.parse().ok()?,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

/// For systems without `/proc`.
fn from_ps() -> io::Result<Vec<Process>> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,state="]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(parse_ps).collect())
}

fn parse_ps(line: &str) -> Option<Process> {
    let mut fields = line.split_whitespace();
    Some(Process {
        pid: fields.next()?.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        state: fields.next()?.chars().next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_process_whose_name_holds_parentheses_and_spaces() {
        let stat = "4711 (postgres: (x) S 9) T 42 4711 4711 0 -1";
        assert_eq!(parse_stat(stat), Some(Process { pid: 4711, parent: 42, state: 'T' }));
    }

    #[test]
    fn ps_and_proc_tell_the_same_of_this_process() {
        let us = signed(std::process::id()).unwrap();
        let find = |table: Vec<Process>| table.into_iter().find(|process| process.pid == us).unwrap().parent;
        assert_eq!(find(from_proc().unwrap()), find(from_ps().unwrap()));
    }

    #[test]
    fn freezes_thaws_and_kills_children_too() {
        let mut parent = Command::new("sh").args(["-c", "sleep 60 & sleep 60; :"]).spawn().unwrap();
        let pid = signed(parent.id()).unwrap();
        settle("started", || Ok(family(pid)?.len() == 3)).unwrap();

        freeze(parent.id()).unwrap();
        assert!(family(pid).unwrap().iter().all(|process| process.state == 'T'));
        thaw(parent.id()).unwrap();
        assert!(family(pid).unwrap().iter().all(|process| process.state != 'T'));

        let children = family(pid).unwrap();
        freeze(parent.id()).unwrap();
        kill(parent.id()).unwrap();
        parent.wait().unwrap();
        let left = table().unwrap();
        assert!(children.iter().all(|child| left.get(&child.pid).is_none_or(|process| process.is_gone())));
    }
}
