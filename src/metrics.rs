//! What is measured, through the `metrics` facade: an app that installs a recorder gets it, any
//! other pays next to nothing. `docs/METRICS.md` says what each means; a test compares that page
//! with what two devices record.
//!
//! Labels hold close codes and the beginnings of transport keys, which are public: no names, no
//! content, no secrets.

use std::time::Instant;

use larder_engine::{Tally, VoidCause};
use larder_types::{CloseCode, TransportId};
use metrics::{counter, gauge, histogram};

use crate::SpaceReport;

/// A transaction of units that were waiting together, from its begin until it is durable.
pub(crate) fn committed(begun: Instant, units: usize) {
    counter!("larder_commits_total").increment(1);
    counter!("larder_commit_units_total").increment(units as u64);
    histogram!("larder_commit_seconds").record(begun.elapsed());
    counter!("larder_fsyncs_total").absolute(larder_engine::syncs());
}

/// Jobs that wait for a space's writer.
pub(crate) fn waiting(jobs: usize) {
    gauge!("larder_write_queue_jobs").set(f64::from(u32::try_from(jobs).unwrap_or(u32::MAX)));
}

/// A place in the writer's queue was waited for.
pub(crate) fn placed(begun: Instant) {
    histogram!("larder_write_wait_seconds").record(begun.elapsed());
}

/// Something of a peer's was verified and stored, or its request answered by the writer.
pub(crate) fn applied(begun: Instant) {
    histogram!("larder_apply_seconds").record(begun.elapsed());
}

/// Documents were indexed in one transaction.
pub(crate) fn indexed(begun: Instant, left: u64) {
    histogram!("larder_index_seconds").record(begun.elapsed());
    gauge!("larder_unindexed_documents").set(f64::from(u32::try_from(left).unwrap_or(u32::MAX)));
}

/// What a space's writer counted since the last time.
pub(crate) fn counted(since: &Tally) {
    counter!("larder_cache_hits_total").increment(since.cache_hits);
    counter!("larder_cache_misses_total").increment(since.cache_misses);
    counter!("larder_merges_total").increment(since.merges);
    for (cause, reason) in [
        (VoidCause::Seal, "seal"),
        (VoidCause::Act, "act"),
        (VoidCause::Role, "role"),
        (VoidCause::Band, "band"),
        (VoidCause::Form, "form"),
        (VoidCause::Twice, "twice"),
        (VoidCause::Change, "change"),
    ] {
        let count = since.void.get(&cause).copied().unwrap_or(0);
        counter!("larder_void_sections_total", "reason" => reason).increment(count);
    }
}

/// A read of a space, counted while it runs; its time includes the wait for a connection.
pub(crate) struct Reading(Instant);

impl Reading {
    pub(crate) fn begin() -> Self {
        gauge!("larder_reads_running").increment(1.0);
        Self(Instant::now())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        gauge!("larder_reads_running").decrement(1.0);
        histogram!("larder_read_seconds").record(self.0.elapsed());
    }
}

/// A connection for sync, counted while it is up.
pub(crate) struct Connected;

impl Connected {
    pub(crate) fn begin() -> Self {
        gauge!("larder_connections").increment(1.0);
        Self
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        gauge!("larder_connections").decrement(1.0);
    }
}

/// A session had brought both sides to the same for the first time.
pub(crate) fn caught_up(begun: tokio::time::Instant) {
    histogram!("larder_catch_up_seconds").record(begun.elapsed());
}

/// A session ended, and why: `done`, or what was wrong with a frame, a batch or a limit.
pub(crate) fn session_closed(code: CloseCode, peer: &TransportId, report: &SpaceReport) {
    session_ended(&end(code), peer, report);
}

/// A peer may say any number: those that have no name share one.
fn end(code: CloseCode) -> String {
    match code {
        CloseCode::Unknown(_) => "Unknown".to_owned(),
        code => format!("{code:?}"),
    }
}

/// The same with a name of this side's own.
pub(crate) fn session_ended(why: &str, peer: &TransportId, report: &SpaceReport) {
    counter!("larder_sessions_total", "end" => why.to_owned()).increment(1);
    let peer = self::peer(peer);
    for (name, count) in [
        ("larder_entries_received_total", report.entries_in),
        ("larder_entries_sent_total", report.entries_out),
        ("larder_bytes_received_total", report.bytes_in),
        ("larder_bytes_sent_total", report.bytes_out),
    ] {
        counter!(name, "peer" => peer.clone()).increment(count);
    }
}

/// Enough of a device's public key to tell it from others.
pub(crate) fn peer(key: &TransportId) -> String {
    key.to_string().chars().take(PEER_CHARS).collect()
}

/// A profile or a space was opened, recovery after a crash included.
pub(crate) fn opened(what: &'static str, begun: Instant) {
    histogram!("larder_open_seconds", "what" => what).record(begun.elapsed());
}

/// What all spaces hold, whenever somebody asks for the status.
pub(crate) fn holds(spaces: &[larder_engine::SpaceStatus]) {
    let sum = |of: fn(&larder_engine::SpaceStatus) -> u64| {
        let sum: u64 = spaces.iter().map(of).sum();
        f64::from(u32::try_from(sum / UNIT).unwrap_or(u32::MAX)) * UNIT_F64
            + f64::from(u32::try_from(sum % UNIT).unwrap_or(0))
    };
    gauge!("larder_documents").set(sum(|space| space.documents));
    gauge!("larder_entries").set(sum(|space| space.entries));
    gauge!("larder_lacking_entries").set(sum(|space| space.lacking));
    gauge!("larder_file_bytes").set(sum(|space| space.file_bytes));
    gauge!("larder_words_bytes").set(sum(|space| space.words_bytes));
    gauge!("larder_vectors_bytes").set(sum(|space| space.vectors_bytes));
}

const PEER_CHARS: usize = 16;
/// Counts are turned into `f64` in two parts, which fit exactly.
const UNIT: u64 = 1 << 20;
const UNIT_F64: f64 = 1_048_576.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// A member ends one session after another, each with another number: whoever keeps what is
    /// measured keeps one line for all of them, not 65,000.
    #[test]
    fn codes_without_a_name_share_a_label() {
        let ends: std::collections::BTreeSet<_> =
            (0..=u16::MAX).map(|code| end(CloseCode::from_wire(code))).collect();
        assert!(ends.len() < 100 && ends.contains("Done") && ends.contains("Unknown"), "{ends:?}");
    }
}
