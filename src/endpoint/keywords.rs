//! Every parameter that libpq knows, and what becomes of it here.
//!
//! Source: PostgreSQL 18 documentation, "Parameter Key Words".

/// One parameter.
#[derive(Debug)]
pub(super) struct Keyword {
    pub(super) name: &'static str,
    pub(super) treatment: Treatment,
}

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Treatment {
    /// It has its effect.
    Understood,
    /// Nothing depends on it here; its value is not looked at.
    Ignored,
    /// These values say what is the case anyway; any other is refused.
    Only(&'static [&'static str], &'static str),
    /// It cannot be done, and to ignore it would be wrong.
    Refused(&'static str),
}

use Treatment::{Ignored, Only, Refused, Understood};

const fn keyword(name: &'static str, treatment: Treatment) -> Keyword {
    Keyword { name, treatment }
}

const NO_GSS: &str = "GSSAPI is not supported";
const NO_OAUTH: &str = "OAuth is not supported: have the password provided";

pub(super) const KEYWORDS: &[Keyword] = &[
    keyword("host", Understood),
    keyword("hostaddr", Understood),
    keyword("port", Understood),
    keyword("dbname", Understood),
    keyword("user", Understood),
    keyword("password", Understood),
    keyword("passfile", Understood),
    keyword(
        "require_auth",
        Refused(
            "how the server authenticates cannot be chosen here: `channel_binding=require` and `sslmode=verify-full` tell the right server",
        ),
    ),
    keyword("channel_binding", Understood),
    keyword("connect_timeout", Understood),
    keyword("client_encoding", Only(&["UTF8", "utf8", "UTF-8", "utf-8", "auto"], "sessions are in UTF-8")),
    keyword("options", Understood),
    keyword("application_name", Understood),
    keyword("fallback_application_name", Understood),
    keyword("keepalives", Understood),
    keyword("keepalives_idle", Understood),
    keyword("keepalives_interval", Understood),
    keyword("keepalives_count", Understood),
    keyword("tcp_user_timeout", Understood),
    keyword("replication", Only(&["false", "off", "no", "0"], "connections for replication run no queries")),
    keyword("gssencmode", Only(&["disable", "prefer"], NO_GSS)),
    keyword("sslmode", Understood),
    keyword("requiressl", Refused("it is `sslmode=require` today")),
    keyword("sslnegotiation", Understood),
    keyword("sslcompression", Only(&["0"], "TLS 1.3 has no compression")),
    keyword("sslcert", Understood),
    keyword("sslkey", Understood),
    keyword("sslkeylogfile", Refused("the keys of sessions are written nowhere")),
    keyword("sslpassword", Refused("keys of clients must not be encrypted: protect the file instead")),
    keyword(
        "sslcertmode",
        Only(&["disable", "allow"], "whether the server asks for a certificate is not known here"),
    ),
    keyword("sslrootcert", Understood),
    keyword("sslcrl", Understood),
    keyword("sslcrldir", Refused("put the lists into one file for `sslcrl`")),
    keyword("sslsni", Understood),
    keyword("requirepeer", Refused("the owner of a socket is not looked at: protect its directory instead")),
    keyword("ssl_min_protocol_version", Understood),
    keyword("ssl_max_protocol_version", Understood),
    keyword("min_protocol_version", Only(&["3.0"], "the protocol is 3.0")),
    keyword("max_protocol_version", Ignored),
    keyword("krbsrvname", Ignored),
    keyword("gsslib", Ignored),
    keyword("gssdelegation", Only(&["0"], NO_GSS)),
    keyword("scram_client_key", Refused("give a password, or have it provided")),
    keyword("scram_server_key", Refused("give a password, or have it provided")),
    keyword("service", Refused("put the parameters of the service into the URL")),
    keyword("servicefile", Refused("put the parameters of the service into the URL")),
    keyword(
        "target_session_attrs",
        Only(
            &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"],
            "libpq knows no such value",
        ),
    ),
    keyword("load_balance_hosts", Only(&["disable", "random"], "libpq knows no such value")),
    keyword("oauth_issuer", Refused(NO_OAUTH)),
    keyword("oauth_client_id", Refused(NO_OAUTH)),
    keyword("oauth_client_secret", Refused(NO_OAUTH)),
    keyword("oauth_scope", Refused(NO_OAUTH)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_documented_with_what_becomes_of_it() {
        let text = include_str!("../../docs/connection-urls.md");
        let rows =
            text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
        let rows: Vec<_> = rows.collect();
        let names: Vec<_> = rows.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, KEYWORDS.iter().map(|keyword| keyword.name).collect::<Vec<_>>());
        for (keyword, (name, told)) in KEYWORDS.iter().zip(rows) {
            let right = match keyword.treatment {
                Treatment::Understood => told.starts_with("understood"),
                Treatment::Ignored => told.starts_with("ignored"),
                Treatment::Refused(_) => told.starts_with("refused"),
                Treatment::Only(values, _) => {
                    told.contains(&format!("`{}`", values[0])) || told.starts_with("any value")
                }
            };
            assert!(right, "{name}: {told}");
        }
    }
}
