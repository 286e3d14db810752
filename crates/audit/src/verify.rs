//! The verifier. In order: the manifest; then for each log its checkpoint, every entry from the
//! first to the last with its sections, and the tree over them; then who admitted whom; then who
//! acknowledged what.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use larder_log::ack::Ack;
use larder_log::act::Act;
use larder_log::checkpoint::{self, Checkpoint};
use larder_log::merkle::Frontier;
use larder_log::roster::Roster;
use larder_log::security::{Chain, Scope};
use larder_log::{Class, DisclosedMetadata, Field, Header, Receipt, entry_hash, kind};
use larder_types::limits::LOGS_MAX;
use larder_types::{DeviceId, Hash, SpaceId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AuditError;
use crate::format::{
    ACKS, AckLine, CHECKPOINT, DISCLOSED, FORMAT, MANIFEST, Manifest, SECURITY, SectionLine,
    SecurityLine, VERIFIER_KEY, VERSION, log_dir, manifest_text, receipt_name, says_who_belongs,
};
use crate::verdict::{AckVerdict, LogVerdict, SecurityVerdict, Verdict};

/// Longest file or line that is read into memory: the largest body there may be, in base64.
const READ_BYTES_MAX: u64 = 16 << 20;
/// Most acts that are kept, about 1 KB each.
const ACTS_MAX: usize = 2 * LOGS_MAX;
/// Most acknowledgements of one log.
const ACKS_MAX: usize = 8 * LOGS_MAX;

type Result<T> = std::result::Result<T, AuditError>;

/// Verifies the export in the directory `root`.
///
/// # Errors
/// [`AuditError::Refuted`] with the file that does not hold; [`AuditError::Unreadable`].
pub fn verify(root: &Path) -> Result<Verdict> {
    let export = Export { root };
    let manifest = export.manifest()?;
    let space = manifest.space;
    let mut admissions = Vec::new();
    let mut logs = Vec::with_capacity(manifest.logs.len());
    for device in &manifest.logs {
        logs.push(export.log(space, *device, &manifest.logs, &mut admissions)?);
    }
    let roster = admit(&manifest, &logs, &admissions)?;
    for log in &mut logs {
        acknowledge(space, log, &roster)?;
    }
    let mut verdict = conclude(&manifest, logs, &roster);
    verdict.security = export.security(&manifest)?;
    Ok(verdict)
}

/// The manifest, parsed.
struct Parsed {
    space: SpaceId,
    genesis_device: DeviceId,
    exported_at_ms: u64,
    logs: Vec<DeviceId>,
    security: Option<DeviceId>,
}

/// A log whose own files hold.
struct Log {
    device: DeviceId,
    first: Header,
    checkpoint: Checkpoint,
    /// Acknowledgements, each with its line; the tree had their root at their size.
    acks: Vec<(usize, AckLine)>,
    verdict: LogVerdict,
}

/// An act that admits a device, with the header of its entry and its place there.
struct Admission {
    header: Header,
    index: u32,
    act: Act,
}

struct Export<'a> {
    root: &'a Path,
}

impl Export<'_> {
    fn manifest(&self) -> Result<Parsed> {
        let file = Path::new(MANIFEST);
        let refuse = |reason: &str| refuted(file, None, reason);
        let text = self.read(file).map_err(|error| match error {
            // Not an export at all, rather than one that was altered.
            AuditError::Refuted { file, .. } if !self.root.join(&file).exists() => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                AuditError::Unreadable { file: self.root.join(file), source }
            }
            other => other,
        })?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| refuted(file, None, e.to_string()))?;
        if manifest_text(&manifest).ok().as_ref() != Some(&text) {
            return Err(refuse("not written as an export is"));
        }
        if manifest.format != FORMAT || manifest.v != VERSION {
            return Err(refuse("not a receipt export of version 0"));
        }
        if manifest.logs.len() > LOGS_MAX {
            return Err(refuse("more logs than a space may have"));
        }
        let logs: std::result::Result<Vec<DeviceId>, _> =
            manifest.logs.iter().map(|device| device.parse()).collect();
        let (Ok(space), Ok(genesis_device), Ok(logs)) =
            (manifest.space.parse(), manifest.genesis_device.parse(), logs)
        else {
            return Err(refuse("ids are 64 lower-case hex digits"));
        };
        if !logs.is_sorted_by(|a, b| a < b) || !logs.contains(&genesis_device) {
            return Err(refuse("the logs are each device's once, in order, the founder's too"));
        }
        let security = manifest.security.map(|device| device.parse::<DeviceId>()).transpose();
        let security = security.map_err(|_| refuse("ids are 64 lower-case hex digits"))?;
        if security.is_some_and(|device| logs.binary_search(&device).is_err()) {
            return Err(refuse("the security log is of a device whose log is not here"));
        }
        let exported_at_ms = manifest.exported_at_ms;
        Ok(Parsed { space, genesis_device, exported_at_ms, logs, security })
    }

    /// What a device signed of what happened to it.
    fn security(&self, manifest: &Parsed) -> Result<Option<SecurityVerdict>> {
        let file = Path::new(SECURITY);
        let Some(device) = manifest.security else {
            if self.root.join(file).exists() {
                return Err(refuted(file, None, "is there, and the manifest names no device"));
            }
            return Ok(None);
        };
        let mut chain = Chain::new(Scope::Space(manifest.space), device);
        let mut verdict = SecurityVerdict::new(&device);
        let mut lines = self.lines(file)?;
        while let Some(line) = lines.next::<SecurityLine>()? {
            let (event, signature) = line.event().map_err(|e| lines.refuse(e))?;
            chain.take(&event, &signature).map_err(|e| lines.refuse(e.to_string()))?;
            verdict.count(&line);
        }
        Ok(Some(verdict))
    }

    fn log(
        &self,
        space: SpaceId,
        device: DeviceId,
        all: &[DeviceId],
        admissions: &mut Vec<Admission>,
    ) -> Result<Log> {
        let dir = log_dir(&device);
        let (checkpoint, signature) = self.checkpoint(space, device)?;
        let acks = self.acks(&dir)?;
        let mut sections = self.sections(&dir)?;
        let mut verdict = LogVerdict::new(&checkpoint);
        let mut frontier = Frontier::new();
        let mut first = None;
        for seq in 1..=checkpoint.size {
            let file = dir.join(receipt_name(seq));
            let receipt = self.receipt(&file)?;
            if receipt.checkpoint != checkpoint || receipt.signature != signature {
                return Err(refuted(&file, None, "against another checkpoint than the log's"));
            }
            let header = receipt
                .verify_under_known_checkpoint()
                .map_err(|e| refuted(&file, None, e.to_string()))?;
            if header.seq != seq {
                return Err(refuted(&file, None, format!("is of entry {}", header.seq)));
            }
            self.deps(&file, &header, all)?;
            frontier.append(entry_hash(&receipt.header).into(), &mut |_| {});
            check_acked_root(&dir, &acks, &frontier)?;
            sections.entry(&header, &mut verdict, admissions)?;
            first.get_or_insert(header);
        }
        if frontier.root() != checkpoint.root {
            let file = dir.join(CHECKPOINT);
            return Err(refuted(&file, None, "signs another tree than the entries form"));
        }
        sections.end()?;
        if let Some((line, ack)) = acks.iter().find(|(_, ack)| ack.size > checkpoint.size) {
            let reason = format!("entry {} was acknowledged and is not in the export", ack.size);
            return Err(refuted(&dir.join(ACKS), Some(*line), reason));
        }
        self.count_files(&dir, checkpoint.size)?;
        let first = first.ok_or_else(|| refuted(&dir.join(CHECKPOINT), None, "of no entries"))?;
        Ok(Log { device, first, checkpoint, acks, verdict })
    }

    fn checkpoint(&self, space: SpaceId, device: DeviceId) -> Result<(Checkpoint, [u8; 64])> {
        let dir = log_dir(&device);
        let file = dir.join(CHECKPOINT);
        let text = self.read(&file)?;
        let (checkpoint, signature) =
            Checkpoint::parse_note(&text).map_err(|e| refuted(&file, None, e.to_string()))?;
        if checkpoint.space != space || checkpoint.device != device {
            return Err(refuted(&file, Some(1), "of another log than its folder says"));
        }
        if checkpoint.to_note(&signature) != text {
            return Err(refuted(&file, None, "not written as our checkpoints are"));
        }
        checkpoint.verify(&signature).map_err(|e| refuted(&file, None, e.to_string()))?;
        let key = dir.join(VERIFIER_KEY);
        if self.read(&key)? != format!("{}\n", checkpoint::vkey(&space, &device)) {
            return Err(refuted(&key, None, "not the key of the device that the log is of"));
        }
        Ok((checkpoint, signature))
    }

    fn receipt(&self, file: &Path) -> Result<Receipt> {
        let text = self.read(file)?;
        let receipt = Receipt::parse(&text).map_err(|e| match e {
            larder_log::NoteError::Malformed { line, reason } => refuted(file, Some(line), reason),
            other => refuted(file, None, other.to_string()),
        })?;
        if receipt.to_tlog_proof() == text {
            Ok(receipt)
        } else {
            Err(refuted(file, None, "not written as our receipts are"))
        }
    }

    /// Checks that every entry which a header names as its past is in the export, and is that one.
    fn deps(&self, file: &Path, header: &Header, all: &[DeviceId]) -> Result<()> {
        for dep in &header.deps {
            let missing = || {
                let reason =
                    format!("rests on entry {} of {}, which is not here", dep.seq, dep.device);
                refuted(file, None, reason)
            };
            let named = log_dir(&dep.device).join(receipt_name(dep.seq));
            if all.binary_search(&dep.device).is_err() || !self.root.join(&named).is_file() {
                return Err(missing());
            }
            if entry_hash(&self.receipt(&named)?.header) != dep.entry {
                let reason = format!(
                    "rests on an entry {} of {} that is not the one in {}",
                    dep.seq,
                    dep.device,
                    named.display()
                );
                return Err(refuted(file, None, reason));
            }
        }
        Ok(())
    }

    fn acks(&self, dir: &Path) -> Result<Vec<(usize, AckLine)>> {
        let mut lines = self.lines(&dir.join(ACKS))?;
        let mut acks = Vec::new();
        while let Some(ack) = lines.next::<AckLine>()? {
            if acks.len() == ACKS_MAX {
                return Err(lines.refuse("more acknowledgements than devices could give"));
            }
            acks.push((lines.number, ack));
        }
        Ok(acks)
    }

    fn sections(&self, dir: &Path) -> Result<Sections> {
        Ok(Sections { lines: self.lines(&dir.join(DISCLOSED))? })
    }

    /// Refuses files that nothing above has read.
    fn count_files(&self, dir: &Path, size: u64) -> Result<()> {
        const BESIDE_RECEIPTS: u64 = 4;
        let path = self.root.join(dir);
        let unreadable = |source| AuditError::Unreadable { file: path.clone(), source };
        let mut count = 0_u64;
        for file in fs::read_dir(&path).map_err(unreadable)? {
            file.map_err(unreadable)?;
            count += 1;
        }
        if count == size.saturating_add(BESIDE_RECEIPTS) {
            Ok(())
        } else {
            Err(refuted(dir, None, "holds files that belong to no entry of the checkpoint"))
        }
    }

    fn read(&self, file: &Path) -> Result<String> {
        let mut text = String::new();
        let mut limited = self.open(file)?.take(READ_BYTES_MAX);
        match limited.read_to_string(&mut text) {
            Ok(_) if limited.limit() > 0 => Ok(text),
            Ok(_) => Err(refuted(file, None, "longer than any such file")),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                Err(refuted(file, None, "not UTF-8 text"))
            }
            Err(source) => Err(AuditError::Unreadable { file: file.to_owned(), source }),
        }
    }

    fn lines(&self, file: &Path) -> Result<Lines> {
        Ok(Lines { reader: BufReader::new(self.open(file)?), file: file.to_owned(), number: 0 })
    }

    fn open(&self, file: &Path) -> Result<File> {
        File::open(self.root.join(file)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => refuted(file, None, "is missing"),
            _ => AuditError::Unreadable { file: file.to_owned(), source },
        })
    }
}

/// The section lines of one log, read along with its entries.
struct Sections {
    lines: Lines,
}

impl Sections {
    /// Reads the lines of this entry, checks them against its header, and takes note of them.
    fn entry(
        &mut self,
        header: &Header,
        verdict: &mut LogVerdict,
        admissions: &mut Vec<Admission>,
    ) -> Result<()> {
        let mut tree = Frontier::new();
        for index in 0..header.n {
            let line: SectionLine = self
                .lines
                .next()?
                .ok_or_else(|| self.lines.refuse(format!("ends before entry {}", header.seq)))?;
            if (line.seq, line.index) != (header.seq, index) {
                let reason = format!("not section {index} of entry {}", header.seq);
                return Err(self.lines.refuse(reason));
            }
            let commitment = line.commitment().map_err(|e| self.lines.refuse(e))?;
            tree.append(commitment.leaf(), &mut |_| {});
            let disclosure = line.disclosure().map_err(|e| self.lines.refuse(e))?;
            let shown = match disclosure {
                None => None,
                Some(disclosure) => {
                    let shown = disclosure.verify(&commitment);
                    Some(shown.map_err(|e| self.lines.refuse(e.to_string()))?)
                }
            };
            verdict.count(shown.as_ref());
            let Some(shown) = shown else { continue };
            if let Some(act) = admission(commitment.class, &shown) {
                if admissions.len() == ACTS_MAX {
                    return Err(self.lines.refuse("more acts than a space may have"));
                }
                admissions.push(Admission { header: header.clone(), index, act });
            }
        }
        if tree.root() == header.sections_root {
            Ok(())
        } else {
            let reason = format!("not the sections that entry {} commits to", header.seq);
            Err(self.lines.refuse(reason))
        }
    }

    fn end(mut self) -> Result<()> {
        match self.lines.next::<SectionLine>()? {
            None => Ok(()),
            Some(_) => Err(self.lines.refuse("of no entry that the checkpoint covers")),
        }
    }
}

/// The act that a section shows, if it says who belongs to the space. One that cannot be read, of a
/// newer version say, is void: it admits nobody, and is no fault of the export.
fn admission(class: u8, shown: &DisclosedMetadata) -> Option<Act> {
    let is_control = class == Class::Control as u8;
    match (shown.kind, &shown.body) {
        (Some(kind), Some(body)) if is_control && says_who_belongs(kind) => {
            Act::from_body(kind, body).ok().flatten()
        }
        _ => None,
    }
}

/// Lines of JSON, each in the one form in which we write it.
struct Lines {
    reader: BufReader<File>,
    file: PathBuf,
    number: usize,
}

impl Lines {
    fn next<T: DeserializeOwned + Serialize>(&mut self) -> Result<Option<T>> {
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(READ_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(|source| AuditError::Unreadable { file: self.file.clone(), source })?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if line.pop() != Some(b'\n') {
            return Err(self.refuse("too long, or cut off"));
        }
        let value: T = serde_json::from_slice(&line).map_err(|e| self.refuse(e.to_string()))?;
        if serde_json::to_vec(&value).is_ok_and(|text| text == line) {
            Ok(Some(value))
        } else {
            Err(self.refuse("not written as an export is"))
        }
    }

    /// Blames the line that was read last.
    fn refuse(&self, reason: impl Into<String>) -> AuditError {
        refuted(&self.file, Some(self.number), reason)
    }
}

impl SecurityVerdict {
    fn new(device: &DeviceId) -> Self {
        let device = device.to_string();
        Self { device, first: 0, last: 0, kinds: BTreeMap::new() }
    }

    fn count(&mut self, line: &SecurityLine) {
        if self.last == 0 {
            self.first = line.seq;
        }
        self.last = line.seq;
        *self.kinds.entry(line.kind.clone()).or_default() += 1;
    }
}

impl LogVerdict {
    fn new(checkpoint: &Checkpoint) -> Self {
        Self {
            device: checkpoint.device.to_string(),
            label: String::new(),
            member: String::new(),
            role: String::new(),
            founder: false,
            entries: checkpoint.size,
            root: checkpoint.root.to_string(),
            sections: 0,
            sections_undisclosed: 0,
            kinds: BTreeMap::new(),
            deletions: 0,
            hidden_fields: BTreeMap::new(),
            bodies: 0,
            clock_ms_claim: None,
            acknowledgements: Vec::new(),
        }
    }

    fn count(&mut self, shown: Option<&DisclosedMetadata>) {
        self.sections += 1;
        let Some(shown) = shown else {
            self.sections_undisclosed += 1;
            return;
        };
        if let Some(kind) = shown.kind {
            *self.kinds.entry(kind_name(kind)).or_default() += 1;
            self.deletions += u64::from(kind == kind::DOCUMENT_DELETE);
        }
        self.bodies += u64::from(shown.body.is_some());
        if let Some(clock) = shown.clock {
            let ms = clock.wall.0;
            let (first, last) = self.clock_ms_claim.unwrap_or((ms, ms));
            self.clock_ms_claim = Some((first.min(ms), last.max(ms)));
        }
        for (field, is_shown) in [
            (Field::Kind, shown.kind.is_some()),
            (Field::Collection, shown.collection.is_some()),
            (Field::Object, shown.object.is_some()),
            (Field::Generation, shown.generation.is_some()),
            (Field::Actor, shown.actor.is_some()),
            (Field::Correlation, shown.correlation.is_some()),
            (Field::Personal, shown.personal.is_some()),
            (Field::Clock, shown.clock.is_some()),
            (Field::BodyDigest, shown.body_digest.is_some()),
        ] {
            if !is_shown {
                *self.hidden_fields.entry(field.name().to_owned()).or_default() += 1;
            }
        }
    }
}

fn kind_name(kind: u16) -> String {
    match kind {
        kind::DOCUMENT_CREATE => "document created".to_owned(),
        kind::DOCUMENT_CHANGE => "document changed".to_owned(),
        kind::DOCUMENT_DELETE => "document deleted".to_owned(),
        kind::GENESIS => "space founded".to_owned(),
        kind::ENROLMENT => "device enrolled".to_owned(),
        kind::CHANGE => "role changed".to_owned(),
        kind::REVOCATION => "devices shut out".to_owned(),
        kind::RECOVERY => "space recovered".to_owned(),
        kind::EPOCH => "epoch opened".to_owned(),
        kind::SNAPSHOT => "snapshot stated".to_owned(),
        kind::ERASE => "object erased".to_owned(),
        kind::ERASED => "erasure reported".to_owned(),
        kind::SEALING_KEY => "sealing key announced".to_owned(),
        kind::ADOPTION => "late edits adopted".to_owned(),
        kind::RETENTION => "retention set".to_owned(),
        kind::QUARANTINE => "device set aside, or not any more".to_owned(),
        kind::LACK => "bytes said to be lacking".to_owned(),
        kind::POLICY => "policy set".to_owned(),
        kind::CONTRACT => "contract set".to_owned(),
        other => format!("kind {other}"),
    }
}

fn check_acked_root(dir: &Path, acks: &[(usize, AckLine)], frontier: &Frontier) -> Result<()> {
    for (line, ack) in acks.iter().filter(|(_, ack)| ack.size == frontier.size()) {
        if ack.root != frontier.root().to_string() {
            let reason = "acknowledges another tree than the entries form; whose doing that is, \
                          only a second checkpoint of the log could show";
            return Err(refuted(&dir.join(ACKS), Some(*line), reason));
        }
    }
    Ok(())
}

/// The chain of admissions: genesis, and from there every device whose log is here.
fn admit(manifest: &Parsed, logs: &[Log], admissions: &[Admission]) -> Result<Roster> {
    let mut roster = Roster::new(manifest.space);
    for Admission { header, index, act } in admissions {
        // One that is void admits nobody, and whoever it would have admitted is found below.
        let _void = roster.apply(header, *index, act);
    }
    let founder = log_dir(&manifest.genesis_device);
    if roster.genesis().is_none_or(|act| act.founder.keys.signing != manifest.genesis_device) {
        let reason = "does not disclose the genesis act of this space by its founder";
        return Err(refuted(&founder.join(DISCLOSED), Some(1), reason));
    }
    for log in logs {
        roster.is_authorised(&log.first).map_err(|void| {
            refuted(&log_dir(&log.device).join(receipt_name(1)), None, void.to_string())
        })?;
    }
    Ok(roster)
}

fn acknowledge(space: SpaceId, log: &mut Log, roster: &Roster) -> Result<()> {
    let file = log_dir(&log.device).join(ACKS);
    for (line, ack) in &log.acks {
        let refuse = |reason: String| refuted(&file, Some(*line), reason);
        let root: Hash = ack.root.parse().map_err(|e| refuse(format!("root: {e}")))?;
        let held = Checkpoint { space, device: log.device, size: ack.size, root };
        let parsed = Ack::parse_note_line(&held, &ack.line).map_err(|e| refuse(e.to_string()))?;
        let by = roster
            .device(&parsed.acker)
            .ok_or_else(|| refuse("by a device that nothing here admits".to_owned()))?;
        parsed.verify(&by.keys.ack).map_err(|e| refuse(e.to_string()))?;
        if AckLine::new(&parsed, &by.keys.ack) != *ack || ack.size == 0 {
            return Err(refuse("not written as our acknowledgements are".to_owned()));
        }
        log.verdict.acknowledgements.push(AckVerdict {
            by: parsed.acker.to_string(),
            entries: ack.size,
            time_s_claim: parsed.time_s,
        });
    }
    Ok(())
}

fn conclude(manifest: &Parsed, logs: Vec<Log>, roster: &Roster) -> Verdict {
    let mut proven = vec![
        "the space is the one that its founder's first entry began".to_owned(),
        "each device was admitted by one that belonged to the space, and knew it when it began"
            .to_owned(),
        "what an entry names as its past is here: the order across devices holds".to_owned(),
        "what is disclosed is what the device committed to when it wrote the entry".to_owned(),
    ];
    let mut verdicts = Vec::with_capacity(logs.len());
    for Log { device, checkpoint, mut verdict, .. } in logs {
        if let Some(known) = roster.device(&device) {
            verdict.label.clone_from(&known.label);
            verdict.member = known.member.to_string();
            verdict.role = format!("{:?}", known.role).to_lowercase();
            verdict.founder = device == manifest.genesis_device;
        }
        proven.push(format!(
            "{device} signed entries 1 to {}: none is missing, none was changed",
            checkpoint.size
        ));
        verdicts.push(verdict);
    }
    let mut not_proven = vec![
        "that there are no later entries: each log is complete up to its checkpoint".to_owned(),
        "when anything happened: times are claims of the devices".to_owned(),
        "what hidden fields, undisclosed sections and sealed contents say".to_owned(),
        "that a device showed everyone the same log, beyond the acknowledgements above".to_owned(),
    ];
    let without_log = roster.devices().filter(|(id, _)| manifest.logs.binary_search(id).is_err());
    not_proven.extend(without_log.map(|(id, device)| {
        format!("what {id} ({:?}) wrote, if anything: its log is not in the export", device.label)
    }));
    Verdict {
        verified: true,
        space: manifest.space.to_string(),
        name: roster.name().map(ToString::to_string).unwrap_or_default(),
        exported_at_ms_claim: manifest.exported_at_ms,
        logs: verdicts,
        security: None,
        proven,
        not_proven,
    }
}

fn refuted(file: &Path, line: Option<usize>, reason: impl Into<String>) -> AuditError {
    AuditError::Refuted { file: file.to_owned(), line, reason: reason.into() }
}
