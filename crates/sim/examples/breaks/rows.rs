/// One break: in `file`, below `crates/`, `find` occurs once and becomes `replace`.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) find: &'static str,
    pub(crate) replace: &'static str,
    /// Why simulated runs do not notice it, if they are known not to.
    pub(crate) blind: Option<&'static str>,
}

const fn row(
    name: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
) -> Row {
    Row { name, file, find, replace, blind: None }
}

const APPLY: &str = "engine/src/apply.rs";
const BATCH: &str = "log/src/batch.rs";
const CHANGES: &str = "document/src/apply.rs";
const COMMIT: &str = "engine/src/commit.rs";
const COPIES: &str = "engine/src/copies.rs";
const INDEX: &str = "engine/src/index.rs";
const ROSTER: &str = "log/src/roster.rs";
const SHOW: &str = "engine/src/show.rs";
const STEPS: &str = "engine/src/prune/steps.rs";
const SUPPLY: &str = "engine/src/supply.rs";
const SYNC: &str = "engine/src/sync.rs";

/// What is copied: the simulator, and what simulated devices are built from.
pub(crate) const CRATES: [&str; 13] = [
    "types",
    "classify",
    "crypto",
    "pages",
    "log",
    "document",
    "transport",
    "protocol",
    "audit",
    "store",
    "search",
    "engine",
    "sim",
];

pub(crate) const ROWS: &[Row] = &[
    // What the villain is stopped by.
    row(
        "any checkpoint",
        BATCH,
        "checkpoint.verify(&self.signature).map_err(|_| BatchError::Signature)?;",
        "let _ = &self.signature;",
    ),
    row(
        "supplied bytes of anything",
        SUPPLY,
        "Payload::Sealed(sealed) if commitment.is_of(sealed) => Ok(Some(payload.clone())),",
        "Payload::Sealed(_) if true => Ok(Some(payload.clone())),",
    ),
    row(
        "opened bytes of anything",
        "log/src/section.rs",
        "if opened.matches(self) { Ok(opened) }",
        "if opened.matches(self) || true { Ok(opened) }",
    ),
    row(
        "any actor",
        CHANGES,
        "if actor.owns(incoming.change.actor_id()) || chunk::is_by_nobody(bytes) {",
        "if actor.owns(incoming.change.actor_id()) || true {",
    ),
    row(
        "acts in DATA sections",
        APPLY,
        "let state = if Act::read(commitment.class, &opened).is_err() {",
        "let act = Act::read(Class::Control as u8, &opened);
        let state = if let Ok(Some(act)) = act {
            let _ = self.take_in(db, log, &verified.header, index, &act)?;
            sections::State::Applied
        } else if Act::read(commitment.class, &opened).is_err() {",
    ),
    row(
        "a second genesis",
        ROSTER,
        "if !is_at_the_beginning || genesis.founder.keys.signing != author {",
        "if !is_at_the_beginning && genesis.founder.keys.signing == author {",
    ),
    row(
        "anybody lets devices in",
        "log/src/roster/judge.rs",
        "may_read && (own.role.rules(new.role) || is_own && own.role <= new.role)",
        "may_read || own.role.rules(new.role) || is_own || true",
    ),
    row(
        "acknowledgements by anybody",
        APPLY,
        "ack.verify(&acker.keys.ack).is_ok() && is_of_log",
        "ack.verify(&acker.keys.ack).map_or(true, |()| true) && is_of_log",
    ),
    row(
        "clocks dragged forward",
        "types/src/time.rs",
        "if other.is_flagged(now) { self } else { self.max(other) }",
        "if false && other.is_flagged(now) { self } else { self.max(other) }",
    ),
    row(
        "answers that nobody reads",
        "protocol/src/session/lacking.rs",
        "if self.lacking.answers || self.is_queued(What::Supply) {",
        "if self.lacking.answers {",
    ),
    row(
        "what a peer tells without end",
        "engine/src/supply/wants.rs",
        "if told.len() == VOID_RUNS_KEPT_MAX {",
        "if false && told.len() == VOID_RUNS_KEPT_MAX {",
    ),
    // What arrives in any order, or twice.
    row("before its deps", APPLY, "check_deps(db, header)?;", "let _ = check_deps(db, header);"),
    row(
        "no comparison of roots",
        "engine/src/forks.rs",
        "let proof = proof.filter(|_| theirs.0.verify(theirs.1).is_ok());",
        "let proof = proof.filter(|_| false && theirs.0.verify(theirs.1).is_ok());",
    ),
    row(
        "one known entry too few dropped",
        APPLY,
        "have.saturating_add(1).saturating_sub(batch.first_seq)",
        "have.saturating_sub(batch.first_seq)",
    ),
    row(
        "a walk that goes on too far",
        SYNC,
        "walk.skip_to(i64::try_from(after.0).unwrap_or(i64::MAX));",
        "walk.skip_to(i64::try_from(after.0).unwrap_or(0) + i64::from(after.0 > 0));",
    ),
    row(
        "what waits is not tried again",
        SHOW,
        "        if progress {\n            self.retry(db)?;\n        }\n",
        "        let _ = progress;\n",
    ),
    row(
        "one bad change spoils the others",
        CHANGES,
        "        let (first, second) = changes.split_at(changes.len() / 2);\n",
        "        if changes.len() > 1 {
            return vec![Outcome::Void(VoidReason::Refused); changes.len()];
        }
        let (first, second) = changes.split_at(changes.len() / 2);\n",
    ),
    row(
        "acknowledged without its bytes",
        APPLY,
        "if is_own || self.missing.contains_key(&log) {",
        "if is_own || false && self.missing.contains_key(&log) {",
    ),
    row(
        "what is missing is not asked for",
        "engine/src/supply/wants.rs",
        "let want = Want { sections: missing, sealed, ..Want::default() };",
        "let want = Want { sections: missing[..0].to_vec(), sealed, ..Want::default() };",
    ),
    row(
        "what came sealed is not asked for",
        "store/src/space/sections.rs",
        "const UNREAD: &str = \"state = 1 AND ifnull(kind, 0) = 0 AND sealed IS NOT NULL\";",
        "const UNREAD: &str = \"state = 1 AND kind IS NULL AND 0\";",
    ),
    row(
        "asked before anything was said",
        "protocol/src/session.rs",
        "        if self.is_live() {\n            self.walk_on();",
        "        if self.opening.checked {\n            self.walk_on();",
    ),
    // Blobs.
    row(
        "chunks of other bytes",
        "protocol/src/blobs/mod.rs",
        "if chunk_digest(&sealed) != digest {",
        "if false && chunk_digest(&sealed) != digest {",
    ),
    row(
        "blobs collected that are named",
        "store/src/space/blobs.rs",
        "AND NOT EXISTS (SELECT 1 FROM blob_names n WHERE n.id = blobs.id)\";
    execute(conn, PART, sql, [Uint(now.0)])",
        "\";
    execute(conn, PART, sql, [Uint(now.0)])",
    ),
    row(
        "blobs that wait are not asked for again",
        "protocol/src/blobs/mod.rs",
        "            Walk::At(_) | Walk::Done => Walk::At(BlobPosition::default()),",
        "            walk => walk,",
    ),
    // Suspensions.
    row(
        "closed handles that go on reading",
        "engine/src/space.rs",
        "Ok(self.shared.pool.close()?)",
        "Ok(())",
    ),
    // Deletions.
    row(
        "an edit beats a tombstone",
        COPIES,
        "        if tombstones::contains_in(db, &at, of.0)? {\n",
        "        if false && tombstones::contains_in(db, &at, of.0)? {\n",
    ),
    row(
        "a tombstone removes nothing",
        COPIES,
        "documents::find(db, object)?.filter(|row| row.band == band)",
        "documents::find(db, object)?.filter(|row| row.band < band)",
    ),
    // Crashes.
    row(
        "acknowledged before it is on disk",
        "pages/src/wal_file.rs",
        "session.first_written(), || lower.sync(flags))",
        "session.first_written(), || Ok(drop((&lower, flags))))",
    ),
    row(
        "sent before it is on disk",
        "store/src/pool.rs",
        "PRAGMA synchronous = FULL;",
        "PRAGMA synchronous = NORMAL;",
    ),
    row(
        "not shown after a crash",
        SHOW,
        "Ok(Self { is_partial, shown, ..Self::default() })",
        "Ok(Self { is_partial: is_partial && false, shown, ..Self::default() })",
    ),
    // Secrets that go.
    Row {
        blind: Some("who still seals under a secret that went too early hands it over opened"),
        ..row(
            "secrets gone before all have gone on",
            "engine/src/secrets.rs",
            "let is_stable = |(_, device, seq): &&(u32, DeviceId, u64)| {
            stable.get(device).is_some_and(|end| seq <= end)
        };",
            "let is_stable = |_: &&(u32, DeviceId, u64)| !stable.is_empty();",
        )
    },
    row(
        "secrets gone before it is opened",
        "engine/src/secrets.rs",
        "        sections::set_payload(db, place, &Payload::Opened(carried))?;",
        "        drop(carried);",
    ),
    row(
        "sealed to who is known to be shut out",
        ROSTER,
        "        self.devices.iter().filter_map(reads).collect()",
        "        let mut all: BTreeMap<_, _> = self.devices.iter().filter_map(reads).collect();
        for (device, band) in self.epochs.values().flat_map(|epoch| &epoch.recipients) {
            all.entry(*device).or_insert(*band);
        }
        all",
    ),
    row(
        "steps that go stay",
        "engine/src/secrets.rs",
        "self.keyring.forget_before(&epoch, step);",
        "let _ = step;",
    ),
    row(
        "old sealing keys stay",
        "engine/src/secrets.rs",
        "        if found.key {",
        "        if found.key && false {",
    ),
    row(
        "what is BLACK has a source",
        "engine/src/black.rs",
        "        self.shared.check_leaves(\"it has no session with any\")?;\n        Ok(Source",
        "        Ok(Source",
    ),
    // What an app relies on.
    // Who belongs to the space, and what is to be gone.
    row(
        "late writes of who is shut out count",
        "log/src/roster/judge.rs",
        "            .chain(keeps.and_then(|keeps| keeps.checked_add(1)))\n",
        "",
    ),
    row(
        "what counts no more stays",
        "engine/src/rejudge.rs",
        "            if !self.rejudged.is_empty() {\n                self.rejudge_once(db)?;",
        "            if !std::mem::take(&mut self.rejudged).is_empty() {",
    ),
    row(
        "late edits are not adopted",
        "engine/src/adoption.rs",
        "        if self.adopted.is_open || adopted.is_empty() {",
        "        if true {",
    ),
    row(
        "logs refused whose devices were let in late",
        ROSTER,
        "        if !self.may_have_log(&header.device) {",
        "        if self.known(&header.device).is_none() {",
    ),
    row(
        "erased and not said",
        "engine/src/erase/disk.rs",
        "if own.is_some_and(|own| own.role.may_read()) && !open.is_empty() {",
        "if own.is_some_and(|own| own.role.may_read()) && open.is_empty() {",
    ),
    row(
        "erasures that leave bytes",
        "engine/src/erase.rs",
        "        sections::erase(db, &dropped)?;",
        "        let _ = &dropped;",
    ),
    // What a device is cleared for, parts that are taken out, and the trash.
    row(
        "lowered and nothing dropped",
        "engine/src/clearance.rs",
        "            self.lower(db)?;",
        "            let _ = old;",
    ),
    row(
        "edits beside a redaction are lost",
        "engine/src/redact/settle.rs",
        "None => self.make_again(db, (object, &row), new, redactions)?,",
        "None => drop((object, &row, new)),",
    ),
    row(
        "what is taken out of the trash stays in it",
        "engine/src/unit.rs",
        "self.operations.push(Operation::Trash { object, is_in: false });",
        "self.operations.push(Operation::Trash { object, is_in: true });",
    ),
    row(
        "a snapshot that nobody can compute any more is waited for",
        STEPS,
        "erasures.iter().all(|(device, seq)| *seq <= act.size_of(device))",
        "act.v == 0 || erasures.iter().all(|(device, seq)| *seq <= act.size_of(device))",
    ),
    row(
        "snapshots stated beside each other",
        STEPS,
        "let mut beside = statements.iter().filter(is_beside).peekable();",
        "let mut beside = statements[..0].iter().filter(is_beside).peekable();",
    ),
    row(
        "epochs beside the chosen one stay",
        "engine/src/secrets.rs",
        "self.epoch_beside.is_some() || steps",
        "steps",
    ),
    Row {
        blind: Some("who states a snapshot has what it covers, and who comes later is given it"),
        ..row(
            "pruned before all have said that they have it",
            STEPS,
            "        if !held.act.is_within(&ends) {",
            "        if false && !held.act.is_within(&ends) {",
        )
    },
    row(
        "idempotency keys forgotten",
        COMMIT,
        "units::add(db, &key, &unit)?;",
        "let _ = (&key, &unit);",
    ),
    row(
        "documents left out of the index",
        INDEX,
        "above = document;",
        "above = document + i64::from(document % 5 == 0);",
    ),
];
