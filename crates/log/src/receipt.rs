use data_encoding::BASE64;
use larder_types::Hash;
use larder_types::limits::HEADER_BYTES_MAX;
use larder_types::limits::PROOF_HASHES_MAX;

use crate::checkpoint::{Checkpoint, parse_hash};
use crate::error::NoteError;
use crate::header::{Header, entry_hash};
use crate::merkle;
use crate::note::{self, malformed};
use crate::section::SectionCommitment;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Proof that an entry was committed: its header, where it stands in its device's log, and the
/// device's signature over that log. 1 to 2 KB at a million entries; checked with public keys
/// alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The exact bytes of the entry's header.
    pub header: Vec<u8>,
    /// The leaf's index, one less than the entry's seq.
    pub index: u64,
    /// From the leaf's sibling up.
    pub proof: Vec<Hash>,
    /// The signed tree.
    pub checkpoint: Checkpoint,
    /// The device's signature of the checkpoint.
    pub signature: [u8; 64],
    /// For one object of the entry: its section. Not a part of the tlog-proof text.
    pub object: Option<ObjectProof>,
}

/// Proof that a section belongs to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectProof {
    /// The section's place in the entry.
    pub index: u32,
    /// The section's public half.
    pub commitment: SectionCommitment,
    /// From the section's sibling up to the header's sections root.
    pub path: Vec<Hash>,
}

impl ObjectProof {
    /// The proof for section `index` of the entry with these sections; none if it has fewer.
    pub fn new(commitments: &[SectionCommitment], index: u32) -> Option<Self> {
        let commitment = commitments.get(usize::try_from(index).ok()?)?.clone();
        let nodes = merkle::MemoryNodes::new(commitments.iter().map(SectionCommitment::leaf));
        let size = u64::try_from(commitments.len()).ok()?;
        let Ok(path) = merkle::inclusion_proof(&nodes, u64::from(index), size);
        Some(Self { index, commitment, path })
    }

    /// Checks that the section belongs to the entry with this header.
    ///
    /// # Errors
    /// [`NoteError::Proof`].
    pub fn verify(&self, header: &Header) -> Result<(), NoteError> {
        merkle::verify_inclusion(
            &self.commitment.leaf(),
            u64::from(self.index),
            u64::from(header.n),
            &self.path,
            &header.sections_root,
        )
        .map_err(NoteError::Proof)
    }
}

impl Receipt {
    /// The receipt as a C2SP tlog-proof, version 1; `extra` is the header.
    pub fn to_tlog_proof(&self) -> String {
        let extra = BASE64.encode(&self.header);
        let mut text = format!("{FIRST_LINE}\nextra {extra}\nindex {}\n", self.index);
        for hash in &self.proof {
            text.push_str(&BASE64.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint.to_note(&self.signature));
        text
    }

    /// Reads a tlog-proof. Does not verify.
    ///
    /// # Errors
    /// [`NoteError::Malformed`], [`NoteError::NoSignature`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        if text.len() > note::NOTE_BYTES_MAX + 2 * HEADER_BYTES_MAX {
            return Err(malformed(1, "the receipt is too long"));
        }
        let (proof, note) =
            text.split_once("\n\n").ok_or(malformed(1, "no blank line before the checkpoint"))?;
        let mut lines = proof.split('\n').zip(1..);
        let mut line = |reason| lines.next().ok_or(malformed(1, reason));
        if line("empty")?.0 != FIRST_LINE {
            return Err(malformed(1, "not a tlog-proof of version 1"));
        }
        let header = line("no header")?
            .0
            .strip_prefix("extra ")
            .and_then(|extra| BASE64.decode(extra.as_bytes()).ok())
            .ok_or(malformed(2, "no header in base64 after 'extra'"))?;
        let index = line("no index")?
            .0
            .strip_prefix("index ")
            .and_then(note::parse_decimal)
            .ok_or(malformed(3, "no decimal number after 'index'"))?;
        let mut hashes = Vec::new();
        for (line, number) in lines {
            let hash = parse_hash(line).ok_or(malformed(number, "not a hash in base64"))?;
            if hashes.len() == PROOF_HASHES_MAX {
                return Err(malformed(number, "more hashes than any tree needs"));
            }
            hashes.push(hash);
        }
        let (checkpoint, signature) = Checkpoint::parse_note_at(note, hashes.len() + 5)?;
        Ok(Self { header, index, proof: hashes, checkpoint, signature, object: None })
    }

    /// The entry's header, which belongs to the log and the index that the receipt is about.
    ///
    /// # Errors
    /// [`NoteError::Header`], [`NoteError::WrongEntry`].
    pub fn entry(&self) -> Result<Header, NoteError> {
        let header = Header::decode(&self.header)?;
        let is_here = header.seq - 1 == self.index
            && header.device == self.checkpoint.device
            && header.space_id() == self.checkpoint.space;
        if is_here { Ok(header) } else { Err(NoteError::WrongEntry) }
    }

    /// Checks everything that the receipt claims, with the device's public key alone, which is
    /// the device id in the checkpoint. Whether that device belonged to the space is another
    /// question, which its enrolment answers.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn verify(&self) -> Result<Header, NoteError> {
        self.checkpoint.verify(&self.signature)?;
        self.verify_under_known_checkpoint()
    }

    /// As [`Self::verify`], for one whose checkpoint and signature were verified already: all
    /// receipts of one log may share them.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn verify_under_known_checkpoint(&self) -> Result<Header, NoteError> {
        let header = self.entry()?;
        merkle::verify_inclusion(
            &entry_hash(&self.header).into(),
            self.index,
            self.checkpoint.size,
            &self.proof,
            &self.checkpoint.root,
        )?;
        if let Some(object) = &self.object {
            object.verify(&header)?;
        }
        Ok(header)
    }
}
