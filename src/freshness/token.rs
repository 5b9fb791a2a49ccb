//! stub
use crate::lsn::Lsn;

/// stub
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CausalToken {
    system: u64,
    timeline: u32,
    lsn: Lsn,
}

impl CausalToken {
    pub(crate) const fn new(system: Option<u64>, timeline: Option<u32>, lsn: Option<Lsn>) -> Self {
        let system = match system {
            Some(s) => s,
            None => 0,
        };
        let timeline = match timeline {
            Some(s) => s,
            None => 0,
        };
        let lsn = match lsn {
            Some(s) => s,
            None => Lsn::new(u64::MAX),
        };
        Self { system, timeline, lsn }
    }
    /// stub
    pub fn system(&self) -> Option<u64> {
        (self.system != 0).then_some(self.system)
    }
    /// stub
    pub fn timeline(&self) -> Option<u32> {
        (self.timeline != 0).then_some(self.timeline)
    }
    /// stub
    pub fn lsn(&self) -> Option<Lsn> {
        (self.lsn.get() != u64::MAX).then_some(self.lsn)
    }
    /// stub
    pub fn merge(self, other: Self) -> Result<Self, ()> {
        if self.system != other.system {
            return Err(());
        }
        Ok(if (self.timeline, self.lsn) < (other.timeline, other.lsn) { other } else { self })
    }
}
