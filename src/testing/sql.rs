//! Reads SQL as far as it takes to tell commands apart: what ends one, and which of them control transactions.

/// What a command does to the transaction of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Begin {
        /// What it says of writing, if it does.
        read_only: Option<bool>,
        serializable: bool,
    },
    Commit,
    Rollback,
    /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`: within a transaction only.
    Savepoint,
    /// What cannot be kept inside of a transaction.
    Refused(&'static str),
}

/// The commands of a text, without what separates them.
pub(super) fn commands(sql: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    let mut start = 0;
    // The body of a function in standard SQL has semicolons of its own.
    let mut in_body = false;
    for (at, token) in Tokens::new(sql) {
        match token {
            Token::Word(word) if word.eq_ignore_ascii_case("atomic") => in_body = true,
            Token::Word(word) if in_body && word.eq_ignore_ascii_case("end") => in_body = false,
            Token::Other(';') if !in_body => {
                commands.push(&sql[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    commands.push(&sql[start..]);
    commands.retain(|command| Tokens::new(command).next().is_some());
    commands
}

/// The word that a command begins with.
pub(super) fn first_word(command: &str) -> &str {
    words(command).next().unwrap_or("")
}

/// What the command does to the transaction; `None` for all that may stand in one.
pub(super) fn control(command: &str) -> Option<Control> {
    let words: Vec<String> = words(command).take(16).map(str::to_ascii_uppercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let has = |word| words.contains(&word);
    match words.as_slice() {
        ["BEGIN", ..] | ["START", "TRANSACTION", ..] => {
            let follows = |one, two| words.windows(2).any(|pair| pair == [one, two]);
            let read_only =
                if follows("READ", "ONLY") { Some(true) } else { follows("READ", "WRITE").then_some(false) };
            Some(Control::Begin { read_only, serializable: has("SERIALIZABLE") })
        }
        ["COMMIT" | "ROLLBACK", "PREPARED", ..] | ["PREPARE", "TRANSACTION", ..] => {
            Some(Control::Refused("a prepared transaction"))
        }
        ["COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] if has("CHAIN") && !has("NO") => {
            Some(Control::Refused("`AND CHAIN`"))
        }
        ["COMMIT" | "END", ..] => Some(Control::Commit),
        ["ROLLBACK" | "ABORT", ..] if !has("TO") => Some(Control::Rollback),
        ["ROLLBACK" | "SAVEPOINT" | "RELEASE", ..] => Some(Control::Savepoint),
        _ => None,
    }
}

/// The text with each parameter `$n` replaced by what `with` makes of it.
pub(super) fn replace_parameters(sql: &str, with: impl Fn(usize) -> Option<String>) -> String {
    let (mut replaced, mut done) = (String::new(), 0);
    for (at, token) in Tokens::new(sql) {
        if let Token::Parameter(digits) = token
            && let Some(value) = digits.parse().ok().and_then(&with)
        {
            replaced.push_str(&sql[done..at]);
            replaced.push_str(&value);
            done = at + 1 + digits.len();
        }
    }
    replaced.push_str(&sql[done..]);
    replaced
}

fn words(command: &str) -> impl Iterator<Item = &str> {
    Tokens::new(command).filter_map(|(_, token)| match token {
        Token::Word(word) => Some(word),
        _ => None,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// The digits of a parameter.
    Parameter(&'a str),
    /// A string or a quoted name.
    Quoted,
    Other(char),
}

/// The tokens of a text, each with where it begins; comments and white space are skipped.
///
/// Source: PostgreSQL documentation, "Lexical Structure".
struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn new(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    fn skip_comments(&mut self) {
        loop {
            let rest = &self.sql[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("--") {
                self.at += trimmed.find(['\n', '\r']).unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                self.at += block_comment(trimmed);
            } else {
                return;
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (usize, Token<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_comments();
        let at = self.at;
        let rest = &self.sql[at..];
        let first = rest.chars().next()?;
        let (token, length) = match first {
            '\'' => (Token::Quoted, quoted(rest, '\'', false)),
            '"' => (Token::Quoted, quoted(rest, '"', false)),
            '$' => dollar(rest),
            _ if starts_word(first) => {
                let word = &rest[..word_length(rest)];
                let string = rest[word.len()..].starts_with('\'');
                match word {
                    // The others, such as U&'..', hold no backslashes that escape a quote.
                    "e" | "E" if string => (Token::Quoted, 1 + quoted(&rest[1..], '\'', true)),
                    _ => (Token::Word(word), word.len()),
                }
            }
            // A `$` right behind a number belongs to it.
            _ if first.is_ascii_digit() => (Token::Other(first), word_length(rest)),
            _ => (Token::Other(first), first.len_utf8()),
        };
        self.at += length;
        Some((at, token))
    }
}

fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn word_length(rest: &str) -> usize {
    rest.find(|c| !(starts_word(c) || c.is_ascii_digit() || c == '$')).unwrap_or(rest.len())
}

/// The length of what begins with this quote. A doubled quote stands for itself, which reads as two strings in a row.
fn quoted(rest: &str, quote: char, escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return at + 1;
        }
        if c == '\\' && escapes {
            chars.next();
        }
    }
    rest.len()
}

/// `$1`, or a string in `$tag$`s.
fn dollar(rest: &str) -> (Token<'_>, usize) {
    let inner = &rest[1..];
    let digits = &inner[..inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len())];
    if !digits.is_empty() {
        return (Token::Parameter(digits), 1 + digits.len());
    }
    let tag = inner.find(|c| !(starts_word(c) || c.is_ascii_digit())).unwrap_or(inner.len());
    if !inner[tag..].starts_with('$') {
        return (Token::Other('$'), 1);
    }
    let delimiter = &rest[..tag + 2];
    let body = &rest[delimiter.len()..];
    let end = body.find(delimiter).map_or(rest.len(), |end| end + 2 * delimiter.len());
    (Token::Quoted, end)
}

/// The length of the comment that this begins with. Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(next) = rest[at..].find(['/', '*']) {
        at += next;
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_end_at_semicolons_that_are_no_part_of_anything() {
        for (sql, expected) in [
            ("", &[] as &[&str]),
            (" ; -- nothing\n;", &[]),
            ("BEGIN", &["BEGIN"]),
            ("BEGIN; SELECT 1;COMMIT;", &["BEGIN", " SELECT 1", "COMMIT"]),
            (
                "SELECT ';', E'\\';', \";\", $$;$$, $a$;$$;$a$",
                &["SELECT ';', E'\\';', \";\", $$;$$, $a$;$$;$a$"],
            ),
            (
                "SELECT 'it''s; one' -- ;\n; /* ; /* ; */ ; */ END",
                &["SELECT 'it''s; one' -- ;\n", " /* ; /* ; */ ; */ END"],
            ),
            (
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; COMMIT",
                &["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", " COMMIT"],
            ),
            ("SELECT '\\'; SELECT 2", &["SELECT '\\'", " SELECT 2"]),
        ] {
            assert_eq!(commands(sql), expected, "{sql}");
        }
    }

    #[test]
    fn commands_that_control_a_transaction_are_known_in_all_their_forms() {
        let begin = |read_only, serializable| Some(Control::Begin { read_only, serializable });
        for (sql, expected) in [
            ("begin", begin(None, false)),
            ("/* a */ BEGIN WORK", begin(None, false)),
            ("START TRANSACTION READ ONLY", begin(Some(true), false)),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE", begin(Some(false), true)),
            ("COMMIT", Some(Control::Commit)),
            ("end transaction", Some(Control::Commit)),
            ("COMMIT AND NO CHAIN", Some(Control::Commit)),
            ("COMMIT AND CHAIN", Some(Control::Refused("`AND CHAIN`"))),
            ("COMMIT PREPARED 'x'", Some(Control::Refused("a prepared transaction"))),
            ("PREPARE TRANSACTION 'x'", Some(Control::Refused("a prepared transaction"))),
            ("ROLLBACK", Some(Control::Rollback)),
            ("abort", Some(Control::Rollback)),
            ("ROLLBACK TO SAVEPOINT a", Some(Control::Savepoint)),
            ("ROLLBACK WORK TO a", Some(Control::Savepoint)),
            ("SAVEPOINT a", Some(Control::Savepoint)),
            ("RELEASE a", Some(Control::Savepoint)),
            ("SELECT 'COMMIT'", None),
            ("PREPARE x AS SELECT 1", None),
            ("\"COMMIT\"", None),
            ("", None),
        ] {
            assert_eq!(control(sql), expected, "{sql}");
        }
    }

    #[test]
    fn parameters_are_replaced_where_they_are_parameters() {
        let replaced = replace_parameters("SELECT $1, '$1', $2::int, a$1, $12, $$ $1 $$ -- $1", |n| {
            (n < 10).then(|| format!("<{n}>"))
        });
        assert_eq!(replaced, "SELECT <1>, '$1', <2>::int, a$1, $12, $$ $1 $$ -- $1");
    }
}
