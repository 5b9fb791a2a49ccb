//! What a connection URL says of its node: parameters that are this crate's own, not libpq's.

use super::{Given, Unusable};
use crate::endpoint::percent_decoded;
use std::borrow::Cow;

const PREFIX: &str = "node_";
const WANTED: &str = "the parameters node_name, node_weight, node_zone and node_pool_size, each once at most";

/// Takes the parameters that begin with `node_` out of a URL. Nothing of them is repeated: what looks like a parameter may be the
/// rest of a password that was not percent-encoded.
pub(super) fn split(url: &str) -> Result<(Cow<'_, str>, Given), Unusable> {
    let mut given = Given::default();
    // A password may contain `?`, and a parameter `@`.
    let host = url.rfind('@').filter(|at| url[*at..].contains('?')).unwrap_or(0);
    let Some(query) = url[host..].find('?').map(|mark| host + mark) else { return Ok((url.into(), given)) };
    let (server, parameters) = (&url[..query], &url[query + 1..]);
    if !parameters.split('&').any(|parameter| parameter.starts_with(PREFIX)) {
        return Ok((url.into(), given));
    }
    let mut rest = vec![];
    for parameter in parameters.split('&') {
        match parameter.strip_prefix(PREFIX) {
            Some(parameter) => set(&mut given, parameter)?,
            None => rest.push(parameter),
        }
    }
    let mark = if rest.is_empty() { "" } else { "?" };
    Ok((format!("{server}{mark}{}", rest.join("&")).into(), given))
}

fn set(given: &mut Given, parameter: &str) -> Result<(), Unusable> {
    let unknown = || Unusable::new("it has a parameter `node_..` that is none", WANTED);
    let (name, value) = parameter.split_once('=').ok_or_else(unknown)?;
    let value = percent_decoded(value).ok_or_else(|| {
        Unusable::new(
            "a parameter `node_..` of it is not percent-encoded UTF-8",
            "`%` and two digits, of UTF-8",
        )
    })?;
    let number = || {
        let unusable = |_| {
            Unusable::new(format!("its `node_{name}` is not a number that can be used"), "a whole number")
        };
        value.trim().parse().map_err(unusable)
    };
    let twice = match name {
        "name" => given.name.replace(value).is_some(),
        "zone" => given.zone.replace(value).is_some(),
        "weight" => given.weight.replace(number()?).is_some(),
        "pool_size" => given.pool_size.replace(number()?).is_some(),
        _ => return Err(unknown()),
    };
    if twice { Err(Unusable::new(format!("its `node_{name}` is there twice"), WANTED)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: Option<&str>, weight: Option<u32>, zone: Option<&str>, pool_size: Option<u32>) -> Given {
        Given { name: name.map(Into::into), weight, zone: zone.map(Into::into), pool_size }
    }

    #[test]
    fn what_is_of_the_node_is_taken_out_of_the_url() {
        for (url, rest, expected) in [
            ("postgres://app@a/chat", "postgres://app@a/chat", Given::default()),
            (
                "postgres://app@a/chat?sslmode=disable",
                "postgres://app@a/chat?sslmode=disable",
                Given::default(),
            ),
            (
                "postgres://app@a/chat?node_weight=3",
                "postgres://app@a/chat",
                given(None, Some(3), None, None),
            ),
            (
                "postgres://app@a/chat?node_name=b%20ig&connect_timeout=3&node_zone=eu%2D1&node_pool_size=20",
                "postgres://app@a/chat?connect_timeout=3",
                given(Some("b ig"), None, Some("eu-1"), Some(20)),
            ),
            (
                "postgres://a/chat?user=a%40b&node_weight=0",
                "postgres://a/chat?user=a%40b",
                given(None, Some(0), None, None),
            ),
            (
                "postgres:///chat?user=a@b&node_weight=0",
                "postgres:///chat?user=a@b",
                given(None, Some(0), None, None),
            ),
            (
                "postgres://app:x?node_weight=1@a/chat?node_weight=2",
                "postgres://app:x?node_weight=1@a/chat",
                given(None, Some(2), None, None),
            ),
            ("host=a node_weight=3", "host=a node_weight=3", Given::default()),
        ] {
            let (url_left, told) = split(url).unwrap_or_else(|error| panic!("{url}: {error:?}"));
            assert_eq!((&*url_left, told), (rest, expected), "{url}");
        }
    }

    #[test]
    fn what_is_none_is_refused_and_not_repeated() {
        for (parameters, problem) in [
            ("node_hunter2=1", "it has a parameter `node_..` that is none"),
            ("node_weight", "it has a parameter `node_..` that is none"),
            ("node_weight=hunter2", "its `node_weight` is not a number that can be used"),
            ("node_weight=-1", "its `node_weight` is not a number that can be used"),
            ("node_pool_size=", "its `node_pool_size` is not a number that can be used"),
            ("node_pool_size=99999999999", "its `node_pool_size` is not a number that can be used"),
            ("node_name=hunter2%f", "a parameter `node_..` of it is not percent-encoded UTF-8"),
            ("node_name=hunter2%ff", "a parameter `node_..` of it is not percent-encoded UTF-8"),
            ("node_name=hunter2%+1", "a parameter `node_..` of it is not percent-encoded UTF-8"),
            ("node_name=a&node_name=a", "its `node_name` is there twice"),
        ] {
            let error = split(&format!("postgres://app@a/chat?{parameters}")).expect_err(parameters);
            assert_eq!(error.problem, problem, "{parameters}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
