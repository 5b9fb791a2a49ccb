//! Settings from a file, in whatever format serde reads.

use super::{
    NodeConfig, RouterBuilder,
    fault::{Faults, Key, Names, Part, Unusable},
    near::nearest,
    node::Given,
    settings::SETTINGS,
};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What a file may contain: text, lists and tables. Numbers and flags are text, as in the environment.
enum Value {
    Nothing,
    Text(String),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
}

/// Reads the settings under the names of their setters, `replicas` being a list; `docs/configuration.md` has an example. What is wrong
/// with them [`config`](RouterBuilder::config) tells, all at once; only a file that cannot be read at all is an error here.
impl<'de> Deserialize<'de> for RouterBuilder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut builder =
            Self { faults: Faults::new(Names::File), ..Self::default() }.read_replicas_enabled(false);
        match deserializer.deserialize_any(Reader)? {
            Value::Table(entries) => builder.take_in("", entries),
            _ => return Err(D::Error::custom("the settings of a router are a table")),
        }
        Ok(builder)
    }
}

impl RouterBuilder {
    /// Takes in a table of this path.
    fn take_in(&mut self, path: &str, entries: Vec<(String, Value)>) {
        let mut seen: Vec<String> = vec![];
        for (name, value) in entries {
            let name = format!("{path}{name}");
            if seen.contains(&name) {
                self.faults.add_as(shown(&name), "is there twice", "one of them");
                continue;
            }
            seen.push(name.clone());
            match (name.as_str(), value) {
                (_, Value::Nothing) => {}
                ("primary", value) => self.primary = self.node(value, Key::Primary),
                ("replicas", Value::List(nodes)) => {
                    for (i, node) in nodes.into_iter().enumerate() {
                        // One that cannot be read keeps its place, so that the others keep their numbers.
                        let node = self.node(node, |part| Key::Replica(i, part));
                        self.replicas.push(node.unwrap_or_else(|| NodeConfig::new("")));
                    }
                }
                ("replicas", _) => {
                    self.faults.add(Key::Replicas, "is no list", "a list of URLs, or of tables with a url")
                }
                (_, Value::Text(text)) => match SETTINGS.iter().find(|setting| setting.name == name) {
                    Some(setting) => setting.set(self, &text),
                    None => self.note_unknown(&name),
                },
                (_, Value::Table(entries)) if is_table(&name) => self.take_in(&format!("{name}."), entries),
                (_, Value::List(_) | Value::Table(_)) => match SETTINGS
                    .iter()
                    .find(|setting| setting.name == name)
                {
                    Some(setting) => self.faults.add(setting.key, "is a list or a table", "a single value"),
                    None => self.note_unknown(&name),
                },
            }
        }
    }

    fn node(&mut self, value: Value, key: impl Fn(Part) -> Key) -> Option<NodeConfig> {
        let entries = match value {
            Value::Text(url) => return Some(NodeConfig::new(url)),
            Value::Table(entries) => entries,
            Value::Nothing | Value::List(_) => {
                self.faults.add(key(Part::Url), "is no node", "a URL, or a table with a url");
                return None;
            }
        };
        let mut url = None;
        let mut given = Given::default();
        let number = |text: &str| text.trim().parse().ok();
        for (name, value) in entries {
            let known = match (name.as_str(), value) {
                (_, Value::Nothing) => true,
                ("url", Value::Text(text)) => url.replace(text).is_none(),
                ("name", Value::Text(text)) => given.name.replace(text).is_none(),
                ("zone", Value::Text(text)) => given.zone.replace(text).is_none(),
                ("weight", Value::Text(text)) => {
                    given.weight = number(&text);
                    given.weight.is_some()
                }
                ("pool_size", Value::Text(text)) => {
                    given.pool_size = number(&text);
                    given.pool_size.is_some()
                }
                _ => false,
            };
            if !known {
                let of = self.faults.name(key(Part::Url));
                let of = of.strip_suffix("url").unwrap_or(&of);
                let Unusable { problem, wanted } = wrong_part(&name);
                self.faults.add_as(format!("{of}{}", shown(&name)), problem, wanted);
            }
        }
        if url.is_none() {
            self.faults.add(key(Part::Url), "is missing", "the URL of the node");
        }
        Some(NodeConfig::with(url?, given))
    }

    fn note_unknown(&mut self, name: &str) {
        let names = SETTINGS.iter().map(|setting| setting.name).chain(["primary", "replicas"]);
        let upper: Vec<_> = names.map(|name| (name.to_ascii_uppercase(), name)).collect();
        let meant = nearest(name, upper.iter().map(|(upper, _)| upper.as_str()));
        let meant = meant.and_then(|meant| upper.iter().find(|(upper, _)| upper == meant));
        let wanted = match meant {
            Some((_, name)) => (*name).to_owned(),
            None => "a setting: see the documentation of `RouterBuilder::from_env`".to_owned(),
        };
        self.faults.add_as(shown(name), "is no setting", wanted);
    }
}

fn wrong_part(name: &str) -> Unusable {
    match name {
        "weight" | "pool_size" => Unusable::new("is not a number that can be used", "a whole number"),
        "url" | "name" | "zone" => Unusable::new("is there twice, or no text", "one text"),
        _ => Unusable::new("is no setting of a node", "one of url, name, weight, zone, pool_size"),
    }
}

fn is_table(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// A name that is none of ours, fit for a line of text.
fn shown(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings of a router")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Text(flag.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = vec![];
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = vec![];
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError};

    fn json(text: &str) -> Result<Config, ConfigError> {
        serde_json::from_str::<RouterBuilder>(text).expect("a table").config()
    }

    fn faults(text: &str) -> Vec<String> {
        json(text).expect_err("wrong").to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_documented_file_is_read() {
        let text = include_str!("../../docs/configuration.md");
        let text =
            text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
        let config = toml::from_str::<RouterBuilder>(text).expect("TOML").config().expect("valid");
        let nodes = config
            .replicas
            .iter()
            .map(|node| (&*node.name, node.weight, node.zone.as_deref(), node.pool_size));
        let expected = [("replica-1:5432", 1, Some("eu-1a"), None), ("big", 3, Some("eu-1b"), Some(30))];
        assert_eq!(nodes.collect::<Vec<_>>(), expected);
        assert!(config.read_replicas_enabled && config.primary.name.starts_with("primary"));
        let given = RouterBuilder::from_vars([
            ("DATABASE_URL", "postgres://app@primary/chat"),
            ("DB_READ_REPLICAS_ENABLED", "true"),
            ("DB_LOAD_BALANCING", "weighted"),
            ("DB_REPLICA_LAG_THRESHOLD", "500ms"),
            ("DB_REPLICA_LAG_THRESHOLD_BYTES", "16MB"),
            ("DB_EJECTION_ERROR_RATIO", "0.25"),
            ("DB_RETRY_BUDGET_SHARE", "0.1"),
        ]);
        let given = given.config().expect("valid");
        assert_eq!(format!("{:?}", Config { replicas: vec![], ..config }), format!("{given:?}"));
    }

    #[test]
    fn every_setting_can_be_given() {
        for setting in &SETTINGS {
            let text = if setting.is_time() { "hunter2s" } else { " " };
            let text = match setting.name.split_once('.') {
                Some((table, entry)) => {
                    format!(r#"{{"primary": "postgres://app@a", "{table}": {{"{entry}": "{text}"}}}}"#)
                }
                None => format!(r#"{{"primary": "postgres://app@a", "{}": "{text}"}}"#, setting.name),
            };
            let lines = faults(&text);
            let starts = lines[0].starts_with(&format!("{}: is ", setting.name));
            assert!(starts && lines.len() == 1 && !lines[0].contains("hunter2"), "{lines:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_by_its_place_in_the_file() {
        let lines = faults(
            r#"{
                "replicas": [
                    "redis://hunter2@a", [], {"url": "postgres://app@b", "weight": -1, "colour": "hunter2"}, {"name": "c"},
                    "postgres://app@d/chat", {"url": "postgres://app@e/chat", "zone": "hunter2://", "pool_size": 0},
                    {"url": "postgres://app@f/chat", "name": "d:5432"}
                ],
                "pool_sise": 3, "pool_size": [3], "checkout_timeout": 5000, "causal_wait": "10ms", "causal_wait": "10ms",
                "lag_recovery": "2s", "retry_budget": {"share": 2}, "ejection": {"window": {"s": 1}, "windows": 1},
                "fallback": "hunter2", "zone": null, "something else\n": true
            }"#,
        );
        let told: Vec<_> = lines.iter().map(|line| line.split(';').next().unwrap_or_default()).collect();
        let expected = [
            "replicas[1].url: is no node",
            "replicas[2].weight: is not a number that can be used",
            "replicas[2].colour: is no setting of a node",
            "replicas[3].url: is missing",
            "pool_sise: is no setting",
            "pool_size: is a list or a table",
            "checkout_timeout: lacks its unit",
            "causal_wait: is there twice",
            "ejection.window: is a list or a table",
            "ejection.windows: is no setting",
            "fallback: names no fallback",
            "something else\\n: is no setting",
            "primary.url: is missing",
            "replicas[0].url: it is not a `postgres://` URL",
            "replicas[5].zone: is not the name of a zone",
            "replicas[5].pool_size: has a pool of 0 connections",
            "replicas[6].name: makes a second node named d:5432, after replicas[4].url",
            "retry_budget.share: 2 is out of range",
            "lag_recovery: 2000 ms is out of range",
        ];
        assert_eq!(told, expected, "{lines:#?}");
        assert!(!format!("{lines:?}").contains("hunter2"));
        assert!(
            lines[4].ends_with("wanted: pool_size") && lines[9].ends_with("wanted: ejection.window"),
            "{lines:#?}"
        );
    }

    #[test]
    fn what_is_no_table_is_an_error_of_the_format() {
        for text in ["[]", "3", r#""postgres://app:hunter2@a""#, "null", "{"] {
            let error = serde_json::from_str::<RouterBuilder>(text).expect_err(text);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
