//! TLS to real servers, with certificates that are made here.

mod authority;

use crate::proxy;
use crate::support::{self, notes, until, until_async, until_quiet};
use authority::{Authority, Folder, Identity};
use diesel::prelude::*;
use diesel_replicas::{HealthState, Limitation, NodeConfig, Router, RunQueryDsl};
use pg_cluster::{Cluster, Node};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls};

/// Who may come, and how.
const RULES: &str = "local all all trust
hostssl all guarded all trust clientcert=verify-ca
hostssl all app all scram-sha-256
hostssl all secret all trust
hostnossl all open all trust
host all postgres all trust
host replication all all trust
";

const ROLES: &str = "CREATE ROLE guarded LOGIN; CREATE ROLE app LOGIN PASSWORD 'hunter2'; CREATE ROLE secret LOGIN; CREATE ROLE open LOGIN;
    GRANT ALL ON notes TO guarded, app, secret, open";

/// A cluster with TLS, and what its clients have.
struct Stage {
    cluster: Cluster,
    ca: Authority,
    folder: Folder,
}

impl Stage {
    async fn set(replicas: usize) -> Self {
        let cluster = support::cluster(replicas).await;
        cluster.primary().sql(ROLES).await.unwrap();
        let written = cluster.primary().position().await.unwrap().lsn;
        for replica in cluster.replicas() {
            cluster.wait_replayed(replica, written).await.unwrap();
        }
        let (ca, folder) = (Authority::new("the authority"), Folder::new());
        folder.write("ca.crt", &ca.pem());
        let stage = Self { cluster, ca, folder };
        stage.serve(&stage.ca.server("localhost")).await;
        stage
    }

    /// The servers have this certificate from now on.
    async fn serve(&self, identity: &Identity) {
        for node in self.cluster.nodes() {
            put(node, "server.crt", &identity.certificate).await;
            put(node, "server.key", &identity.key).await;
            put(node, "root.crt", &self.ca.pem()).await;
            put(node, "pg_hba.conf", RULES).await;
            reload(node, &["ssl = on", "ssl_ca_file = 'root.crt'"]).await;
        }
    }

    fn url(&self, node: &Node, user: &str, parameters: &str) -> String {
        let url = node.url().replace("//postgres@", &format!("//{user}@"));
        let parameters = parameters.replace("{}", &self.folder.path().display().to_string());
        format!("{}?{parameters}", url.replace("@127.0.0.1:", "@localhost:"))
    }

    /// Whether a session on the primary is encrypted, and how, as the server sees it; else why there is none.
    async fn session(&self, user: &str, parameters: &str) -> Result<String, String> {
        session(&self.url(self.cluster.primary(), user, parameters)).await
    }

    async fn expect(&self, cases: &[(&str, &str, Result<&str, &str>)]) {
        for (user, parameters, expected) in cases {
            let is = self.session(user, parameters).await;
            match (expected, &is) {
                (Ok(expected), Ok(is)) => assert!(is.starts_with(expected), "{user}, {parameters}: {is}"),
                (Err(expected), Err(is)) => assert!(is.contains(expected), "{user}, {parameters}: {is}"),
                _ => panic!("{user}, {parameters}: {is:?}"),
            }
        }
    }
}

/// Puts a file into the server's directory, as its user.
async fn put(node: &Node, file: &str, text: &str) {
    let text = text.replace('\'', "''").replace('\r', "").replace('\n', "\\n");
    let program = format!("umask 077; cat > {file}");
    let sql = format!("COPY (SELECT unnest(string_to_array(E'{text}', E'\\n'))) TO PROGRAM '{program}'");
    node.sql(&sql).await.unwrap();
}

async fn reload(node: &Node, settings: &[&str]) {
    for setting in settings {
        node.sql(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    // New sessions inherit it from the process that answers them.
    let loaded = async || node.sql("SELECT pg_conf_load_time()::text").await.unwrap();
    let before = loaded().await;
    node.sql("SELECT pg_reload_conf()").await.unwrap();
    until_async("the server has read its files", async || loaded().await != before).await;
}

const SESSION: &str =
    "SELECT coalesce(version, 'plain') AS protection FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = diesel::sql_types::Text)]
    protection: String,
}

async fn session(url: &str) -> Result<String, String> {
    let router =
        Router::builder().primary(NodeConfig::new(url)).build().await.map_err(|error| error.to_string())?;
    let mut conn = router.write().await.map_err(|error| error.to_string())?;
    let session = diesel::sql_query(SESSION).get_result::<Session>(&mut conn).await;
    session.map(|session| session.protection).map_err(|error| error.to_string())
}

const PLAIN: Result<&str, &str> = Ok("plain");
const TLS: Result<&str, &str> = Ok("TLSv1.3");

#[tokio::test]
async fn each_mode_is_as_libpq_has_it() {
    let stage = Stage::set(0).await;
    const REFUSED: Result<&str, &str> = Err("takes no connections in plain text");
    stage
        .expect(&[
            ("postgres", "sslmode=disable", PLAIN),
            ("postgres", "sslmode=allow", PLAIN),
            ("postgres", "sslmode=prefer", TLS),
            ("postgres", "", TLS),
            ("postgres", "sslmode=require", TLS),
            ("postgres", "sslmode=verify-ca&sslrootcert={}/ca.crt", TLS),
            ("postgres", "sslmode=verify-full&sslrootcert={}/ca.crt", TLS),
            ("postgres", "sslmode=verify-full&sslrootcert={}/ca.crt&sslsni=0", TLS),
            ("secret", "sslmode=disable", REFUSED),
            ("secret", "sslmode=allow", TLS),
            ("secret", "sslmode=allow&sslrootcert={}/missing.crt", Err("missing.crt` cannot be read")),
            ("open", "sslmode=prefer", PLAIN),
            ("open", "sslmode=require", Err("no pg_hba.conf entry")),
            ("secret", "sslmode=require&ssl_max_protocol_version=TLSv1.2", Ok("TLSv1.2")),
            ("secret", "sslmode=require&ssl_min_protocol_version=TLSv1.3", TLS),
        ])
        .await;
    reload(stage.cluster.primary(), &["ssl_max_protocol_version = 'TLSv1.2'"]).await;
    stage
        .expect(&[
            ("secret", "sslmode=require", Ok("TLSv1.2")),
            (
                "secret",
                "sslmode=require&ssl_min_protocol_version=TLSv1.3",
                Err("no version of TLS, or no cipher, in common: look at `ssl_min_protocol_version`"),
            ),
        ])
        .await;
}

#[tokio::test]
async fn tls_from_the_first_byte_on_is_for_servers_that_know_it() {
    let stage = Stage::set(0).await;
    let version = stage.cluster.primary().sql("SHOW server_version_num").await.unwrap().unwrap();
    let direct = "sslmode=verify-full&sslrootcert={}/ca.crt&sslnegotiation=direct";
    let expected = if version.parse::<u32>().unwrap() >= 170_000 {
        TLS
    } else {
        Err("older than version 17: set `sslnegotiation=postgres`")
    };
    stage.expect(&[("secret", direct, expected)]).await;
}

#[tokio::test]
async fn a_server_that_is_not_the_right_one_is_told_by_the_check_that_fails() {
    let stage = Stage::set(0).await;
    let full = "sslmode=verify-full&sslrootcert={}/ca.crt";
    let ca = "sslmode=verify-ca&sslrootcert={}/ca.crt";
    let loose = "sslmode=require";

    stage.serve(&stage.ca.server("db.example")).await;
    let wrong = Err("is for another host: connect by a name that it has");
    stage.expect(&[("secret", full, wrong), ("secret", ca, TLS), ("secret", loose, TLS)]).await;

    stage.serve(&stage.ca.with_common_name_alone("localhost")).await;
    let nameless = Err("names no host in its subjectAltName");
    stage.expect(&[("secret", full, nameless), ("secret", ca, TLS)]).await;

    stage.serve(&stage.ca.expired("localhost")).await;
    let expired = Err("has expired: renew it");
    stage.expect(&[("secret", full, expired), ("secret", ca, expired), ("secret", loose, TLS)]).await;

    let other = Authority::new("another authority");
    // Neither authority nor name fit: the name does not excuse it.
    stage.serve(&other.server("db.example")).await;
    let unknown = Err("signed by none of the authorities that are trusted: `");
    let as_required = "sslmode=require&sslrootcert={}/ca.crt";
    stage
        .expect(&[
            ("secret", full, unknown),
            ("secret", ca, unknown),
            ("secret", as_required, unknown),
            ("secret", "sslrootcert=system", Err("the operating system (`sslrootcert=system`)")),
            (
                "secret",
                "sslmode=verify-full",
                Err("set `sslrootcert` to the file of its authority, or to `system`"),
            ),
            ("secret", loose, TLS),
        ])
        .await;
    // What is preferred falls back, as libpq has it, where the server takes plain text.
    stage.expect(&[("postgres", "sslmode=prefer&sslrootcert={}/ca.crt", PLAIN)]).await;
    stage.expect(&[("secret", "sslmode=prefer&sslrootcert={}/ca.crt", unknown)]).await;

    // One that has signed its own certificate.
    let own = Authority::new("a server of its own");
    stage.folder.write("own.crt", &own.pem());
    stage.serve(&own.as_server()).await;
    stage
        .expect(&[
            ("secret", "sslmode=verify-ca&sslrootcert={}/own.crt", TLS),
            ("secret", "sslmode=verify-full&sslrootcert={}/own.crt", Err("names no host")),
            ("secret", ca, Err("or stand in `sslrootcert` itself")),
        ])
        .await;

    let revoked = stage.ca.server("localhost");
    stage.folder.write("revoked.crl", &stage.ca.revocations(&[&revoked]));
    stage.folder.write("empty.crl", &stage.ca.revocations(&[]));
    stage.folder.write("other.crl", &other.revocations(&[]));
    stage.serve(&revoked).await;
    for (list, expected) in [
        ("revoked", Err("has been revoked (`sslcrl`)")),
        ("empty", TLS),
        ("other", Err("a current list of each authority")),
        ("missing", Err("missing.crl` cannot be read")),
    ] {
        let parameters = format!("{full}&sslcrl={{}}/{list}.crl");
        stage.expect(&[("secret", &parameters, expected)]).await;
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_and_the_server_says_what_it_thinks_of_it() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::set(0).await;
    let (folder, ca) = (&stage.folder, &stage.ca);
    folder.write_identity("right", &ca.client("guarded"));
    folder.write_identity("wrong", &Authority::new("another authority").client("guarded"));
    folder.write_identity("old", &ca.expired("guarded"));
    folder.write_identity("open", &ca.client("guarded"));
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(folder.path().join("open.key"), mode(0o644)).unwrap();
    folder.write("broken.crt", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n");
    folder.write("empty.crt", "hunter2\n");
    folder.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let with = |certificate: &str, key: &str, more: &str| {
        format!(
            "sslmode=verify-full&sslrootcert={{}}/ca.crt&sslcert={{}}/{certificate}.crt&sslkey={{}}/{key}.key{more}"
        )
    };
    let refused = "does not accept the client's certificate";
    for (parameters, expected) in [
        (with("right", "right", ""), TLS),
        (with("right", "right", "&ssl_max_protocol_version=TLSv1.2"), Ok("TLSv1.2")),
        (with("right", "right", "&sslcertmode=disable"), Err("set `sslcert` and `sslkey`")),
        ("sslmode=require".to_owned(), Err("set `sslcert` and `sslkey`")),
        (with("wrong", "wrong", ""), Err(refused)),
        (with("wrong", "wrong", "&ssl_max_protocol_version=TLSv1.2"), Err(refused)),
        (with("old", "old", ""), Err(refused)),
        (with("right", "wrong", ""), Err("`sslcert` and `sslkey` cannot be used together")),
        (with("open", "open", ""), Err("can be read by others than its owner")),
        (with("broken", "right", ""), Err("`sslcert` and `sslkey` cannot be used together")),
        (with("empty", "right", ""), Err("empty.crt` does not hold certificates in PEM")),
        (
            with("right", "encrypted", ""),
            Err("encrypted.key` does not hold an unencrypted private key in PEM"),
        ),
        (with("right", "missing", ""), Err("missing.key` cannot be read")),
    ] {
        stage.expect(&[("guarded", &parameters, expected)]).await;
        let told = stage.session("guarded", &parameters).await;
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
    }
}

#[tokio::test]
async fn a_password_is_bound_to_the_channel_that_it_goes_through() {
    let stage = Stage::set(0).await;
    let required = "sslmode=require&channel_binding=require";
    stage
        .expect(&[
            ("app:hunter2", required, TLS),
            ("app:hunter2", "sslmode=require&channel_binding=disable", TLS),
            ("app:hunter3", required, Err("password authentication failed")),
            ("app:hunter3", "sslmode=prefer", Err("password authentication failed")),
            ("secret", required, Err("channel binding")),
            ("open", "sslmode=disable&channel_binding=require", Err("channel binding")),
        ])
        .await;
    // Somebody in between has a certificate of his own, which nobody verifies, and passes on what he reads.
    let primary = stage.cluster.primary();
    let impostor = Authority::new("an impostor").server("localhost");
    let port = impersonate(proxy::port(&primary.url()), &impostor, &stage.ca).await;
    let through = |parameters: &str| {
        let url = stage.url(primary, "app:hunter2", parameters);
        url.replace(&format!(":{}/", proxy::port(&primary.url())), &format!(":{port}/"))
    };
    let told = session(&through("sslmode=require")).await.unwrap_err();
    assert!(told.contains("channel binding"), "{told}");
    let unbound = session(&through("sslmode=require&channel_binding=disable")).await;
    assert_eq!(unbound.as_deref(), Ok("TLSv1.3"), "nothing else would have told him");
}

/// Speaks TLS as somebody else to whoever connects to the port that it returns, and as a client to the server.
async fn impersonate(upstream: u16, identity: &Identity, ca: &Authority) -> u16 {
    let chain =
        CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let connector = TlsConnector::from(Arc::new(builder.with_no_client_auth()));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", upstream)).await?;
                client.read_exact(&mut [0; 8]).await?;
                server.write_all(&SSL_REQUEST).await?;
                client.write_u8(server.read_u8().await?).await?;
                let mut client = acceptor.accept(client).await?;
                let mut server = connector.connect("localhost".try_into().unwrap(), server).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

/// Passes everything on, and keeps how each connection began.
struct Between {
    port: u16,
    began: Arc<Mutex<Vec<Vec<u8>>>>,
    _task: JoinSet<()>,
}

impl Between {
    async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let began = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let mut task = JoinSet::new();
        let seen = Arc::clone(&began);
        task.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                passing.spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                    let mut asked = [0; 8];
                    if client.read_exact(&mut asked).await.is_err() {
                        return;
                    }
                    server.write_all(&asked).await.unwrap();
                    let mut start = asked.to_vec();
                    if asked == SSL_REQUEST {
                        let answer = server.read_u8().await.unwrap();
                        client.write_all(&[answer]).await.unwrap();
                        let mut first = [0];
                        if client.read_exact(&mut first).await.is_err() {
                            return;
                        }
                        server.write_all(&first).await.unwrap();
                        start.extend([answer, first[0]]);
                    }
                    seen.lock().unwrap().push(start);
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, began, _task: task }
    }
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

#[tokio::test]
async fn every_connection_of_a_router_is_encrypted() {
    let stage = Stage::set(1).await;
    let mut between = vec![];
    let mut builder = Router::builder();
    for node in stage.cluster.nodes() {
        let proxy = Between::start(proxy::port(&node.url())).await;
        let url = stage.url(node, "secret", "sslmode=verify-full&sslrootcert={}/ca.crt");
        let url = url.replace(&format!(":{}/", proxy::port(&node.url())), &format!(":{}/", proxy.port));
        let config = NodeConfig::new(url).name(node.name());
        builder = if between.is_empty() { builder.primary(config) } else { builder.replica(config) };
        between.push(proxy);
    }
    let router = support::ready(builder).await;
    let replica = stage.cluster.replica(0).name();

    // A write, a read that waits for it, and one that is dropped and so cancelled.
    let write = router.with_write(async |conn| {
        let row = diesel::insert_into(notes::table).values(notes::body.eq("second"));
        row.execute(conn).await
    });
    let (written, token): (usize, _) = write.await.unwrap();
    assert_eq!(written, 1);
    let mut conn = router.read().after(&token).await.unwrap();
    assert_eq!(notes::table.count().get_result::<i64>(&mut conn).await, Ok(2));
    assert_eq!(conn.node(), replica);
    let sleep = diesel::dsl::sql::<diesel::sql_types::Text>("pg_sleep(120)::text");
    let sleeping = diesel::select(sleep).get_result::<String>(&mut conn);
    assert!(tokio::time::timeout(Duration::from_millis(200), sleeping).await.is_err());
    drop(conn);
    until_quiet(stage.cluster.replica(0)).await;

    for proxy in &between {
        let began = proxy.began.lock().unwrap().clone();
        assert!(began.len() >= 2, "{began:?}");
        // The server is asked, says yes, and a TLS handshake begins.
        let encrypted = [&SSL_REQUEST[..], b"S\x16"].concat();
        assert!(began.iter().all(|start| *start == encrypted), "{began:?}");
    }
    assert!(between[1].began.lock().unwrap().len() >= 3, "the monitor, the read, the request to cancel");
}

#[tokio::test]
async fn what_is_renewed_is_taken_up_without_a_restart() {
    let stage = Stage::set(0).await;
    let primary = stage.cluster.primary();
    let url = stage.url(primary, "secret", "sslmode=verify-full&sslrootcert={}/ca.crt");
    let router = support::ready(Router::builder().primary(url)).await;
    let held = router.write().await.unwrap();
    let new = Authority::new("the authority's successor");
    stage.serve(&new.server("localhost")).await;
    let refused = router.write().await.unwrap_err().to_string();
    assert!(refused.contains("none of the authorities"), "{refused}");
    stage.folder.write("ca.crt", &format!("{}{}", stage.ca.pem(), new.pem()));
    let second = router.write().await.unwrap();
    drop((held, second));
    primary
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'secret'")
        .await
        .unwrap();
    until("the monitor is back", || {
        router.status().nodes.iter().all(|node| node.health == HealthState::Healthy)
    })
    .await;
}

#[tokio::test]
async fn what_answers_anything_but_yes_gets_nothing_in_plain_text() {
    for (answer, expected) in [
        (&b"N"[..], "the server has no TLS: switch it on there (`ssl = on`)"),
        (b"E", "answered with byte 0x45, which is no answer"),
        (b"X", "answered with byte 0x58, which is no answer"),
        (b"", "closed the connection when TLS was to begin"),
        // Bytes of somebody in between must not be taken for what came through TLS.
        (b"SR\0\0\0\x08\0\0\0\0", "does not speak PostgreSQL over TLS"),
        (b"S", "closed the connection when TLS was to begin"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let mut server = JoinSet::new();
        let hears = Arc::clone(&heard);
        server.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut asked = vec![0; 8];
                if client.read_exact(&mut asked).await.is_err() {
                    continue;
                }
                client.write_all(answer).await.unwrap();
                client.shutdown().await.unwrap();
                let _ = client.read_to_end(&mut asked).await;
                hears.lock().unwrap().push(asked);
            }
        });
        let told = session(&format!("postgres://app:hunter2@localhost:{port}/chat?sslmode=require"))
            .await
            .unwrap_err();
        assert!(told.contains(expected), "{answer:?}: {told}");
        until("it was heard", || !heard.lock().unwrap().is_empty()).await;
        for heard in heard.lock().unwrap().iter() {
            assert_eq!(heard[..8], SSL_REQUEST);
            assert!(!String::from_utf8_lossy(heard).contains("app"), "{heard:?}");
        }
    }
}

#[tokio::test]
async fn plain_text_where_tls_was_preferred_is_told() {
    let cluster = support::cluster(0).await;
    let limitations = async |parameters: &str| {
        let url = format!("{}?{parameters}", cluster.primary().url());
        let router = support::ready(Router::builder().primary(NodeConfig::new(url).name("node"))).await;
        support::status(&router, "node").limitations
    };
    let plain = |why: &str| vec![Limitation::Unencrypted(why.into())];
    assert_eq!(limitations("sslmode=disable").await, []);
    assert_eq!(limitations("sslmode=prefer").await, plain("the server has no TLS"));
    assert_eq!(limitations("").await, plain("the server has no TLS"));
    assert_eq!(limitations("sslmode=allow").await, plain("`sslmode=allow` asks for no more"));
    // Neither is why a role is refused.
    for mode in ["disable", "allow", "prefer"] {
        let url = cluster.primary().url().replace("//postgres@", "//nobody@");
        let told = session(&format!("{url}?sslmode={mode}")).await.unwrap_err();
        assert!(told.contains("role \"nobody\" does not exist"), "{mode}: {told}");
    }
    let stage = Stage::set(0).await;
    let router =
        support::ready(Router::builder().primary(stage.url(stage.cluster.primary(), "postgres", ""))).await;
    assert_eq!(router.status().nodes[0].limitations, []);
}
