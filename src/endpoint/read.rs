//! From the parameters of a connection string to the servers that it names.

use super::conninfo::Parameters;
use super::keywords::Treatment;
use super::password::Password;
use super::tls::{Tls, choice};
use super::{Endpoint, EndpointError};
use std::net::IpAddr;
use std::time::Duration;
use tokio_postgres::config::{
    ChannelBinding, Config, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs,
};

/// libpq takes 1 s for 2 s.
const SHORTEST_CONNECT_TIMEOUT: u64 = 2;

const NO_HOST: &str = "it names no host";

pub(super) fn endpoints(text: &str) -> Result<Vec<Endpoint>, EndpointError> {
    let parameters = Parameters::parse(text)?;
    for (keyword, value) in parameters.given() {
        match keyword.treatment {
            Treatment::Refused(reason) => {
                return Err(EndpointError(format!(
                    "its parameter `{}` is not supported: {reason}",
                    keyword.name
                )));
            }
            Treatment::Only(values, reason) if !values.contains(&value) => {
                let values = values.join("`, `");
                return Err(EndpointError(format!(
                    "its `{}` can only be `{values}`: {reason}",
                    keyword.name
                )));
            }
            Treatment::Understood | Treatment::Ignored | Treatment::Only(..) => {}
        }
    }
    let tls = Tls::parse(&parameters)?;
    #[cfg(not(feature = "tls"))]
    if tls.is_asked_for() {
        return Err(EndpointError::new(
            "it asks for TLS, for which `diesel-replicas` needs its feature `tls`: to be without, set `sslmode=disable`",
        ));
    }
    let common = common(&parameters)?;
    let password = match (parameters.get("password"), parameters.get("passfile")) {
        (None, Some(file)) => Password::File(file.into()),
        _ => Password::Given,
    };
    let endpoint = |place: Place| {
        let mut config = common.clone();
        let tcp = !place.host.starts_with('/');
        config.host(place.host).port(place.port);
        if let Some(address) = place.address {
            config.hostaddr(address);
        }
        Endpoint { config, tls: tls.clone(), password: password.clone(), tcp }
    };
    Ok(places(&parameters)?.into_iter().map(endpoint).collect())
}

/// One server.
struct Place<'a> {
    host: &'a str,
    address: Option<IpAddr>,
    port: u16,
}

/// `host`, `hostaddr` and `port` are lists of the same length; one port is that of all.
fn places(parameters: &Parameters) -> Result<Vec<Place<'_>>, EndpointError> {
    let list =
        |name| parameters.get(name).map(|text| text.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let servers = hosts.len().max(addresses.len());
    if servers == 0 {
        return Err(EndpointError::new(NO_HOST));
    }
    if ![0, servers].contains(&hosts.len()) || ![0, servers].contains(&addresses.len()) {
        return Err(EndpointError::new("its `host` and `hostaddr` are lists of different lengths"));
    }
    if ![0, 1, servers].contains(&ports.len()) {
        return Err(EndpointError::new("it has neither one port nor as many as hosts"));
    }
    let place = |i: usize| {
        let address = match addresses.get(i).copied().unwrap_or_default() {
            "" => None,
            text => Some(text.parse().map_err(|_| EndpointError::new("its `hostaddr` is no IP address"))?),
        };
        // A node has to be called something, and the tap's hook wants a name.
        let host = hosts.get(i).copied().filter(|host| !host.is_empty()).or(addresses.get(i).copied());
        let host = host.filter(|host| !host.is_empty()).ok_or_else(|| EndpointError::new(NO_HOST))?;
        let port = match ports.get(i).or(ports.first()).copied().unwrap_or_default() {
            "" => super::DEFAULT_PORT,
            text => match text.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(EndpointError::new("it has a port that is none")),
            },
        };
        Ok(Place { host, address, port })
    };
    (0..servers).map(place).collect()
}

/// What all servers have in common.
fn common(parameters: &Parameters) -> Result<Config, EndpointError> {
    let mut config = Config::new();
    // What a node is, is observed; and as every read session refuses writes, `read-write` would refuse every node.
    config
        .target_session_attrs(TargetSessionAttrs::Any)
        .load_balance_hosts(LoadBalanceHosts::Disable)
        .ssl_mode(SslMode::Disable)
        .ssl_negotiation(SslNegotiation::Postgres);
    config.user(parameters.get("user").ok_or_else(|| EndpointError::new("it names no user"))?);
    if let Some(password) = parameters.get("password") {
        config.password(password);
    }
    if let Some(database) = parameters.get("dbname") {
        config.dbname(database);
    }
    if let Some(options) = parameters.get("options") {
        config.options(options);
    }
    let application = parameters.get("application_name").or(parameters.get("fallback_application_name"));
    if let Some(application) = application {
        config.application_name(application);
    }
    let bindings = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    if let Some(binding) = choice(parameters, "channel_binding", &bindings)? {
        config.channel_binding(binding);
    }
    if let Some(seconds) = number(parameters, "connect_timeout")? {
        config.connect_timeout(Duration::from_secs(seconds.max(SHORTEST_CONNECT_TIMEOUT)));
    }
    if let Some(millis) = number(parameters, "tcp_user_timeout")? {
        config.tcp_user_timeout(Duration::from_millis(millis));
    }
    if let Some(keepalives) = choice(parameters, "keepalives", &[("1", true), ("0", false)])? {
        config.keepalives(keepalives);
    }
    if let Some(seconds) = number(parameters, "keepalives_idle")? {
        config.keepalives_idle(Duration::from_secs(seconds));
    }
    if let Some(seconds) = number(parameters, "keepalives_interval")? {
        config.keepalives_interval(Duration::from_secs(seconds));
    }
    if let Some(count) = number(parameters, "keepalives_count")? {
        let count =
            count.try_into().map_err(|_| EndpointError::new("its `keepalives_count` is too large"))?;
        config.keepalives_retries(count);
    }
    Ok(config)
}

/// Where 0 and less stand for what the system does, as in libpq.
fn number(parameters: &Parameters, name: &str) -> Result<Option<u64>, EndpointError> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    let number: i32 =
        text.trim().parse().map_err(|_| EndpointError(format!("its `{name}` is not a whole number")))?;
    Ok(u64::try_from(number).ok().filter(|number| *number > 0))
}
