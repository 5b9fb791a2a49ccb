//! The report for programs.

use super::{Examined, Finding, Report};
use serde_json::{Value, json};

impl Report {
    /// The report as JSON, in several lines. The names in it stay as they are; there may come to be more.
    pub fn json(&self) -> String {
        let value = json!({
            "severity": self.severity().to_string(),
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        });
        format!("{value:#}")
    }
}

/// What is not known is null.
fn node(node: &Examined) -> Value {
    let Examined {
        name,
        listed,
        role,
        version,
        timeline,
        lag,
        user,
        encrypted,
        connections,
        max_connections,
    } = node;
    json!({
        "name": name,
        "listed": listed.to_string(),
        "role": role.map(|role| role.to_string()),
        "version": version,
        "timeline": timeline,
        "lag_ms": lag.map(|lag| lag.as_nanos().div_ceil(1_000_000) as u64),
        "user": user,
        "encrypted": encrypted,
        "connections": connections,
        "max_connections": max_connections,
    })
}

fn finding(finding: &Finding) -> Value {
    let Finding { severity, check, nodes, found, why, action } = finding;
    json!({
        "severity": severity.to_string(),
        "check": check.to_string(),
        "nodes": nodes,
        "found": found,
        "why": why,
        "action": action,
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Cause, Silent, fixture::healthy};
    use super::super::{Report, Severity};
    use serde_json::Value;

    #[test]
    fn it_says_what_the_report_says() {
        let mut facts = healthy();
        facts.node("c").answer = Err(Silent { cause: Cause::Network, text: "\"refused\"\n".into() });
        let report = Report::of(&facts);
        assert_eq!(report.severity(), Severity::Problem);
        let json: Value = serde_json::from_str(&report.json()).expect("it is JSON");
        assert_eq!(json["severity"], "problem");
        assert_eq!(json["nodes"][1]["lag_ms"], 3);
        assert_eq!(json["nodes"][2]["role"], Value::Null);
        let findings = json["findings"].as_array().expect("a list");
        assert_eq!(findings.len(), report.findings.len());
        for (told, finding) in findings.iter().zip(&report.findings) {
            assert_eq!(told["check"], finding.check.to_string());
            assert_eq!(told["found"], finding.found);
        }
        assert_eq!(findings[0]["nodes"][0], "c");
    }
}
