//! Which handles a query can run on, and which queries each of them permits.

use diesel::query_builder::AsQuery;
use diesel_async::AsyncConnectionCore;

use super::effect::Read;
use super::statement::Statement;

/// Something that queries run on: `ReadConn`, `WriteConn`, `Reader`, `Pipeline` and every connection of diesel-async.
///
/// It cannot be implemented outside of this crate.
pub trait Target: Send {
    /// [`ReadOnly`] or [`ReadWrite`].
    type Mode;

    /// The connection behind the handle.
    type Raw: AsyncConnectionCore;

    /// Lends the connection behind the handle to the verbs of this crate.
    #[doc(hidden)]
    fn __raw(&mut self, _: Token) -> &mut Self::Raw;
}

// Everything that a caller could have written on with diesel-async: `AsyncPgConnection`, `&AsyncPgConnection`, the
// guards of pools, a `WriteConn` through its `DerefMut`. A read handle must never be among them, so it has neither
// `Deref` nor `DerefMut` to a connection: diesel-async makes a connection of everything that has.
#[diagnostic::do_not_recommend]
impl<C: AsyncConnectionCore> Target for C {
    type Mode = ReadWrite;
    type Raw = C;

    fn __raw(&mut self, _: Token) -> &mut C {
        self
    }
}

/// Proof that a call comes from this crate. The type cannot be named outside of it, so neither can
/// [`Target::__raw`] be called there, nor [`Target`] implemented.
#[derive(Debug)]
#[expect(unnameable_types, reason = "that nobody else can name it is its purpose")]
pub struct Token(pub(crate) ());

/// The mode of a handle that runs every statement.
#[derive(Debug)]
pub enum ReadWrite {}

/// The mode of a handle that runs statements that only read.
#[derive(Debug)]
pub enum ReadOnly {}

/// What a mode sees of the query `Q`. A verb compiles if that is an effect [to read](super::effect::IsRead).
///
/// The effect is asked for at the verb, and not here, to keep the types of queries out of the compiler's messages:
/// they fill the screen.
pub trait Permits<Q> {
    /// The effect of the query, or [`Read`] where every statement may run.
    type Effect;
}

#[diagnostic::do_not_recommend]
impl<Q> Permits<Q> for ReadWrite {
    type Effect = Read;
}

impl<Q: AsQuery<Query: Statement>> Permits<Q> for ReadOnly {
    type Effect = <Q::Query as Statement>::Effect;
}
