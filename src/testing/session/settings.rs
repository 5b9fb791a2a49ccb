//! What needs no server. A new connection is to wait for nobody, nor is one that is given back.

use crate::testing::frame::Frame;
use std::collections::HashMap;

/// The settings that Diesel makes on a new connection. They are made already, and no connection is to wait for it.
const SETTINGS: [&str; 2] = ["SET TIME ZONE 'UTC'", "SET CLIENT_ENCODING TO 'UTF8'"];

/// The answers to what needs no server: Diesel's settings, and statements that are closed, which happens at any time.
pub(super) fn answer(statements: &mut HashMap<String, String>, frames: &[Frame]) -> Option<Vec<Frame>> {
    let mut answers = Vec::new();
    for frame in frames {
        let mut reader = frame.reader();
        let is_setting = |name: Option<&str>| {
            name.and_then(|name| statements.get(name)).is_some_and(|sql| SETTINGS.contains(&sql.as_str()))
        };
        match frame.kind {
            b'P' => {
                let (name, sql) = (reader.text()?, reader.text()?);
                if !SETTINGS.contains(&sql) {
                    return None;
                }
                statements.insert(name.to_owned(), sql.to_owned());
                answers.push(Frame::new(b'1', []));
            }
            b'D' => {
                let statement = reader.byte()? == b'S';
                if !statement || !is_setting(reader.text()) {
                    return None;
                }
                // No parameters, no rows.
                answers.extend([Frame::new(b't', [0, 0]), Frame::new(b'n', [])]);
            }
            b'B' => {
                let _portal = reader.text()?;
                if !is_setting(reader.text()) {
                    return None;
                }
                answers.push(Frame::new(b'2', []));
            }
            // Of what was bound right before.
            b'E' if answers.last()?.kind == b'2' => answers.push(Frame::complete("SET")),
            b'C' => answers.push(Frame::new(b'3', [])),
            b'S' => {}
            _ => return None,
        }
    }
    Some(answers)
}
