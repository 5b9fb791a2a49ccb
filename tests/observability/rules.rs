//! The alert rules, as promtool reads them.

use std::process::Command;

use crate::programs::{docs, installed};

/// Runs promtool, which must be content.
fn promtool(arguments: &[&str]) {
    let Some(program) = installed("promtool") else { return };
    let output = Command::new(program)
        .args(arguments)
        .current_dir(docs("prometheus"))
        .output()
        .expect("promtool runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_alert_rules_are_rules() {
    promtool(&["check", "rules", "alerts.yml"]);
}

#[test]
fn the_alert_rules_fire_when_they_should_and_no_longer() {
    promtool(&["test", "rules", "alerts_test.yml"]);
}
