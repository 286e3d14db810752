use std::sync::Arc;

use larder_pages::{Files, SystemFiles};
use larder_types::{Entropy, Timestamp};

/// What a device takes from the world around it. The façade hands in the real one; a simulation
/// hands in a seeded one and so replays a run.
pub trait Environment: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// A source of unpredictable bytes, fit for keys.
    fn entropy(&self) -> Box<dyn Entropy>;

    /// The disk that profiles are on; the operating system's unless told. It is asked for when a
    /// profile is made or opened.
    fn files(&self) -> Arc<dyn Files> {
        Arc::new(SystemFiles::default())
    }
}
