//! Every limit, with its name, default and unit, in one table (`docs/FORMAT.md` shows the same).
//!
//! A limit marked as of the format holds on every device alike: a section beyond it is void
//! everywhere. The others bound what one device takes in or keeps, and may differ between devices.

/// One row of the table of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The constant's name in lower case.
    pub name: &'static str,
    /// Its default.
    pub value: u64,
    /// What it counts.
    pub unit: &'static str,
    /// Whether it is a constant of the format, the same on every device.
    pub of_format: bool,
    /// What it bounds.
    pub about: &'static str,
}

macro_rules! limits {
    ($($name:ident: $type:ty = $value:expr, $unit:literal, $of_format:literal, $about:literal;)*) => {
        $(#[doc = concat!($about, " Unit: ", $unit, ".")] pub const $name: $type = $value;)*

        /// All limits, in the order of `docs/FORMAT.md`.
        pub const TABLE: &[Limit] = &[$(Limit {
            name: stringify!($name),
            value: $value as u64,
            unit: $unit,
            of_format: $of_format,
            about: $about,
        }),*];
    };
}

limits! {
    NAME_BYTES_MAX: usize = 128, "bytes", true, "A space's or collection's name.";
    DOCUMENT_JSON_BYTES_MAX: usize = 1 << 20, "bytes", true, "A document's value as JSON.";
    DOCUMENT_DEPTH_MAX: usize = 64, "levels", true, "Nesting of arrays and objects in a document.";
    DOCUMENT_AUTOMERGE_BYTES_MAX: usize = 8 << 20, "bytes", true, "A document's saved Automerge history.";
    CHANGE_BYTES_MAX: usize = 8 << 20, "bytes", true, "One Automerge change, inflated.";
    CHANGE_OPERATIONS_MAX: usize = 100_000, "operations", true, "Operations in one Automerge change.";
    HEADER_BYTES_MAX: usize = 64 << 10, "bytes", true, "An entry's header.";
    DEPS_MAX: usize = 512, "deps", true, "Other logs that one header names.";
    SECTIONS_MAX: usize = 4096, "sections", true, "Sections of one entry.";
    SECTION_BYTES_MAX: usize = 10 << 20, "bytes", true, "One section opened: metadata and body.";
    SECTION_RATIO_MAX: usize = 16, "times", true, "One section opened, over its sealed bytes; a writer pads what compresses further.";
    SECTION_CHUNK_BYTES: usize = 1 << 20, "bytes", true, "Plain bytes under one AEAD tag of a section.";
    ENTRY_BYTES_MAX: usize = 16 << 20, "bytes", true, "All sealed bytes of one entry.";
    ENTRY_OPENED_BYTES_MAX: usize = 64 << 20, "bytes", true, "All bodies of one entry's DATA sections, opened; those past it are void.";
    STEP_MAX: u32 = 256, "steps", true, "An epoch's step.";
    STEP_ENTRIES: u32 = 256, "entries", false, "Entries of a device after which it goes on to the next step of the epoch.";
    STEP_MS_MAX: u64 = 86_400_000, "milliseconds", false, "How long a device that writes stays at a step.";
    EPOCH_STEPS: u32 = 64, "steps", false, "Steps after which a writer opens a new epoch.";
    STEPS_NOTED_MAX: usize = 8, "steps", false, "Steps of an epoch of which an entry is noted, to see when they can be forgotten.";
    CLOCK_MS_MAX: u64 = 253_402_300_799_999, "milliseconds", true, "A section's clock: the last millisecond of the year 9999.";
    ACT_PARENTS_MAX: usize = 64, "acts", true, "Acts of membership that one names as known.";
    ACTS_DEVICE_MAX: u64 = 512, "acts", true, "Acts of membership in one device's log; those past it are void.";
    ACTS_DEVICE_KEPT: u64 = 64, "acts", false, "The last of those, kept for shutting devices out and for letting in owners.";
    ERASE_SECTIONS_MAX: usize = 704, "sections", true, "Sections that one act of erasure lists.";
    ERASED_ACTS_MAX: usize = 4096, "acts", true, "Acts of erasure that one device reports at once.";
    REDACTED_PATHS_MAX: usize = 1024, "paths", true, "Parts that were taken out of a document, over all its redactions.";
    REDACTED_PATHS_ASKED_MAX: usize = 256, "paths", false, "The same as far as somebody asks for them; the rest is for what others took out meanwhile.";
    REDACTED_OBJECTS_MAX: usize = 64, "objects", true, "Objects that a redacted document says it stands for.";
    ADOPTED_SECTIONS_MAX: usize = 2048, "sections", true, "Sections that one act of adoption takes over.";
    ACT_BYTES_MAX: usize = 1 << 20, "bytes", true, "One membership or epoch act.";
    TRANSACTION_BYTES_TARGET: usize = 1 << 20, "bytes", false, "Sealed bytes after which a group of units is committed; one larger unit goes alone.";
    TRANSACTION_UNITS_MAX: usize = 256, "units", false, "Units committed in one transaction.";
    WRITE_QUEUE_MAX: usize = 256, "units", false, "Units waiting for a space's writer.";
    BUSY_RETRIES_MAX: usize = 5, "tries", false, "Tries of a unit that found the database busy.";
    READERS_MAX: usize = 4, "connections", false, "Read connections kept open per space, unless told otherwise.";
    READERS_MIN: usize = 2, "connections", false, "The fewest that can be asked for.";
    READERS_LIMIT: usize = 8, "connections", false, "The most that can be asked for.";
    READER_WAIT_MS: u64 = 30_000, "milliseconds", false, "For how long a read waits for a connection, unless told otherwise.";
    WRITER_CACHE_BYTES: usize = 16 << 20, "bytes", false, "Opened pages kept by a space's writing connection.";
    READER_CACHE_BYTES: usize = 4 << 20, "bytes", false, "Opened pages kept by each reading connection.";
    DOCUMENT_CACHE_BYTES: usize = 32 << 20, "bytes", false, "Loaded Automerge documents kept per space.";
    FRAME_BYTES_MAX: usize = 20 << 20, "bytes", false, "One frame on the wire: the largest entry and what it needs beside it.";
    BATCH_BYTES_TARGET: usize = 1 << 20, "bytes", false, "Sealed bytes after which a batch ends at the next checkpoint.";
    BATCH_BYTES_FIRST: usize = 64 << 10, "bytes", false, "The same for a session's first batch; each further one may be twice as large.";
    BATCH_OPENED_BYTES_MAX: usize = 320 << 20, "bytes", true, "All sections of one batch, opened: `section_ratio_max` times their sealed bytes.";
    BATCH_ENTRIES_MAX: usize = 4096, "entries", true, "Entries under one checkpoint, and so in one batch.";
    LOGS_MAX: usize = 512, "logs", false, "Logs that one frontier names.";
    LOGS_BRANCH_MAX: usize = 64, "logs", false, "Logs of devices that came in by one which the founder let in; beyond them those are taken in that entries of others name.";
    SPACES_PER_CONNECTION_MAX: usize = 64, "spaces", false, "Spaces offered on one connection.";
    BATCHES_IN_FLIGHT_MAX: usize = 3, "batches", false, "Batches received and not yet durable, per session.";
    SESSION_BYTES_MAX: usize = 256 << 20, "bytes", false, "Kept in memory by a session for its peer, whatever that sends or does not read.";
    CONNECTIONS_MAX: usize = 64, "connections", false, "Connections that a listening device keeps open.";
    PAIRING_CONNECTIONS_MAX: usize = 8, "connections", false, "Of those, connections of devices that ask to be let in; one of each key.";
    HANDSHAKE_MS_MAX: u64 = 10_000, "milliseconds", false, "From a connection's first packet to its first frame.";
    IDLE_MS_MAX: u64 = 30_000, "milliseconds", false, "Silence after which a connection is given up.";
    SUPPLY_MS_MAX: u64 = 30_000, "milliseconds", false, "For how long nothing may come of what a peer was asked for, before the session is given up.";
    KEEP_ALIVE_MS: u64 = 10_000, "milliseconds", false, "Between keep-alives on an idle connection.";
    PUSH_COALESCE_MS: u64 = 20, "milliseconds", false, "For how long new entries are gathered before they are pushed.";
    MESSAGE_BYTES_MAX: usize = 16 << 10, "bytes", false, "One message to other devices that is not stored.";
    MESSAGES_PER_SECOND_MAX: u64 = 64, "messages", false, "Such messages to and from one peer in a session; more are dropped.";
    MESSAGES_QUEUED_MAX: usize = 64, "messages", false, "Such messages waiting to be sent in a session; of more the oldest are dropped.";
    INVITATION_MS_MAX: u64 = 10 * 60 * 1000, "milliseconds", false, "An invitation's life.";
    INVITATION_TRIES_MAX: u32 = 3, "tries", false, "Devices answered on one invitation, until one is approved.";
    CLOCK_AHEAD_MS_MAX: u64 = 10 * 60 * 1000, "milliseconds", false, "How far ahead a peer's clock may be before it is flagged and ignored.";
    SECTION_SEALED_BYTES_MAX: usize = 11 << 20, "bytes", true, "One section sealed.";
    PROOF_HASHES_MAX: usize = 64, "hashes", true, "A Merkle proof read from text.";
    NOTE_BYTES_MAX: usize = 64 << 10, "bytes", true, "A signed note read from text.";
    EPOCHS_MAX: usize = 4096, "epochs", false, "Epochs that one frontier names.";
    FORKS_PER_FRAME_MAX: usize = 16, "proofs", false, "Logs with two histories that one frontier tells of.";
    FORK_PROOF_BYTES_MAX: usize = 4096, "bytes", true, "A proof that a log has two histories.";
    FORK_ACTS_BYTES_MAX: usize = 256 << 10, "bytes", false, "Enrolments in such logs that one frontier brings.";
    CLOSE_MESSAGE_BYTES_MAX: usize = 256, "bytes", false, "The text of a close frame.";
    ACKS_PER_FRAME_MAX: usize = 1024, "acknowledgements", false, "Acknowledgements in one frame.";
    ACKS_TRACKED_MAX: usize = 16 << 10, "acknowledgements", false, "Acknowledgements that one session keeps track of.";
    GREETING_BYTES_MAX: usize = 4 << 10, "bytes", false, "A greeting.";
    PAIRING_BYTES_MAX: usize = 8 << 10, "bytes", false, "A pairing message.";
    INVITATION_ADDRESSES_MAX: usize = 8, "addresses", false, "Addresses in one invitation.";
    INVITATION_TEXT_BYTES_MAX: usize = 1024, "bytes", false, "An invitation's text.";
    STREAM_WINDOW_BYTES: u32 = 2 << 20, "bytes", false, "Received and not yet read on one stream.";
    RECEIVE_WINDOW_BYTES: u32 = 8 << 20, "bytes", false, "Received and not yet read on one connection.";
    SEND_WINDOW_BYTES: u64 = 8 << 20, "bytes", false, "Sent and not yet acknowledged on one connection.";
    PEER_ADDRESSES_MAX: usize = 4, "addresses", false, "Addresses remembered of one peer.";
    GATHERED_BYTES_MAX: usize = 16 << 20, "bytes", false, "Bodies of durable entries kept until they are readable, and changes of documents kept until they are written.";
    RETRIES_MAX: usize = 256, "sections", false, "Waiting sections tried again at once.";
    INDEX_BYTES_TARGET: usize = 1 << 20, "bytes", false, "Text after which a transaction that indexes documents ends.";
    INDEX_DOCUMENTS_MAX: usize = 512, "documents", false, "Documents indexed between two transactions of other kinds.";
    INDEX_BACKLOG_MAX: u64 = 16_384, "documents", false, "Documents waiting to be indexed from which on that goes between other work, not only after it.";
    SHOW_IDLE_MS: u64 = 10, "milliseconds", false, "From the last durable batch until what it left is made readable, if the next does not come.";
    INDEX_IDLE_MS: u64 = 50, "milliseconds", false, "From a space's last commit until what it left is indexed, if nothing else asks for it.";
    QUERY_WORDS_MAX: usize = 32, "words", false, "Words of a full-text query that count.";
    VECTOR_DIMENSIONS_MAX: usize = 4096, "dimensions", false, "One embedding.";
    REKEY_AGE_MS: u64 = 31_536_000_000, "milliseconds", false, "Age at which a space's at-rest key is renewed: 365 days.";
    REKEY_STEP_PAGES: u32 = 256, "pages", false, "Pages copied between two transactions while a space's at-rest key is renewed.";
    SHRINK_FREE_BYTES_MIN: u64 = 4 << 20, "bytes", false, "Free room in a space's file below which all of it is kept for new content.";
    SHRINK_FREE_PERCENT: u64 = 25, "percent", false, "Of a space's file, the free part from which on it is given back to the disk.";
    SHRINK_STEP_PAGES: u32 = 256, "pages", false, "Pages moved between two transactions while a space's file gets shorter.";
    SEARCH_RESULTS_MAX: usize = 1000, "results", false, "Results of one search.";
    BLOB_BYTES_MAX: u64 = 17_179_869_184, "bytes", true, "A blob.";
    BLOB_CHUNKS_MAX: usize = 128 << 10, "chunks", true, "Chunks of one blob.";
    BLOB_CHUNK_BYTES_MIN: usize = 128 << 10, "bytes", false, "A chunk as this version cuts it, but for the last one of a blob.";
    BLOB_CHUNK_BYTES_MEAN: usize = 256 << 10, "bytes", false, "A chunk as this version cuts it, on average.";
    BLOB_CHUNK_BYTES_MAX: usize = 1 << 20, "bytes", true, "A chunk of a blob before it is sealed.";
    BLOB_NAME_BYTES_MAX: usize = 255, "bytes", true, "A blob's name.";
    BLOB_MEDIA_TYPE_BYTES_MAX: usize = 128, "bytes", true, "A blob's media type.";
    BLOB_STAGED_BYTES_TARGET: usize = 4 << 20, "bytes", false, "Sealed chunks after which a part of a blob that is being added is written.";
    BLOB_REQUESTS_MAX: usize = 8, "chunks", false, "Chunks asked of one peer and not yet stored here.";
    BLOB_LACKED_MAX: usize = 4096, "chunks", false, "Chunks that a peer asked for in vain and is told of when they come.";
    KEEPS_MAX: usize = 256, "things", false, "Things that are kept until another device has them, asked about at once.";
    BLOB_SESSION_BYTES_MAX: usize = 12 << 20, "bytes", false, "Kept in memory by a stream of blobs for its peer.";
    BLOB_LEASE_MS: u64 = 86_400_000, "milliseconds", false, "From the opening after a blob was added and never named until a collection by hand may take it: a day.";
    BLOB_GRACE_MS: u64 = 2_592_000_000, "milliseconds", false, "From when no document names a blob until its chunks may be removed: 30 days.";
    TRASH_MS: u64 = 2_592_000_000, "milliseconds", true, "From when a document comes into the trash until it is deleted, where nothing else is set: 30 days.";
    RETENTION_MS_MAX: u64 = 3_153_600_000_000, "milliseconds", true, "What can be set for how long documents are kept: 100 years of 365 days.";
    RETENTION_MARK_MS: u64 = 86_400_000, "milliseconds", false, "Between two notes of what a device had when: a day.";
    RETENTION_STEP_DOCUMENTS: usize = 256, "documents", false, "Documents that go in one transaction because their time is over.";
    REMOVALS_UNASKED_MAX: usize = 50, "documents", false, "Documents that one unit or command deletes or puts into the trash without being confirmed.";
    SNAPSHOT_LEAF_BYTES_MAX: usize = 64 << 10, "bytes", true, "One leaf of a snapshot.";
    SNAPSHOT_PART_BYTES_MAX: usize = 12 << 20, "bytes", false, "A part of a snapshot, unpacked: at least the largest piece of a document fits into it.";
    SNAPSHOT_PART_LEAVES_MAX: usize = 4096, "leaves", false, "Leaves in one part of a snapshot.";
    SNAPSHOT_PART_PIECES_MAX: usize = 1 << 14, "pieces", false, "Pieces of documents (first values, changes) in one part of a snapshot.";
    VOID_RUNS_KEPT_MAX: usize = 1024, "runs", false, "Entries that one peer says to open for nobody, kept while a space is open; of more all are forgotten.";
    WANTED_MAX: usize = 256, "runs", false, "Runs of entries, and leaves of a snapshot, that one frame asks for by name.";
    SNAPSHOT_STEP_SECTIONS: u64 = 512, "sections", false, "Sections opened between two transactions while a snapshot is computed; more only where one entry has more.";
    SNAPSHOT_STEP_LEAVES: u32 = 1024, "leaves", false, "Leaves counted, written or moved between two transactions while a snapshot takes the place of another.";
    PRUNE_BYTES_MIN: u64 = 16 << 20, "bytes", false, "Bodies that could go from which on a space prunes by itself.";
    PRUNE_LEAF_BYTES: u64 = 256, "bytes", false, "Of each body, what does not count there: a leaf takes about as much in its place.";
    PRUNE_LOOK_ENTRIES: u64 = 256, "entries", false, "Entries after which it is looked whether as much could go.";
    SECURITY_EVENTS_MAX: u64 = 4096, "events", false, "Events kept of a space's security log, and of the profile's; of more the oldest go.";
    SECURITY_BRANCH_MAX: usize = 32, "things", false, "Things of one kind that a security log tells apart about the devices that one device let in, by others too; what is beyond is counted as one.";
    SECURITY_COUNTS_MAX: u64 = 1024, "counts", false, "Repeated events that are told apart in a profile; what is beyond is counted as one for each kind.";
    SECURITY_DETAIL_BYTES_MAX: usize = 128, "bytes", true, "What an event of a security log says in words.";
    SECURITY_EVENT_BYTES_MAX: usize = 512, "bytes", true, "One event of a security log.";
    PRUNE_SECTIONS_MAX: u32 = 1024, "sections", false, "Sections whose bytes are dropped in one transaction.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_fit_into_something_else_does() {
        const {
            assert!(DOCUMENT_JSON_BYTES_MAX < SECTION_BYTES_MAX);
            assert!(CHANGE_BYTES_MAX < SECTION_BYTES_MAX);
            assert!(SECTION_BYTES_MAX < ENTRY_BYTES_MAX);
            assert!(ENTRY_BYTES_MAX < ENTRY_OPENED_BYTES_MAX);
            assert!(ENTRY_BYTES_MAX + HEADER_BYTES_MAX < FRAME_BYTES_MAX);
            // A part is about as large as a batch, but for one piece that came in a section.
            assert!(
                SECTION_BYTES_MAX + BATCH_BYTES_TARGET + SNAPSHOT_LEAF_BYTES_MAX
                    <= SNAPSHOT_PART_BYTES_MAX
            );
            assert!(SNAPSHOT_PART_BYTES_MAX + BATCH_BYTES_TARGET < FRAME_BYTES_MAX);
            assert!(SECTION_RATIO_MAX * FRAME_BYTES_MAX <= BATCH_OPENED_BYTES_MAX);
            assert!(KEEP_ALIVE_MS < IDLE_MS_MAX);
            assert!(BLOB_CHUNKS_MAX as u64 * BLOB_CHUNK_BYTES_MIN as u64 >= BLOB_BYTES_MAX);
            // A chunk in a manifest: its length, its digest and its key.
            assert!(BLOB_CHUNKS_MAX * (6 + 34 + 34) < SECTION_BYTES_MAX);
            // A chunk is sealed as one piece, padding included.
            assert!(BLOB_CHUNK_BYTES_MAX.is_power_of_two());
            assert!(BLOB_CHUNK_BYTES_MAX <= SECTION_CHUNK_BYTES);
        }
    }
}
