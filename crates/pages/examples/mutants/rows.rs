/// One break: in `file`, below `crates/`, `find` occurs once and becomes `replace`.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) find: &'static str,
    pub(crate) replace: &'static str,
    /// Parts of the names of the tests that are expected to fail.
    pub(crate) tests: &'static [&'static str],
}

const fn row(
    name: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
    tests: &'static [&'static str],
) -> Row {
    Row { name, file, find, replace, tests }
}

const DATABASE: &str = "pages/src/database.rs";
const FORMAT: &str = "pages/src/format.rs";
const MAIN: &str = "pages/src/main_file.rs";
const NONCES: &str = "pages/src/nonces.rs";
const SESSION: &str = "pages/src/session.rs";
const SHIM: &str = "pages/src/shim.rs";
const SHM: &str = "pages/src/shm.rs";
const VFS: &str = "pages/src/vfs.rs";
const WAL: &str = "pages/src/wal_file.rs";

const LIVES: &[&str] = &["a_power_failure_at_any_point"];

pub(crate) const ROWS: &[Row] = &[
    // What SQLite hands over and gets back.
    row(
        "tag in SQLite's buffer",
        SHIM,
        "            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), amount);\n",
        "            if amount == 4096 {
                bytes.cast_mut().cast::<u8>().add(4048).write_bytes(7, 48);
            }
            let bytes = &*std::slice::from_raw_parts(bytes.cast::<u8>(), amount);
            let mut bytes = bytes.to_vec();
            if amount == 4096 {
                bytes[4048..].fill(0);
            }
            let bytes = bytes.as_slice();\n",
        &["every_committed"],
    ),
    row(
        "tail that is not zero is written",
        FORMAT,
        "        && reserved.iter().all(|byte| *byte == 0)\n",
        "",
        &["backup::"],
    ),
    row(
        "tail that is not zero is read",
        FORMAT,
        "        reserved.fill(0);\n        Ok(())",
        "        Ok(())",
        &["every_committed"],
    ),
    // What is durable when.
    row(
        "no sync of the WAL",
        WAL,
        "session.first_written(), || lower.sync(flags))",
        "session.first_written(), || Ok(drop((&lower, flags))))",
        LIVES,
    ),
    row(
        "no sync of the database",
        MAIN,
        "synced.sync(|| lower.sync(flags))?;",
        "synced.sync(|| Ok(drop((&lower, flags))))?;",
        LIVES,
    ),
    row(
        "a failed sync of the WAL is believed",
        "pages/src/unsynced.rs",
        "state.writes == writes && !state.has_failed",
        "state.writes == writes",
        &["unsynced::"],
    ),
    row(
        "what a failed sync lost is not written",
        WAL,
        "                Filled::Whole => lower.write(scratch.as_slice(), offset_of(index))?,",
        "                Filled::Whole => {}",
        &["synced::"],
    ),
    row(
        "a failed sync of the database is believed",
        DATABASE,
        "let is_lost = synced.is_err() && *pages == Pages::Final;",
        "let is_lost = synced.is_err() && *pages == Pages::Nothing;",
        &["synced"],
    ),
    row(
        "an ordered disk is promised",
        SHIM,
        "LowerFile::characteristics) & KEPT;",
        "LowerFile::characteristics) | ffi::SQLITE_IOCAP_SEQUENTIAL;",
        LIVES,
    ),
    row(
        "what is recovered is not synced",
        WAL,
        "        self.sync(ffi::SQLITE_SYNC_FULL)\n    }",
        "        Ok(())\n    }",
        &["power::what_a_killed"],
    ),
    row(
        "an unsynced first page is trusted",
        DATABASE,
        "                self.make_durable(&as_found)?;\n",
        "                let _ = (&as_found, Self::make_durable);\n",
        &["power::a_commit_is_durable"],
    ),
    row(
        "the id is not written last",
        MAIN,
        "        if number == 1 && self.lower.size()? == 0 {",
        "        if number == 0 {",
        &["power::a_database_whose"],
    ),
    row(
        "the blank first page is not synced",
        MAIN,
        "            self.lower.write(blank.as_slice(), 0)?;
            self.lower.sync(ffi::SQLITE_SYNC_FULL)?;\n",
        "            self.lower.write(blank.as_slice(), 0)?;\n",
        &["power::a_database_whose"],
    ),
    row(
        "a cut creation is not started over",
        FORMAT,
        "size <= PAGE as u64 && (is_blank || is_torn)",
        "size == 0 && (is_blank || is_torn)",
        &["power::a_database_whose"],
    ),
    row(
        "a long file is started over",
        FORMAT,
        "size <= PAGE as u64 && (is_blank || is_torn)",
        "size > 0 && (is_blank || is_torn)",
        &["foreign_files"],
    ),
    row(
        "an empty WAL beside no file is damage",
        DATABASE,
        "if self.has_frames()? {",
        "if self.has_wal()? {",
        &["power::a_wal_without"],
    ),
    row(
        "a WAL beside an empty file is nothing",
        DATABASE,
        "if self.has_frames()? {",
        "if false {",
        &["power::a_wal_without"],
    ),
    row(
        "a copy's name is not synced",
        "pages/src/copying.rs",
        "        self.sync_name(path)?;\n",
        "",
        &["power::a_whole_copy"],
    ),
    row(
        "deletions are not synced",
        VFS,
        "const SYNC_DIRECTORY: c_int = 1;",
        "const SYNC_DIRECTORY: c_int = 0;",
        &["power::a_whole_copy"],
    ),
    // Which page or frame it is.
    row(
        "no frame index in what is sealed",
        FORMAT,
        "let number = number.to_be_bytes();",
        "let number = if kind == WAL { 0 } else { number }.to_be_bytes();",
        &["format::", "only_in_their_own_place"],
    ),
    row(
        "no page number in what is sealed",
        FORMAT,
        "let number = number.to_be_bytes();",
        "let number = if kind == MAIN { 0 } else { number }.to_be_bytes();",
        &["format::", "only_in_their_own_place"],
    ),
    row(
        "no flags in what is sealed",
        FORMAT,
        "&[tail.format, tail.flags], extra];",
        "&[tail.format, 0], extra];",
        &["format::", "only_in_their_own_place"],
    ),
    row(
        "no file kind in what is sealed",
        FORMAT,
        "[LABEL, &[kind], &self.id,",
        "[LABEL, &[kind & 0], &self.id,",
        &["format::", "only_in_their_own_place"],
    ),
    row(
        "a nonce used twice",
        NONCES,
        "        *used += out.len();",
        "        *used += usize::from(out.len() != 12) * out.len();",
        &["nonces::"],
    ),
    row(
        "any derived key will do",
        "crypto/src/aead/xaes.rs",
        ".position(|(known, _)| known == prefix)",
        ".position(|(known, _)| known[0] == prefix[0])",
        LIVES,
    ),
    row(
        "pages of zeros are content",
        MAIN,
        "        Filled::Whole => database",
        "        Filled::Whole if page.iter().all(|byte| *byte == 0) => Ok(()),
        Filled::Whole => database",
        &["a_page_counts", "a_page_missing"],
    ),
    row(
        "the key of a second connection",
        DATABASE,
        "if !database.sealer.has_key(&request.key) {",
        "if false {",
        &["a_wrong_key"],
    ),
    // The WAL: recovery, and what tells damage from a crash.
    row(
        "an error in place of page 0",
        WAL,
        "            Err(Code::DAMAGED) if self.session.is_recovering() => true,\n",
        "",
        LIVES,
    ),
    row(
        "damage in the middle ends the WAL",
        WAL,
        "if ends && self.is_durable(index)? {",
        "if ends && self.is_durable(index)? && index == 0 {",
        &["a_frame_of_an_older_wal", "a_shortened_file"],
    ),
    row(
        "no frame starts a transaction",
        WAL,
        "if starts { STARTS_TRANSACTION } else { 0 }",
        "if starts { 0 } else { 0 }",
        &["a_frame_of_an_older_wal", "a_shortened_file"],
    ),
    row(
        "every frame starts a transaction",
        WAL,
        "if starts { STARTS_TRANSACTION } else { 0 }",
        "if starts { STARTS_TRANSACTION } else { STARTS_TRANSACTION }",
        LIVES,
    ),
    row(
        "starts of an older WAL count",
        WAL,
        "            if self.is_of(header, index)? && self.flags",
        "            if (self.is_of(header, index)? || true) && self.flags",
        LIVES,
    ),
    row(
        "a transaction never ends",
        SESSION,
        "        if request.exclusive && request.covers(WRITE_SLOT) {",
        "        if request.exclusive && request.covers(99) {",
        &["what_a_rollback_left", "only_in_their_own_place"],
    ),
    row(
        "a frame header in the clear",
        WAL,
        "                    self.waiting = Some((index, header));\n",
        "                    self.writable()?.write(&header, offset_of(index))?;
                    self.waiting = Some((index, header));\n",
        &["power::a_frame_reaches"],
    ),
    row(
        "frames of what was taken back",
        WAL,
        "            self.gathered.bytes.clear();\n",
        "",
        &["gathered::what_was_taken_back"],
    ),
    row(
        "gathered frames are read from the disk",
        WAL,
        "        if self.gathered.contains(index) {",
        "        if index == 0 {",
        &["of_a_spilled"],
    ),
    row(
        "the last frame waits for others",
        WAL,
        "if (is_last || self.gathered.is_full())",
        "if (!is_last && self.gathered.is_full())",
        &["power::what_was_not_synced"],
    ),
    row(
        "checksums are not rewritten",
        WAL,
        "                    self.reseal(index, 0, &header)\n",
        "                    Ok(())\n",
        &["of_a_spilled"],
    ),
    row(
        "a spilled page is not overwritten",
        WAL,
        "None => self.reseal(index, FRAME_HEADER, bytes),",
        "None => Ok(()),",
        &["of_a_spilled"],
    ),
    row(
        "the salts are forgotten",
        WAL,
        "        self.session.database.wal_salts.store(salts, Ordering::Release);",
        "        let _ = salts;",
        &["a_frame_of_the_wal_before"],
    ),
    row(
        "a frame of the WAL before is read",
        WAL,
        "        if is_current { Ok(flags)",
        "        if is_current || index > 0 { Ok(flags)",
        &["a_frame_of_the_wal_before"],
    ),
    row(
        "any torn header is an empty WAL",
        WAL,
        "} else if !self.is_checkpointed()? {",
        "} else if !self.is_checkpointed()? && header[0] == 0 {",
        &["power::a_header"],
    ),
    row(
        "any torn header is damage",
        WAL,
        "} else if !self.is_checkpointed()? {",
        "} else if !self.is_checkpointed()? || self.frames()? > 0 {",
        &["power::a_header"],
    ),
    // The database file.
    row(
        "holes are not filled before a write",
        MAIN,
        "        self.fill_holes_before(number)?;\n",
        "",
        &["only_in_their_own_place", "backup::"],
    ),
    row(
        "a database is written in place",
        MAIN,
        "if is_safe { Ok(()) }",
        "if is_safe || PAGE > 0 { Ok(()) }",
        &["attach"],
    ),
    row(
        "a lost end is never noticed",
        MAIN,
        "Filled::Short if number <= database.pages_min.load(Ordering::Acquire)",
        "Filled::Short if number < database.pages_min.load(Ordering::Acquire).min(1)",
        &["a_page_missing"],
    ),
    row(
        "a torn page 1 does not open",
        MAIN,
        "Err(Code::SHORT_READ | Code::DAMAGED) if header =>",
        "Err(Code::SHORT_READ) if header =>",
        &["a_torn_first_page"],
    ),
    row(
        "the WAL does not prove the key",
        DATABASE,
        "        if self.wal_opens(&sealer)? {",
        "        if self.wal_opens(&sealer)? && size == 0 {",
        &["a_torn_first_page"],
    ),
    // Locks.
    row(
        "a second process may write",
        DATABASE,
        "&[ffi::SQLITE_LOCK_SHARED, ffi::SQLITE_LOCK_RESERVED, ffi::SQLITE_LOCK_EXCLUSIVE]",
        "&[ffi::SQLITE_LOCK_SHARED]",
        &["sharing::a_second", "sharing::another"],
    ),
    row(
        "a taken slot is granted",
        SHM,
        "        if !free {",
        "        if !free && request.count == 0 {",
        &["shm::"],
    ),
    row(
        "a slot is never free again",
        SHM,
        "                slot.exclusive = false;\n",
        "",
        &["shm::"],
    ),
    // What else there is on disk.
    row(
        "a foreign journal is played back",
        SHIM,
        "let is_journal = name.to_bytes().ends_with(b\"-journal\");",
        "let is_journal = name.to_bytes().ends_with(b\"-super\");",
        &["a_journal_beside"],
    ),
    row(
        "another journal mode",
        MAIN,
        "\"journal_mode\" if !one_of(&[\"wal\"]) => {",
        "\"journal_mode\" if !one_of(&[\"wal\", \"delete\"]) => {",
        &["journals", "refusal"],
    ),
];
