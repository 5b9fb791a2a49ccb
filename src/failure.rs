//! Whose fault a failed call is.

use diesel::result::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Node,
    RecoveryConflict,
    StalePlan,
    ReadOnly,
    Caller,
}

impl Cause {
    pub(crate) fn of(_: &Error) -> Self {
        Self::Caller
    }
}
