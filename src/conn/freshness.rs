//! How fresh what a handle reads is, as a type.

/// As fresh as any healthy replica: within the [lag threshold](crate::RouterBuilder::lag_threshold), but what was committed a moment
/// ago may be missing.
#[derive(Debug)]
pub enum Eventual {}

/// At least as fresh as a [`CausalToken`](crate::CausalToken): what that commit wrote is there, and all that was committed before it.
#[derive(Debug)]
pub enum Causal {}

/// As fresh as can be: on the primary.
#[derive(Debug)]
pub enum Latest {}

/// How fresh a handle is: [`Eventual`], [`Causal`] or [`Latest`].
///
/// It cannot be implemented outside of this crate.
pub trait Freshness: sealed::Sealed + Send + Sync + 'static {
    /// See [`Reader`](super::Reader).
    type Reader: super::Readable + ?Sized;
}

/// Freshness that is enough where `F` is asked for.
///
/// A bound for generic code: `async fn recent<G: AtLeast<Causal>>(conn: &mut ReadConn<G>)`.
#[diagnostic::on_unimplemented(
    message = "this connection is `{Self}`, but data that is `{F}` is needed here",
    label = "may be too stale",
    note = "ask the router: `router.read().after(&token)` is `Causal`, `router.read().latest()` is `Latest`"
)]
pub trait AtLeast<F>: Freshness {}

impl Freshness for Eventual {
    type Reader = dyn super::Readable;
}

impl Freshness for Causal {
    type Reader = dyn super::ReadableCausal;
}

impl Freshness for Latest {
    type Reader = dyn super::ReadableLatest;
}

// For generic code these say of every `F`: what is `Latest` is `Causal`, and all is `Eventual`. None is recommended by
// the compiler: the message has said already what there is to ask for.
#[diagnostic::do_not_recommend]
impl<F: Freshness> AtLeast<Eventual> for F {}

#[diagnostic::do_not_recommend]
impl AtLeast<Self> for Causal {}

#[diagnostic::do_not_recommend]
impl<F: AtLeast<Latest>> AtLeast<Causal> for F {}

#[diagnostic::do_not_recommend]
impl AtLeast<Self> for Latest {}

mod sealed {
    #[diagnostic::on_unimplemented(
        message = "`Freshness` cannot be implemented: it is `Eventual`, `Causal` or `Latest`",
        label = "is none of these"
    )]
    #[expect(unnameable_types, reason = "that nobody else can name it is its purpose")]
    pub trait Sealed {
        /// For those who look on.
        const NAME: &'static str;
    }

    #[diagnostic::do_not_recommend]
    impl Sealed for super::Eventual {
        const NAME: &'static str = "eventual";
    }
    #[diagnostic::do_not_recommend]
    impl Sealed for super::Causal {
        const NAME: &'static str = "causal";
    }
    #[diagnostic::do_not_recommend]
    impl Sealed for super::Latest {
        const NAME: &'static str = "latest";
    }
}
