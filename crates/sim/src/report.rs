//! What a run did: how often each fault, each act of an app and each checker fired.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Counts by name, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    counts: BTreeMap<Cow<'static, str>, u64>,
}

impl Report {
    pub(crate) fn count(&mut self, what: impl Into<Cow<'static, str>>) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: impl Into<Cow<'static, str>>, times: u64) {
        *self.counts.entry(what.into()).or_default() += times;
    }

    /// How often this happened.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// What should have happened in some hundreds of runs, and did not: nothing is known of that.
    pub fn missing(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|what| self.of(what) == 0).collect()
    }

    /// Adds another run's counts.
    pub fn merge(&mut self, other: &Self) {
        for (what, times) in &other.counts {
            self.add(what.clone(), *times);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut topic = "";
        for (what, times) in &self.counts {
            let (of, name) = what.split_once(": ").unwrap_or(("", what));
            if of != topic {
                topic = of;
                writeln!(f, "{topic}")?;
            }
            writeln!(f, "  {times:>9}  {name}")?;
        }
        Ok(())
    }
}

/// What must happen in some hundreds of runs: a fault that never happens tests nothing, nor does a
/// checker that never fires.
const EXPECTED: &[&str] = &[
    "fault: cuts",
    "fault: cuts within a frame",
    "fault: partitions",
    "fault: one-way partitions",
    "fault: power failures",
    "fault: kills",
    "fault: restarts",
    "fault: suspensions",
    "fault: power failures while suspended",
    "fault: full disks",
    "fault: clocks set",
    "fault: days that pass",
    "fault: nights",
    "fault: rots",
    "fault: rots of a WAL",
    "fault: devices restored from an old copy",
    "fault: profiles copied",
    "fault: newcomers",
    "fault: devices shut out",
    "fault: clearances lowered",
    "fault: clearances raised",
    "fault: frames repeated",
    "fault: frames reordered",
    "fault: frames changed",
    "fault: frames cut short",
    "fault: frames dropped",
    "fault: frames of other sessions",
    "fault: frames of blobs changed, repeated, dropped or reordered",
    "app: black documents",
    "app: black spaces made",
    "app: messages said",
    "app: units committed",
    "app: units repeated",
    "app: deletions",
    "app: documents erased",
    "app: disks seen to after secrets went",
    "app: documents put into the trash",
    "app: documents redacted",
    "app: documents taken out of the trash",
    "app: erasures finished",
    "app: keys renewed",
    "app: prunings that nobody asked for",
    "app: devices set aside",
    "app: sections pruned",
    "app: snapshots stated",
    "app: steps of prunings",
    "blobs: added",
    "blobs: asked for by hand",
    "blobs: chunks collected",
    "blobs: chunks not there",
    "blobs: chunks stored",
    "blobs: chunks there by now",
    "blobs: streams refused for a chunk",
    "check: acknowledgements beside what is missing",
    "check: acknowledgements kept",
    "check: acknowledgements taken in",
    "check: agreements",
    "check: black documents",
    "check: black spaces that tell nothing",
    "check: blobs left alone",
    "check: blobs read",
    "check: blobs that are not whole",
    "check: clocks",
    "check: closed handles",
    "check: contents compared",
    "check: contents compared up to a clearance",
    "check: devices that have pruned",
    "check: deps of entries taken in",
    "check: documents",
    "check: devices without what is BLACK elsewhere",
    "check: documents in the trash",
    "check: auditors that are robbed",
    "check: entries above a clearance",
    "check: entries of auditors",
    "check: entries of what was erased",
    "check: entries under checkpoints",
    "check: erasures heard of",
    "check: forks known to both",
    "check: forks proven",
    "check: frames that name devices of the household",
    "check: late edits adopted",
    "check: memory of blob streams",
    "check: memory of sessions",
    "check: memory of what the villain told",
    "check: messages heard",
    "check: late documents of the villain",
    "check: puppets",
    "check: receipts after a start",
    "check: receipts of auditors",
    "check: receipts kept",
    "check: tombstones",
    "check: rosters compared",
    "check: one epoch after days",
    "check: sections that a thief does not open",
    "check: sections that a thief does not open after days",
    "check: sections that a thief opens",
    "check: sections that a thief opens before days pass",
    "check: sections that who was shut out does not open",
    "check: sections that who was shut out opens, of before",
    "check: the villain's log",
    "check: the villain heard out",
    "check: what went is known to all",
    "check: whole devices",
    "check: words left in",
    "check: words taken out",
    "session: later pieces of documents",
    "villain: acts in DATA sections",
    "villain: another chunk",
    "villain: batches without a signature",
    "villain: bytes withheld",
    "villain: changes with another's actor",
    "villain: chunks asked for and not read",
    "villain: chunks sent",
    "villain: chunks that nobody asked for",
    "villain: entries in another's name",
    "villain: entries reordered",
    "villain: false acknowledgements",
    "villain: false supplies",
    "villain: decompression bombs",
    "villain: forged checkpoints",
    "villain: forks",
    "villain: frames too large",
    "villain: garbage",
    "villain: messages without end",
    "villain: no chunk at all",
    "villain: old checkpoints",
    "villain: other bytes for a chunk",
    "villain: other bytes than committed to",
    "villain: other content than committed to",
    "villain: pathological changes",
    "villain: puppets let in",
    "villain: entries of who was shut out",
    "villain: questions without reading answers",
    "villain: sections opened otherwise than sealed",
    "villain: sections sealed for who cannot open them",
    "villain: sections that do not open",
    "villain: too many chunks at once",
];
