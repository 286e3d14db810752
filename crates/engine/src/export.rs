//! Exports receipts for an auditor: what the `audit` crate verifies with public keys alone.

use std::path::Path;

use larder_audit::format::{AckLine, ExportWriter, SectionLine, disclose_by_default};
use larder_log::merkle;
use larder_log::roster::Roster;
use larder_store::space::logs::{self, Log, Tree};
use larder_store::space::{control, sections, transactions};
use rusqlite::Connection;

use crate::model::ExportSummary;
use crate::read::opened;
use crate::space::{Published, Space};
use crate::{Error, Result};

impl Space {
    /// Writes a receipt of every entry held here into `dir`, which must be empty or not be there:
    /// checkpoints, inclusion proofs, verifier keys, acknowledgements, and of each section what
    /// [`disclose_by_default`] shows. Content is never shown. `progress` is told the entries done
    /// and their total number.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if there is an export in `dir`; [`Error::Io`]; the storage's
    /// errors.
    pub fn export_receipts(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ExportSummary> {
        let db = self.shared.pool.reader()?;
        // One snapshot for the whole export.
        let db = db.unchecked_transaction().map_err(reading)?;
        let published = self.shared.published()?;
        let genesis = published.roster.genesis().ok_or_else(|| {
            let message = "nothing of this space has arrived here yet: sync it first";
            Error::NotFound(message.into())
        })?;
        let io = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::AlreadyExists(format!(
                "there is an export in {} already: choose another directory",
                dir.display()
            )),
            _ => Error::io(dir, e),
        };
        let founder = genesis.founder.keys.signing;
        let now = self.shared.env.now();
        let mut writer = ExportWriter::create(dir, &self.id(), &founder, now).map_err(io)?;
        // Before the events are read: this is one of them.
        self.note_export("receipts");
        let events = self.security_lines()?;
        let logs: Vec<Log> =
            logs::every(&db)?.into_iter().filter(|log| log.frontier.size() > 0).collect();
        let total = logs.iter().map(|log| log.frontier.size()).sum();
        let mut done = 0;
        for log in &logs {
            let mut log_writer = writer.log(&log.device).map_err(io)?;
            let last = transactions::last_of(&db, log.log)?
                .ok_or_else(|| Error::Corrupt(format!("{} has no checkpoint", log.device)))?;
            self.shared.is_shown(&db, log)?;
            let checkpoint = self.checkpoint(log.device, &log.frontier);
            for seq in 1..=log.frontier.size() {
                let receipt = crate::read::receipt(&db, &checkpoint, log.log, seq, last.signature)?;
                let lines = section_lines(&db, &published, log, seq)?;
                log_writer.entry(&receipt, &lines).map_err(io)?;
                done += 1;
                progress(done, total);
            }
            let acks = self.ack_lines(&db, &published.roster, log)?;
            log_writer.finish(&checkpoint, &last.signature, &acks).map_err(io)?;
        }
        // Of a device that is not among the logs nobody could tell that it is of the space.
        if logs.iter().any(|log| log.device == self.device()) {
            writer.security(&self.device(), &events).map_err(io)?;
        }
        writer.finish().map_err(io)?;
        let bytes = bytes_in(dir).map_err(io)?;
        Ok(ExportSummary { logs: logs.len() as u64, entries: done, bytes })
    }

    fn ack_lines(&self, db: &Connection, roster: &Roster, log: &Log) -> Result<Vec<AckLine>> {
        let tree = Tree::new(db, log.log);
        let mut lines = Vec::new();
        for ack in control::acks_of(db, &log.device)? {
            // Others may hold more of a log than there is here to show, or say something untrue.
            let is_of_this =
                ack.size <= log.frontier.size() && merkle::root_at(&tree, ack.size)? == ack.root;
            if let (true, Some(acker)) = (is_of_this, roster.device(&ack.acker)) {
                lines.push(AckLine::new(&self.ack_of(&ack), &acker.keys.ack));
            }
        }
        Ok(lines)
    }
}

fn section_lines(
    db: &Connection,
    published: &Published,
    log: &Log,
    seq: u64,
) -> Result<Vec<SectionLine>> {
    let mut lines = Vec::new();
    for section in sections::of_entry(db, log.log, seq)? {
        let disclosure = opened(db, published, &section)?.as_ref().map(disclose_by_default);
        let index = section.place.index;
        lines.push(SectionLine::new(seq, index, &section.commitment, disclosure.as_ref()));
    }
    Ok(lines)
}

fn bytes_in(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn reading(source: rusqlite::Error) -> Error {
    larder_store::StoreError::Read { part: "transaction", source }.into()
}
