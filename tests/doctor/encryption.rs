//! Connections, encrypted or not.

use crate::support::{self, doctor, listing, says, until_async, url};
use pg_cluster::Node;
use std::path::PathBuf;

/// The node's URL with these parameters, by the name that its certificate has.
fn with(node: &Node, parameters: &str) -> String {
    format!("{}&{parameters}", url(node, "app").replace("@127.0.0.1:", "@localhost:"))
}

/// The server has a certificate of its own making from now on; the file is removed with what is returned.
async fn encrypt(node: &Node) -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = std::env::temp_dir().join(format!("diesel-replicas-doctor-{}.crt", std::process::id()));
    std::fs::write(&file, made.cert.pem()).unwrap();
    for (name, text) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
        // As the server's user.
        let text = text.replace('\r', "").replace('\n', "\\n");
        let sql = format!(
            "COPY (SELECT unnest(string_to_array(E'{text}', E'\\n'))) TO PROGRAM 'umask 077; cat > {name}'"
        );
        node.sql(&sql).await.unwrap();
    }
    node.sql("ALTER SYSTEM SET ssl = on").await.unwrap();
    node.sql("SELECT pg_reload_conf()").await.unwrap();
    until_async("the server has TLS", async || node.sql("SHOW ssl").await.unwrap().as_deref() == Some("on"))
        .await;
    Certificate(file)
}

struct Certificate(PathBuf);

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn what_is_asked_for_and_what_is_there_are_told() {
    let cluster = support::cluster(0).await;
    let primary = cluster.primary();
    let told = doctor(listing(with(primary, "sslmode=require"), [])).await;
    assert_eq!((told.status, told.bad()[0].as_str()), (2, "problem reachable primary"));
    assert!(says(told.only("reachable"), "found", "the server has no TLS"), "{:#}", told.json);

    let certificate = encrypt(primary).await;
    let told = doctor(listing(with(primary, "sslmode=require"), [])).await;
    assert_eq!((told.status, &told.node("primary")["encrypted"]), (0, &true.into()));
    assert!(says(told.only("encryption"), "found", "nobody looks at the server's certificate"));

    let verified = format!("sslmode=verify-full&sslrootcert={}", certificate.0.display());
    let told = doctor(listing(with(primary, &verified), [])).await;
    assert_eq!((told.status, &told.node("primary")["encrypted"]), (0, &true.into()));
    let encryption = told.findings().iter().find(|finding| finding["check"] == "encryption").unwrap();
    assert_eq!(encryption["severity"], "ok");

    let told = doctor(listing(with(primary, "sslmode=disable"), [])).await;
    assert!(says(told.only("encryption"), "found", "`sslmode=disable` asks"));
}
