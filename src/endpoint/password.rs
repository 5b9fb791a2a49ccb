//! Where the password of a connection comes from.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::config::Config;

/// Gives the password for each new connection: one that is rotated, a token that expires, a secret that is kept elsewhere.
///
/// It is asked for every connection that is opened, by the pools, the monitor and whoever waits for a replica, so what is dear
/// to get it should keep for a while: a probe counts the wait for it, and a node whose probes take longer than the
/// [probe timeout](crate::RouterBuilder::probe_timeout) is unreachable. Connections that are open live on when the password
/// changes. Its `Debug` should show no secret.
///
/// # Example
///
/// ```
/// use diesel_replicas::{Login, NodeConfig, PasswordProvider, Providing};
///
/// /// A token for each server, as a cloud's IAM makes them.
/// #[derive(Debug)]
/// struct Tokens;
///
/// impl PasswordProvider for Tokens {
///     fn password<'a>(&'a self, login: Login<'a>) -> Providing<'a> {
///         Box::pin(async move { Ok(token_for(login.host, login.port, login.user).await?) })
///     }
/// }
/// # async fn token_for(_: &str, _: u16, _: &str) -> std::io::Result<String> { Ok(String::new()) }
///
/// let node = NodeConfig::new("postgres://app@replica-1/chat").password_provider(Tokens);
/// ```
pub trait PasswordProvider: fmt::Debug + Send + Sync + 'static {
    /// The password for this connection. An error is that of the connection, and its text is shown.
    ///
    /// # Cancel safety
    ///
    /// Connecting, this included, takes the [connect timeout](crate::RouterBuilder::connect_timeout) at most; then the future is dropped.
    fn password<'a>(&'a self, login: Login<'a>) -> Providing<'a>;
}

/// The future of [`PasswordProvider::password`]: `Box::pin` of an `async` block.
pub type Providing<'a> =
    Pin<Box<dyn Future<Output = Result<String, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Which connection a password is for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Login<'a> {
    /// The host as it was given, a name or an address; the directory of a Unix socket.
    pub host: &'a str,
    /// The port, for a Unix socket as well.
    pub port: u16,
    /// The role.
    pub user: &'a str,
    /// The database.
    pub database: &'a str,
}

/// Where the password comes from.
#[derive(Clone)]
pub(crate) enum Password {
    /// It stands in the URL, or there is none.
    Given,
    /// `passfile`.
    File(PathBuf),
    Provided(Arc<dyn PasswordProvider>),
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("the password file `{}` cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    #[cfg(unix)]
    #[error("the password file `{}` can be read by others than its owner: its mode has to be 0600", .0.display())]
    Public(PathBuf),
    #[error("the password file `{}` has no line for this server, database and role", .0.display())]
    NoLine(PathBuf),
    #[error("the password provider has failed")]
    Provider(#[source] Box<dyn Error + Send + Sync>),
}

impl Password {
    /// The password for a connection, unless it stands in the URL.
    pub(super) async fn get(&self, login: Login<'_>) -> Result<Option<String>, PasswordError> {
        match self {
            Self::Given => Ok(None),
            Self::File(path) => read(path, login).map(Some),
            Self::Provided(provider) => {
                provider.password(login).await.map(Some).map_err(PasswordError::Provider)
            }
        }
    }

    pub(super) fn is_anywhere(&self, config: &Config) -> bool {
        !matches!(self, Self::Given) || config.get_password().is_some()
    }
}

/// The file is small and near; it is read anew for each connection, so that a password that was changed in it is taken up.
fn read(path: &Path, login: Login<'_>) -> Result<String, PasswordError> {
    let unreadable = |error| PasswordError::Unreadable(path.to_owned(), error);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(PasswordError::Public(path.to_owned()));
        }
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    find(&text, login).ok_or_else(|| PasswordError::NoLine(path.to_owned()))
}

/// The first line that fits: `host:port:database:user:password`, each of the first four being what it says or `*`.
///
/// Source: PostgreSQL documentation, "The Password File".
fn find(text: &str, login: Login<'_>) -> Option<String> {
    let port = login.port.to_string();
    let wanted = [login.host, &port, login.database, login.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, behind) = take_field(rest)?;
            if field != wanted && !rest.starts_with("*:") {
                return None;
            }
            rest = behind;
        }
        Some(unescaped(rest))
    })
}

/// Up to the next `:` that no `\` stands before.
fn take_field(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            ':' if !escaped => return Some((unescaped(&text[..at]), &text[at + 1..])),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let next =
        |char: char, chars: &mut std::str::Chars<'_>| if char == '\\' { chars.next() } else { Some(char) };
    let mut plain = String::new();
    while let Some(char) = chars.next() {
        plain.extend(next(char, &mut chars));
    }
    plain
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Given, Self::Given) => true,
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Provided(one), Self::Provided(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Password {}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login<'static> = Login { host: "db-1", port: 5432, user: "app", database: "chat" };

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        for (text, password) in [
            ("db-1:5432:chat:app:hunter2", Some("hunter2")),
            (
                "# db-1:5432:chat:app:no\n\ndb-1:5433:chat:app:no\ndb-1:*:chat:*:yes\n*:*:*:*:late\n",
                Some("yes"),
            ),
            (r"*:*:*:app:a\:b\\c:d", Some(r"a:b\c:d")),
            (r"db\-1:5432:chat:app:x", Some("x")),
            (r"\*:*:*:*:no", None),
            ("db-1:5432:chat:app", None),
            ("db-1:5432:chat:app:", Some("")),
            ("db-1:5432:chat:other:no", None),
            ("", None),
        ] {
            assert_eq!(find(text, LOGIN).as_deref(), password, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("diesel-replicas-passfile-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("passwords");
        let missing = read(&path, LOGIN).expect_err("it is not there");
        std::fs::write(&path, "*:*:*:*:hunter2").expect("it is ours");
        let with_mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
            read(&path, LOGIN)
        };
        let told = [with_mode(0o644), with_mode(0o640), with_mode(0o600)];
        std::fs::remove_dir_all(&directory).expect("it is ours");
        assert!(matches!(missing, PasswordError::Unreadable(..)), "{missing}");
        let [Err(PasswordError::Public(_)), Err(PasswordError::Public(_)), Ok(password)] = told else {
            panic!("{told:?}");
        };
        assert_eq!(password, "hunter2");
    }
}
