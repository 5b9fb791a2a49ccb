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
//! What this catches and what it cannot is told in [`what_the_types_catch`](crate::what_the_types_catch).

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
