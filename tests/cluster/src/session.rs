//! Asking a server something.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::Error;

/// How long one statement may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection for one purpose. Nothing is kept between calls: a cluster is used from many runtimes, one a test.
#[derive(Debug)]
pub(crate) struct Session {
    node: String,
    client: Client,
}

impl Session {
    pub(crate) async fn open(node: &str, host: &str, port: u16) -> Result<Self, Error> {
        let mut config = Config::new();
        config.host(host).port(port).user("postgres").dbname("postgres").application_name("pg-cluster");
        let (client, connection) = answer(node, "connect", config.connect(NoTls)).await?;
        // Ends when the client is dropped; its error reaches the client's calls.
        tokio::spawn(connection);
        Ok(Self { node: node.to_owned(), client })
    }

    /// Runs one or more statements; the first column of the last row, as text.
    pub(crate) async fn ask(&self, statements: &str) -> Result<Option<String>, Error> {
        let messages = answer(&self.node, statements, self.client.simple_query(statements)).await?;
        let last = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(last.and_then(|row| row.try_get(0).ok().flatten()).map(str::to_owned))
    }
}

async fn answer<T>(
    node: &str,
    statement: &str,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Error> {
    match timeout(PATIENCE, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Sql { node: node.to_owned(), statement: statement.to_owned(), source }),
        Err(_) => {
            Err(Error::NoAnswer { node: node.to_owned(), statement: statement.to_owned(), waited: PATIENCE })
        }
    }
}
