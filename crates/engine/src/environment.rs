use larder_types::{Entropy, Timestamp};

/// What a device takes from the world around it. The façade hands in the real one; a simulation
/// hands in a seeded one and so replays a run.
pub trait Environment: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// A source of unpredictable bytes, fit for keys.
    fn entropy(&self) -> Box<dyn Entropy>;

    /// The SQLite VFS below the encrypting one; `None` is the operating system's.
    fn lower_vfs(&self) -> Option<&str> {
        None
    }
}
