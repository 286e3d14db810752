//! The files of an export, and what writes them. The verifier reads them through the same types.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use larder_log::ack::{Ack, AckPublic};
use larder_log::act::Act;
use larder_log::checkpoint::{self, Checkpoint};
use larder_log::security::{Event, Kind};
use larder_log::{DisclosedField, Disclosure, Field, Opened, Receipt, SectionCommitment, kind};
use larder_types::{DeviceId, Hash, SpaceId, Timestamp, hex, unhex};
use serde::{Deserialize, Serialize};

/// The manifest's file name; written last, so that an export without one is unfinished.
pub const MANIFEST: &str = "export.json";
/// The folder of logs, one folder for each device.
pub const LOGS: &str = "logs";
/// The latest signed checkpoint of a log.
pub const CHECKPOINT: &str = "checkpoint";
/// The verifier key of a log, one line.
pub const VERIFIER_KEY: &str = "verifier.key";
/// Other devices' acknowledgements of a log, one [`AckLine`] a line.
pub const ACKS: &str = "acks.jsonl";
/// The sections of a log's entries, one [`SectionLine`] a line, in order.
pub const DISCLOSED: &str = "disclosed.jsonl";
/// The security log of the device that made the export, one [`SecurityLine`] a line.
pub const SECURITY: &str = "security.jsonl";
/// [`Manifest::format`].
pub const FORMAT: &str = "larder-receipts";
/// [`Manifest::v`].
pub const VERSION: u8 = 0;

/// The folder of a device's log.
pub fn log_dir(device: &DeviceId) -> PathBuf {
    Path::new(LOGS).join(device.to_string())
}

/// The file name of an entry's receipt.
pub fn receipt_name(seq: u64) -> String {
    format!("{seq}.tlog-proof")
}

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub v: u8,
    /// The space, hex.
    pub space: String,
    /// The founder's device, hex; its first entry's leaf hash is the space.
    pub genesis_device: String,
    /// When the export was made; a claim that nothing signs.
    pub exported_at_ms: u64,
    /// The devices whose logs are here, hex, in order.
    pub logs: Vec<String>,
    /// The device whose security log is here, hex: the one that made the export.
    pub security: Option<String>,
}

/// An event of a security log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityLine {
    /// Its number.
    pub seq: u64,
    /// When, as the device's clock had it; a claim.
    pub at_ms: u64,
    /// What kind of event, by name.
    pub kind: String,
    /// The device that it is about, hex.
    pub device: Option<String>,
    /// A few words.
    pub detail: String,
    /// How often it had happened by then.
    pub count: u64,
    /// The hash of the event before, hex.
    pub before: String,
    /// The device's signature, hex.
    pub signature: String,
}

impl SecurityLine {
    /// The line of an event; none for one of a newer version.
    pub fn new(event: &Event, signature: &[u8; 64]) -> Option<Self> {
        Some(Self {
            seq: event.seq,
            at_ms: event.at_ms,
            kind: event.kind()?.name().to_owned(),
            device: event.device.map(|device| device.to_string()),
            detail: event.detail.clone(),
            count: event.count,
            before: event.before.to_string(),
            signature: hex(signature),
        })
    }

    /// The event, and its signature.
    ///
    /// # Errors
    /// What is malformed.
    pub fn event(&self) -> Result<(Event, [u8; 64]), String> {
        let kind = Kind::from_name(&self.kind).ok_or("kind: not one of this version")?;
        let device = self.device.as_ref().map(|text| text.parse::<DeviceId>()).transpose();
        let device = device.map_err(|e| format!("device: {e}"))?;
        let before = parse("before", &self.before)?;
        let numbers = (self.seq, self.at_ms, self.count);
        let event = Event::from_parts(numbers, kind, device, self.detail.clone(), before);
        let signature = unhex(&self.signature).map_err(|e| format!("signature: {e}"))?;
        Ok((event, signature))
    }
}

/// A section's public half, and what of it is disclosed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SectionLine {
    /// The entry.
    pub seq: u64,
    /// The section in it, from 0.
    pub index: u32,
    /// The leaf of the entry's section tree.
    pub commitment: CommitmentLine,
    /// The metadata fields, all nine in order; nothing at all if the exporter cannot open it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fields: Option<Vec<FieldLine>>,
    /// The body.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<BodyLine>,
}

/// A [`SectionCommitment`], with hashes and salts in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of SectionCommitment")]
pub struct CommitmentLine {
    pub class: u8,
    pub masked_band: u8,
    pub meta: String,
    pub sealed: String,
    pub len: u64,
    pub key_salt: String,
}

/// A metadata field: shown with its salt, or hidden behind its commitment. All in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FieldLine {
    /// A field that anyone may read.
    Shown {
        /// [`Field::name`].
        field: String,
        /// The field's salt.
        salt: String,
        /// The value's canonical CBOR.
        value: String,
    },
    /// A field that only its hash is shown of.
    Hidden {
        /// [`Field::name`].
        field: String,
        /// The field's commitment.
        hidden: String,
    },
}

/// A disclosed body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyLine {
    /// The body's salt, hex.
    pub salt: String,
    /// The body, base64.
    pub bytes: String,
}

/// An acknowledgement: a cosignature line, and the size and root that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckLine {
    /// The size of the tree.
    pub size: u64,
    /// Its root, hex.
    pub root: String,
    /// The signature line, without its newline. It belongs under the note of that checkpoint.
    pub line: String,
}

/// Whether sections of this kind say who belongs to the space.
pub(crate) fn says_who_belongs(kind: u16) -> bool {
    kind == kind::GENESIS || Act::MEMBERSHIP.contains(&kind)
}

/// What is shown of a section unless somebody chooses otherwise: all of the genesis and of acts of
/// membership, since the chain of admissions rests on them; kind, collection, object, clock and
/// the salted body digest of everything else.
pub fn disclose_by_default(opened: &Opened) -> Disclosure {
    match opened.metadata.kind {
        kind if says_who_belongs(kind) => opened.disclose(&Field::ALL, true),
        _ => opened.disclose(
            &[Field::Kind, Field::Collection, Field::Object, Field::Clock, Field::BodyDigest],
            false,
        ),
    }
}

impl SectionLine {
    /// The line of section `index` of entry `seq`.
    pub fn new(
        seq: u64,
        index: u32,
        commitment: &SectionCommitment,
        disclosure: Option<&Disclosure>,
    ) -> Self {
        Self {
            seq,
            index,
            commitment: CommitmentLine {
                class: commitment.class,
                masked_band: commitment.masked_band,
                meta: commitment.meta.to_string(),
                sealed: commitment.sealed.to_string(),
                len: commitment.len,
                key_salt: hex(&commitment.key_salt),
            },
            fields: disclosure.map(|disclosure| {
                Field::ALL.iter().zip(&disclosure.fields).map(FieldLine::new).collect()
            }),
            body: disclosure
                .and_then(|disclosure| disclosure.body.as_ref())
                .map(|(salt, body)| BodyLine { salt: hex(salt), bytes: BASE64.encode(body) }),
        }
    }

    /// The public half.
    ///
    /// # Errors
    /// What is malformed.
    pub fn commitment(&self) -> Result<SectionCommitment, String> {
        let line = &self.commitment;
        Ok(SectionCommitment {
            class: line.class,
            masked_band: line.masked_band,
            meta: parse("meta", &line.meta)?,
            sealed: parse("sealed", &line.sealed)?,
            len: line.len,
            key_salt: unhex(&line.key_salt).map_err(|e| format!("key_salt: {e}"))?,
        })
    }

    /// What is disclosed, if anything is.
    ///
    /// # Errors
    /// What is malformed.
    pub fn disclosure(&self) -> Result<Option<Disclosure>, String> {
        let Some(lines) = &self.fields else {
            let body_alone = self.body.is_some();
            return if body_alone { Err("a body without fields".to_owned()) } else { Ok(None) };
        };
        let mut fields = Vec::with_capacity(Field::ALL.len());
        for (line, field) in lines.iter().zip(Field::ALL) {
            fields.push(line.read(field)?);
        }
        let fields: [DisclosedField; 9] =
            fields.try_into().map_err(|_| "not the nine fields".to_owned())?;
        if lines.len() != fields.len() {
            return Err("not the nine fields".to_owned());
        }
        let body = self.body.as_ref().map(|body| {
            let salt = unhex(&body.salt).map_err(|e| format!("body salt: {e}"))?;
            let bytes = BASE64.decode(body.bytes.as_bytes()).map_err(|e| format!("body: {e}"))?;
            Ok::<_, String>((salt, bytes))
        });
        Ok(Some(Disclosure { fields, body: body.transpose()? }))
    }
}

impl FieldLine {
    fn new((field, disclosed): (&Field, &DisclosedField)) -> Self {
        let field = field.name().to_owned();
        match disclosed {
            DisclosedField::Hidden(hash) => Self::Hidden { field, hidden: hash.to_string() },
            DisclosedField::Shown { salt, value } => {
                Self::Shown { field, salt: hex(salt), value: hex(value) }
            }
        }
    }

    fn read(&self, expected: Field) -> Result<DisclosedField, String> {
        let (Self::Shown { field, .. } | Self::Hidden { field, .. }) = self;
        if field != expected.name() {
            return Err(format!("field '{field}' where '{}' belongs", expected.name()));
        }
        match self {
            Self::Hidden { hidden, .. } => Ok(DisclosedField::Hidden(parse(field, hidden)?)),
            Self::Shown { salt, value, .. } => Ok(DisclosedField::Shown {
                salt: unhex(salt).map_err(|e| format!("salt of {field}: {e}"))?,
                value: HEXLOWER
                    .decode(value.as_bytes())
                    .map_err(|e| format!("value of {field}: {e}"))?,
            }),
        }
    }
}

impl AckLine {
    /// The line of an acknowledgement by the holder of `key`.
    pub fn new(ack: &Ack, key: &AckPublic) -> Self {
        let mut line = ack.to_note_line(key);
        line.truncate(line.trim_end_matches('\n').len());
        Self { size: ack.size, root: ack.root.to_string(), line }
    }
}

fn parse(name: &str, text: &str) -> Result<Hash, String> {
    text.parse().map_err(|e| format!("{name}: {e}"))
}

/// Writes an export: [`Self::log`] for each log, then [`Self::finish`].
#[derive(Debug)]
pub struct ExportWriter {
    root: PathBuf,
    manifest: Manifest,
}

/// Writes one log of an export: [`Self::entry`] for each entry in order, then [`Self::finish`].
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    disclosed: BufWriter<File>,
}

impl ExportWriter {
    /// Starts an export in `root`, which is made if it is not there.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is an export or a part of one; other I/O errors.
    pub fn create(
        root: &Path,
        space: &SpaceId,
        genesis_device: &DeviceId,
        exported_at: Timestamp,
    ) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        fs::create_dir(root.join(LOGS))?;
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            v: VERSION,
            space: space.to_string(),
            genesis_device: genesis_device.to_string(),
            exported_at_ms: exported_at.0,
            logs: Vec::new(),
            security: None,
        };
        Ok(Self { root: root.to_owned(), manifest })
    }

    /// Starts the log of `device`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn log(&mut self, device: &DeviceId) -> io::Result<LogWriter> {
        let dir = self.root.join(log_dir(device));
        fs::create_dir(&dir)?;
        self.manifest.logs.push(device.to_string());
        let disclosed = BufWriter::new(File::create_new(dir.join(DISCLOSED))?);
        Ok(LogWriter { dir, disclosed })
    }

    /// Writes the security log of `device`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn security(&mut self, device: &DeviceId, events: &[SecurityLine]) -> io::Result<()> {
        let mut file = BufWriter::new(File::create_new(self.root.join(SECURITY))?);
        for event in events {
            writeln!(file, "{}", serde_json::to_string(event)?)?;
        }
        self.manifest.security = Some(device.to_string());
        file.flush()
    }

    /// Writes the manifest, which completes the export.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(mut self) -> io::Result<()> {
        self.manifest.logs.sort_unstable();
        fs::write(self.root.join(MANIFEST), manifest_text(&self.manifest)?)
    }
}

impl LogWriter {
    /// Writes the next entry: its receipt against the log's latest checkpoint, and a line for
    /// each of its sections.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn entry(&mut self, receipt: &Receipt, sections: &[SectionLine]) -> io::Result<()> {
        let name = receipt_name(receipt.index.saturating_add(1));
        fs::write(self.dir.join(name), receipt.to_tlog_proof())?;
        for section in sections {
            writeln!(self.disclosed, "{}", serde_json::to_string(section)?)?;
        }
        Ok(())
    }

    /// Writes the checkpoint that all the receipts are against, and the acknowledgements of it
    /// and of earlier ones. One of a larger tree would show that the export lacks entries, and is
    /// refuted.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(
        mut self,
        checkpoint: &Checkpoint,
        signature: &[u8; 64],
        acks: &[AckLine],
    ) -> io::Result<()> {
        self.disclosed.flush()?;
        fs::write(self.dir.join(CHECKPOINT), checkpoint.to_note(signature))?;
        let vkey = checkpoint::vkey(&checkpoint.space, &checkpoint.device);
        fs::write(self.dir.join(VERIFIER_KEY), format!("{vkey}\n"))?;
        let mut file = BufWriter::new(File::create_new(self.dir.join(ACKS))?);
        for ack in acks {
            writeln!(file, "{}", serde_json::to_string(ack)?)?;
        }
        file.flush()
    }
}

/// The one text of a manifest.
///
/// # Errors
/// None in practice: those of `serde_json`.
pub fn manifest_text(manifest: &Manifest) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(manifest)? + "\n")
}
