//! What functions that only read take.

use diesel_async::AsyncPgConnection;

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
pub type Reader = dyn Readable;

/// A connection that can be read from. Take it as a [`Reader`].
///
/// It cannot be implemented outside of this crate.
pub trait Readable: Send + Sync + 'static {
    #[doc(hidden)]
    fn __pg(&self, _: Token) -> &AsyncPgConnection;

    #[doc(hidden)]
    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection;
}

impl Readable for ReadConn {
    fn __pg(&self, _: Token) -> &AsyncPgConnection {
        self.raw()
    }

    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection {
        self.raw_mut()
    }
}

impl Readable for WriteConn {
    fn __pg(&self, _: Token) -> &AsyncPgConnection {
        self
    }

    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection {
        self
    }
}

impl Readable for AsyncPgConnection {
    fn __pg(&self, _: Token) -> &AsyncPgConnection {
        self
    }

    fn __pg_mut(&mut self, _: Token) -> &mut AsyncPgConnection {
        self
    }
}

impl Reader {
    /// A handle for several reads at a time on this one connection.
    pub fn pipeline(&self) -> Pipeline<'_> {
        Pipeline::from(self)
    }
}

impl Target for Reader {
    type Mode = ReadOnly;
    type Raw = AsyncPgConnection;

    fn __raw(&mut self, token: Token) -> &mut AsyncPgConnection {
        self.__pg_mut(token)
    }
}

impl Target for &mut Reader {
    type Mode = ReadOnly;
    type Raw = AsyncPgConnection;

    fn __raw(&mut self, token: Token) -> &mut AsyncPgConnection {
        self.__pg_mut(token)
    }
}
