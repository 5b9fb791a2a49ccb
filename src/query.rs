//! What a statement does to the database, as a type.
//!
//! Every finished query has an [`Effect`](Statement::Effect); a read-only handle accepts those whose effect is to
//! read. The pieces, from the question to the answer:
//!
//! * `statement`: the question, [`Statement`], and the answer for each of Diesel's own query types;
//! * [`effect`]: the possible answers, and the messages for those that a read-only handle refuses;
//! * `target`: which handles are read-only ([`Target`], [`Permits`]);
//! * `raw`: raw SQL, about which types know nothing, and the assertion that it only reads;
//! * `text`: the few commands that not even an assertion lets through;
//! * `run`: the verbs, [`RunQueryDsl`] and [`SaveChangesDsl`].
//!
//! # What the types catch, and what they cannot
//!
//! | on a read-only handle | caught by |
//! |---|---|
//! | `INSERT`, upsert, `INSERT ... SELECT`, `UPDATE`, `DELETE`, with and without `RETURNING`, `save_changes` | the compiler |
//! | `FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE`, `FOR KEY SHARE`, with `SKIP LOCKED` and `NOWAIT` too | the compiler |
//! | raw SQL (`sql_query`, a whole query from `sql`), `batch_execute` | the compiler, unless asserted to only read |
//! | transactions opened by hand, migrations, notifications, anything else that needs the raw connection | the compiler |
//! | asserted text that begins with a session or transaction command, or with maintenance (`VACUUM`, `CLUSTER`, ...) | refused before it is sent |
//! | asserted text that writes; a function in a `SELECT` that writes or locks rows; `nextval` | the server: the session is read-only |
//! | a row lock inside a subquery or one side of a `UNION` | the server: the session is read-only |
//! | advisory locks (`pg_advisory_lock`), `pg_notify`, `set_config`, `pg_terminate_backend`, `dblink` and the like | **nobody** |
//!
//! The last line is what a role with `SELECT` rights alone is for: revoke `EXECUTE` on what should not be called.
//! A session setting changed by `set_config(.., false)` stays with the pooled connection, and
//! `set_config('transaction_read_only', 'off', ..)` opens the server's fence for it.

pub mod effect;
mod raw;
mod run;
mod statement;
mod target;
mod text;

pub use raw::{AssertReadOnly, AssertReadOnlyDsl, RawSql, WithBind};
pub use run::{RunQueryDsl, SaveChangesDsl};
pub use statement::{ReadOnlyQuery, Statement};
pub use target::{Permits, ReadOnly, ReadWrite, Target};

pub(crate) use target::Token;
