//! Connection pools.

mod connect;

pub use connect::{Endpoint, EndpointError};

use diesel_async::AsyncPgConnection;
use std::ops::{Deref, DerefMut};

/// A checked-out connection.
#[derive(Debug)]
pub(crate) struct Lease(std::marker::PhantomData<AsyncPgConnection>);

impl Lease {
    /// The name of the node that this connection leads to.
    pub(crate) fn node(&self) -> &str {
        todo!()
    }
}

impl Deref for Lease {
    type Target = AsyncPgConnection;
    fn deref(&self) -> &AsyncPgConnection {
        todo!()
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        todo!()
    }
}
