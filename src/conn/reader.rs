//! What functions that only read take.

use diesel_async::AsyncPgConnection;

use super::freshness::{AtLeast, Causal, Eventual, Freshness, Latest};
use super::pipeline::Pipeline;
use super::read::ReadConn;
use super::write::WriteConn;
use crate::query::{ReadOnly, Target, Token};

/// Anything that can be read from: `&mut ReadConn`, `&mut WriteConn` and `&mut AsyncPgConnection` coerce to
/// `&mut Reader`.
///
/// ```no_run
/// use diesel::prelude::*;
/// use diesel_async::AsyncPgConnection;
/// use diesel_replicas::{ReadConn, Reader, RunQueryDsl, WriteConn};
/// # diesel::table! { rooms (id) { id -> BigInt, name -> Text, } }
///
/// async fn room_names(conn: &mut Reader) -> QueryResult<Vec<String>> {
///     rooms::table.select(rooms::name).order(rooms::id).load(conn).await
/// }
///
/// # async fn example(mut read: ReadConn, mut write: WriteConn, mut plain: AsyncPgConnection) -> QueryResult<()> {
/// room_names(&mut read).await?;
/// room_names(&mut write).await?;
/// room_names(&mut plain).await?;
/// # Ok(()) }
/// ```
///
/// Only reads compile on it, whatever stands behind it.
///
/// `F` says how fresh the data has to be at least: a [`ReadConn<Latest>`](ReadConn) and a [`WriteConn`] go where a `Reader<Causal>` is
/// asked for, and so does a `&mut Reader<Latest>`; a `ReadConn` that may be staler does not compile there.
///
/// ```no_run
/// # use diesel::prelude::*;
/// use diesel_replicas::{Causal, CausalToken, Reader, Router, RunQueryDsl};
/// # diesel::table! { rooms (id) { id -> BigInt, name -> Text, } }
///
/// /// Must see what its caller has just written.
/// async fn my_rooms(conn: &mut Reader<Causal>) -> QueryResult<Vec<String>> {
///     rooms::table.select(rooms::name).load(conn).await
/// }
///
/// # async fn example(router: Router, token: CausalToken) -> Result<(), Box<dyn std::error::Error>> {
/// my_rooms(&mut router.read().after(&token).await?).await?;
/// my_rooms(&mut router.read().latest().await?).await?;
/// my_rooms(&mut router.write().await?).await?;
/// # Ok(()) }
/// ```
pub type Reader<F = Eventual> = <F as Freshness>::Reader;

/// A connection that can be read from. Take it as a [`Reader`].
///
/// It cannot be implemented outside of this crate.
pub trait Readable: Send + Sync + 'static {
    #[doc(hidden)]
    fn __pg(&self, _: Token) -> &AsyncPgConnection;

    #[doc(hidden)]
    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection;
}

/// A connection that is [`Causal`] at least: asked for [after](crate::ReadRequest::after) a token, or
/// [`Latest`](ReadableLatest). Take it as a [`Reader<Causal>`](Reader).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be fresh enough for a `Reader<Causal>`",
    label = "may be too stale",
    note = "ask the router for one: `router.read().after(&token).await?`"
)]
pub trait ReadableCausal: Readable {}

/// A connection that is [`Latest`]: [asked for](crate::ReadRequest::latest) as such, or one to write with. Take it as a
/// [`Reader<Latest>`](Reader).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be fresh enough for a `Reader<Latest>`",
    label = "may be too stale",
    note = "ask the router for one: `router.read().latest().await?`"
)]
pub trait ReadableLatest: ReadableCausal {}

impl<F: Freshness> Readable for ReadConn<F> {
    fn __pg(&self, _: Token) -> &AsyncPgConnection {
        self.raw()
    }

    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection {
        self.raw_mut()
    }
}

// None is recommended by the compiler: so it says what the trait has to say, and not what `AtLeast` has, and lists no
// others.
#[diagnostic::do_not_recommend]
impl<F: AtLeast<Causal>> ReadableCausal for ReadConn<F> {}

#[diagnostic::do_not_recommend]
impl<F: AtLeast<Latest>> ReadableLatest for ReadConn<F> {}

impl Readable for WriteConn {
    fn __pg(&self, _: Token) -> &AsyncPgConnection {
        self
    }

    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection {
        self
    }
}

#[diagnostic::do_not_recommend]
impl ReadableCausal for WriteConn {}

#[diagnostic::do_not_recommend]
impl ReadableLatest for WriteConn {}

impl Readable for AsyncPgConnection {
    fn __pg(&self, _: Token) -> &AsyncPgConnection {
        self
    }

    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection {
        self
    }
}

// Where it leads to, its owner knows. In a transaction on a `WriteConn` it is all that there is.
#[diagnostic::do_not_recommend]
impl ReadableCausal for AsyncPgConnection {}

#[diagnostic::do_not_recommend]
impl ReadableLatest for AsyncPgConnection {}

macro_rules! readers {
    ($($reader:ty => $freshness:ty;)+) => {$(
        impl $reader {
            /// A handle for several reads at a time on this one connection.
            pub fn pipeline(&self) -> Pipeline<'_, $freshness> {
                Pipeline::from(self)
            }
        }

        impl Target for $reader {
            type Mode = ReadOnly;
            type Raw = AsyncPgConnection;

            fn __raw(&mut self, token: Token) -> &mut AsyncPgConnection {
                self.__pg_mut(token)
            }
        }

        impl Target for &mut $reader {
            type Mode = ReadOnly;
            type Raw = AsyncPgConnection;

            fn __raw(&mut self, token: Token) -> &mut AsyncPgConnection {
                self.__pg_mut(token)
            }
        }
    )+};
}

readers! {
    dyn Readable => Eventual;
    dyn ReadableCausal => Causal;
    dyn ReadableLatest => Latest;
}
