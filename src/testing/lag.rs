//! Reads of what there was when replay was paused.
//!
//! A cursor shows the state in which it was opened, to the command: also of what its own transaction has written since. The cursor
//! that pausing opens calls a function at each row, which opens another cursor, for the query to run; and as the function is
//! `STABLE`, that cursor sees what the first one sees.
//!
//! Source: PostgreSQL documentation, "Function Volatility Categories" and "Cursors".

use super::backend::{Backend, Failure};
use super::frame::{Frame, Reader, text};
use super::sql;

/// Run once, outside of all savepoints.
pub(super) const PREPARE: &str =
    "CREATE FUNCTION pg_temp.diesel_replicas_open() RETURNS text STABLE LANGUAGE plpgsql AS $$
    DECLARE
        rows refcursor := 'diesel_replicas_rows';
        parameters text[] := pg_catalog.current_setting('diesel_replicas.parameters')::text[];
    BEGIN
        OPEN rows FOR EXECUTE pg_catalog.current_setting('diesel_replicas.query') USING parameters;
        RETURN '';
    EXCEPTION WHEN OTHERS THEN
        RETURN SQLSTATE || ' ' || SQLERRM;
    END $$";

/// The rows are made one by one: in the place of a table, a function would be run to its end first.
pub(super) const PAUSE: &str = "DECLARE diesel_replicas_paused NO SCROLL CURSOR FOR \
     SELECT pg_temp.diesel_replicas_open() FROM (SELECT pg_catalog.generate_series(1, 1000000000)) AS rows";

pub(super) const RESUME: &str = "CLOSE diesel_replicas_paused";

/// Whether this is a query that a cursor can be opened for.
pub(super) fn reads(sql: &str) -> bool {
    let first = sql::first_word(sql);
    ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| word.eq_ignore_ascii_case(first))
}

/// The values that a `Bind` gives to a prepared statement.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    portal: &'a str,
    pub(super) statement: &'a str,
    /// Formats and values of the parameters.
    parameters: &'a [u8],
    /// How the client wants its columns.
    results: &'a [u8],
}

impl<'a> Bound<'a> {
    pub(super) fn read(bind: &'a Frame) -> Option<Self> {
        let mut reader = bind.reader();
        let (portal, statement) = (reader.text()?, reader.text()?);
        let all = reader.rest();
        let formats = reader.u16()?;
        reader.bytes(2 * usize::from(formats))?;
        for _ in 0..reader.u16()? {
            match reader.u32()? {
                u32::MAX => {}
                length => drop(reader.bytes(length as usize)?),
            }
        }
        let results = reader.rest();
        Some(Self { portal, statement, parameters: &all[..all.len() - results.len()], results })
    }
}

/// Opens the query that the statement is, in the state of the pause, and gives what to send in the place of `Bind`.
pub(super) async fn open(
    backend: &mut Backend,
    query: &str,
    bound: &Bound<'_>,
) -> Result<Vec<Frame>, Failure> {
    let described = backend.exchange(&[Frame::describe_statement(bound.statement), Frame::sync()]).await?;
    let types = described.iter().find(|frame| frame.kind == b't').map(types).unwrap_or_default();
    set_parameters(backend, &types, bound).await?;
    let names = names(backend, &types).await?;
    let query = sql::replace_parameters(query, |n| {
        let name = names.get(n.checked_sub(1)?)?;
        Some(format!("(($1)[{n}])::{name}"))
    });
    let open = format!(
        "SELECT pg_catalog.set_config('diesel_replicas.query', {}, true); FETCH 1 FROM diesel_replicas_paused",
        literal(&query)
    );
    let answers = backend.batch(&open).await?;
    if let Some(Some(refusal)) = answers.last()
        && let Some((code, message)) = refusal.split_once(' ')
    {
        let refusal = match code {
            // A cursor is not opened for a query that locks or writes; a replica has this code for it.
            "0A000" => Frame::error(
                "25006",
                &format!("cannot execute the query in a read-only transaction: {message}"),
            ),
            _ => Frame::error(code, message),
        };
        return Err(Failure::Refused(refusal));
    }
    let fetch = Frame::parse("FETCH ALL FROM diesel_replicas_rows", &[]);
    // No parameters.
    let bind = [text(bound.portal), text(""), vec![0; 4], bound.results.to_vec()].concat();
    Ok(vec![fetch, Frame::new(b'B', bind)])
}

/// What closes the cursor of [`open`].
pub(super) const CLOSE: &str = "CLOSE diesel_replicas_rows";

/// What a query says when it has ended, where the cursor said it.
pub(super) fn as_query(complete: Frame) -> Frame {
    let rows = complete.reader().text().and_then(|tag| tag.strip_prefix("FETCH ")).map(str::to_owned);
    rows.map_or(complete, |rows| Frame::complete(&format!("SELECT {rows}")))
}

/// Keeps the values as an array of texts, as the server itself writes them.
async fn set_parameters(backend: &mut Backend, types: &[u32], bound: &Bound<'_>) -> Result<(), Failure> {
    if types.is_empty() {
        return backend.batch("SET LOCAL diesel_replicas.parameters TO '{}'").await.map(drop);
    }
    let values: Vec<String> = (1..=types.len()).map(|n| format!("(${n})::text")).collect();
    let keep = format!(
        "SELECT pg_catalog.set_config('diesel_replicas.parameters', (ARRAY[{}])::text, true)",
        values.join(", ")
    );
    // Results as text.
    let bind = [text(""), text(""), bound.parameters.to_vec(), vec![0; 2]].concat();
    let frames = [Frame::parse(&keep, types), Frame::new(b'B', bind), Frame::execute(), Frame::sync()];
    backend.exchange(&frames).await.map(drop)
}

/// The types' names, as they are written behind `::`.
async fn names(backend: &mut Backend, types: &[u32]) -> Result<Vec<String>, Failure> {
    if types.is_empty() {
        return Ok(Vec::new());
    }
    // Without a modifier `-1` some names would stand for a length of 1.
    let names = format!(
        "SELECT pg_catalog.format_type(type, -1) FROM pg_catalog.unnest(ARRAY{types:?}::oid[]) WITH ORDINALITY AS t (type, n) ORDER BY n"
    );
    Ok(backend.batch(&names).await?.into_iter().map(Option::unwrap_or_default).collect())
}

fn types(description: &Frame) -> Vec<u32> {
    let mut reader: Reader<'_> = description.reader();
    let count = reader.u16().unwrap_or(0);
    (0..count).filter_map(|_| reader.u32()).collect()
}

fn literal(text: &str) -> String {
    let quoted = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{quoted}'")
}
