//! Prometheus and its tool, where they are installed.

use std::path::PathBuf;

/// A program of Prometheus, unless there is none and nobody insists.
///
/// # Panics
///
/// In CI, when there is none: a test that is silently skipped there proves nothing.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file());
    if program.is_none() {
        let missing = format!("no {name} found: install it (Debian: apt install prometheus)");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty() || ci == "false"), "{missing}");
        // Past the test harness, which shows nothing of what a passing test prints.
        let note = format!("\nSKIPPED, nothing is tested with {name}: {missing}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes());
    }
    program
}

/// The directory of this name in `docs`.
pub fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}
