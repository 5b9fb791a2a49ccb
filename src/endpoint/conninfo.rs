//! Takes a connection string apart, in both of libpq's forms.
//!
//! Source: PostgreSQL documentation, "Connection Strings", and libpq's `conninfo_uri_parse_options` and `conninfo_parse`.

use super::EndpointError;
use super::keywords::{KEYWORDS, Keyword};

/// The parameters of one connection string. Where one is given twice, the last one counts, as in libpq.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(&'static Keyword, String)>);

impl Parameters {
    pub(super) fn parse(text: &str) -> Result<Self, EndpointError> {
        let mut parameters = Self::default();
        match ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => parameters.parse_url(rest)?,
            None => parameters.parse_pairs(text)?,
        }
        Ok(parameters)
    }

    /// What is given under this name; an empty text is nothing, as in libpq.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let given = self.0.iter().rev().find(|(keyword, _)| keyword.name == name);
        given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn given(&self) -> impl Iterator<Item = (&'static Keyword, &str)> {
        let given = self.0.iter().map(|(keyword, value)| (*keyword, value.as_str()));
        given.filter(|(_, value)| !value.is_empty())
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), EndpointError> {
        let known = KEYWORDS.iter().find(|keyword| keyword.name == name);
        // What looks like a name may be the rest of a password that was not percent-encoded.
        let keyword = known.ok_or_else(|| EndpointError::new(UNKNOWN))?;
        if value.contains('\0') {
            return Err(EndpointError::new("it contains a NUL character"));
        }
        self.0.push((keyword, value));
        Ok(())
    }

    fn parse_url(&mut self, text: &str) -> Result<(), EndpointError> {
        let (credentials, rest) = split_credentials(text);
        if let Some(credentials) = credentials {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            self.add("user", decoded(user)?)?;
            self.add("password", decoded(password)?)?;
        }
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        // The rest of such a password would be shown as a host or a database.
        if place.contains('@') {
            return Err(EndpointError::new(TWICE));
        }
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let (mut names, mut ports) = (vec![], vec![]);
        for host in hosts.split(',') {
            let (name, port) = split_port(host)?;
            names.push(decoded(name)?);
            ports.push(decoded(port)?);
        }
        self.add("host", names.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            self.add("port", ports.join(","))?;
        }
        self.add("dbname", decoded(database)?)?;
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(|| EndpointError::new(UNKNOWN))?;
            let (name, value) = (decoded(name)?, decoded(value)?);
            match (name.as_str(), value.as_str()) {
                // As JDBC has it; libpq takes this one as well.
                ("ssl", "true") => self.add("sslmode", "require".to_owned())?,
                _ => self.add(&name, value)?,
            }
        }
        Ok(())
    }

    fn parse_pairs(&mut self, text: &str) -> Result<(), EndpointError> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, value) = rest.split_once('=').ok_or_else(|| EndpointError::new(NO_URL))?;
            let (value, behind) = take_value(value.trim_start())?;
            self.add(name.trim_end(), value)?;
            rest = behind.trim_start();
        }
        if self.0.is_empty() { Err(EndpointError::new(NO_URL)) } else { Ok(()) }
    }
}

const NO_URL: &str = "it is not a `postgres://` URL";
const UNKNOWN: &str = "it has a parameter that PostgreSQL does not know: perhaps a reserved character in user, password or database \
                       is not percent-encoded";
const INVALID: &str =
    "it is not a valid URL: reserved characters in user, password or database must be percent-encoded";
const TWICE: &str = "it contains `@` twice: one in a user, password or database must be written `%40`";

/// Up to the first `@`. One that stands behind a `?` is part of a parameter, unless the `?` stands in a password.
fn split_credentials(text: &str) -> (Option<&str>, &str) {
    let Some((credentials, rest)) = text.split_once('@') else { return (None, text) };
    let parameters = credentials.find('?').filter(|mark| {
        let place = &credentials[..*mark];
        !place.contains(':') || place.contains('/')
    });
    if parameters.is_some() { (None, text) } else { (Some(credentials), rest) }
}

fn split_port(host: &str) -> Result<(&str, &str), EndpointError> {
    let invalid = || EndpointError::new(INVALID);
    match host.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(invalid)?;
            match rest.strip_prefix(':') {
                Some(port) => Ok((address, port)),
                None if rest.is_empty() => Ok((address, "")),
                None => Err(invalid()),
            }
        }
        None => Ok(host.split_once(':').unwrap_or((host, ""))),
    }
}

fn decoded(text: &str) -> Result<String, EndpointError> {
    percent_decoded(text).ok_or_else(|| EndpointError::new(INVALID))
}

/// `None` if it is no percent-encoding of UTF-8; `+` stands for itself.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = vec![];
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// A value of the other form, quoted or not, and what is behind it.
fn take_value(text: &str) -> Result<(String, &str), EndpointError> {
    let (text, quoted) = text.strip_prefix('\'').map_or((text, false), |text| (text, true));
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            space if space.is_ascii_whitespace() && !quoted => return Ok((value, &text[at..])),
            char => value.push(char),
        }
    }
    if quoted { Err(EndpointError::new("it has a quoted value without an end")) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(&'static str, String)> {
        let parameters = Parameters::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        parameters.given().map(|(keyword, value)| (keyword.name, value.to_owned())).collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        for (url, pairs) in [
            (
                "postgres://app:hunter2@db-1:6000/chat",
                "user=app password=hunter2 host=db-1 port=6000 dbname=chat",
            ),
            ("postgresql://app@a,b:5433,[::1]:1/chat", "user=app host=a,b,::1 port=,5433,1 dbname=chat"),
            ("postgres://a%20b:p%40ss%2F+%25@h/c", r"user='a b' password=p@ss/+% host=h dbname=c"),
            (r"postgres://it's:a%5Cb@h", r"user=it\'s password='a\\b' host = 'h'"),
            ("postgres://%2Frun%2Fpg/c?user=u@v", "host=/run/pg dbname=c user=u@v"),
            ("postgres:///?host=/run/pg&port=1&ssl=true", "host=/run/pg port=1 sslmode=require"),
            (
                "postgres://app:x?y@h/c?options=-c%20a%3Db",
                "user=app password=x?y host=h dbname=c options='-c a=b'",
            ),
            ("postgres://h?", "host=h"),
            ("postgres://app:hun/ter2@h/c", "user=app password=hun/ter2 host=h dbname=c"),
        ] {
            assert_eq!(parsed(url), parsed(pairs), "{url}");
        }
    }

    #[test]
    fn the_last_one_counts() {
        let parameters = Parameters::parse("postgres://app@a/chat?port=1&port=2&user=").expect("valid");
        assert_eq!((parameters.get("port"), parameters.get("user")), (Some("2"), None));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_a_secret() {
        for (text, problem) in [
            ("hunter2", NO_URL),
            ("", NO_URL),
            ("mysql://app:hunter2@a/b", NO_URL),
            ("mysql://app:hunter2@a/b?c=d", UNKNOWN),
            ("host=a hunter2", NO_URL),
            ("host='hunter2", "it has a quoted value without an end"),
            ("hunter2=a", UNKNOWN),
            ("postgres://a?hunter2", UNKNOWN),
            ("postgres://a?hunter2=b", UNKNOWN),
            ("postgres://a?ssl=hunter2", UNKNOWN),
            ("postgres://app:hunter2%@a", INVALID),
            ("postgres://app:hunter2%f@a", INVALID),
            ("postgres://app:hunter2%ff@a", INVALID),
            ("postgres://app:hunter2%+1@a", INVALID),
            ("postgres://app:hunter2%00@a", "it contains a NUL character"),
            ("postgres://app@[::1/hunter2", INVALID),
            ("postgres://app@[::1]hunter2/a", INVALID),
            ("postgres://app:x@hunter2@a/b", TWICE),
            ("postgres://app:x@hunter2/y@a/b", TWICE),
        ] {
            let error = Parameters::parse(text).expect_err(text);
            assert_eq!(error.to_string(), problem, "{text}");
        }
    }
}
