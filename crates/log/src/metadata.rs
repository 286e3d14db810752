use larder_crypto::hash::{equal, sha256};
use larder_crypto::kdf::HkdfSha256;
use larder_types::limits::{CLOCK_MS_MAX, NAME_BYTES_MAX, SECTION_BYTES_MAX};
use larder_types::{Clock, CollectionName, CorrelationId, EntryHash, Hash, ObjectId, canonical};

use crate::error::{DisclosureError, SectionError};
use crate::labels;
use crate::section::SectionCommitment;

/// What a section is about, as a number. Unknown kinds are stored and forwarded as they are.
pub mod kind {
    /// A document's flat first value.
    pub const DOCUMENT_CREATE: u16 = 1;
    /// A change to a document's history.
    pub const DOCUMENT_CHANGE: u16 = 2;
    /// A document's tombstone.
    pub const DOCUMENT_DELETE: u16 = 3;
    /// A blob's manifest: [`crate::blob::Manifest`].
    pub const BLOB: u16 = 4;
    /// [`crate::act::Genesis`].
    pub const GENESIS: u16 = 16;
    /// [`crate::act::EnrolmentAct`].
    pub const ENROLMENT: u16 = 17;
    /// [`crate::act::EpochAct`].
    pub const EPOCH: u16 = 18;
    /// [`crate::snapshot::SnapshotAct`].
    pub const SNAPSHOT: u16 = 19;
    /// [`crate::act::ChangeAct`].
    pub const CHANGE: u16 = 20;
    /// [`crate::act::RevocationAct`].
    pub const REVOCATION: u16 = 21;
    /// [`crate::act::RecoveryAct`].
    pub const RECOVERY: u16 = 22;
    /// [`crate::erasure::EraseAct`].
    pub const ERASE: u16 = 23;
    /// [`crate::erasure::ErasedAct`].
    pub const ERASED: u16 = 24;
    /// [`crate::act::SealingKeyAct`].
    pub const SEALING_KEY: u16 = 25;
    /// [`crate::adoption::AdoptionAct`].
    pub const ADOPTION: u16 = 40;
    /// [`crate::retention::RetentionAct`].
    pub const RETENTION: u16 = 26;
    /// [`crate::adoption::LackAct`].
    pub const LACK: u16 = 27;
    /// [`crate::contract::ContractAct`].
    pub const CONTRACT: u16 = 28;
    /// [`crate::quarantine::QuarantineAct`].
    pub const QUARANTINE: u16 = 37;
    /// [`crate::policy::PolicyAct`].
    pub const POLICY: u16 = 33;

    /// Whether sections of this kind are acts, and so CONTROL.
    pub const fn is_control(kind: u16) -> bool {
        16 <= kind && kind < 1024
    }
}

/// A section's metadata. Each field can be disclosed without the others.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Metadata {
    /// See [`kind`].
    #[n(0)]
    pub kind: u16,
    /// The collection of the object.
    #[n(1)]
    pub collection: Option<CollectionName>,
    /// The object.
    #[n(2)]
    pub object: Option<ObjectId>,
    /// The object's generation; none for the first, which is named by the entry itself.
    #[n(3)]
    pub generation: Option<EntryHash>,
    /// On whose behalf, as the app says. At most [`NAME_BYTES_MAX`] bytes.
    #[n(4)]
    pub actor: Option<String>,
    /// Ties units of work together, as the app says.
    #[n(5)]
    pub correlation: Option<CorrelationId>,
    /// When, as the author's clock claimed.
    #[n(6)]
    pub clock: Clock,
    /// What kinds of personal data its author's app found in the content, if it looked and found
    /// some: a bit for each ([`personal`]). Never what it found.
    #[n(7)]
    pub personal: Option<u8>,
}

/// The bits of [`Metadata::personal`].
pub mod personal {
    /// A way to reach somebody.
    pub const CONTACT: u8 = 1;
    /// Accounts, income, debts.
    pub const FINANCIAL: u8 = 2;
    /// Illness and treatment.
    pub const HEALTH: u8 = 4;
    /// What opens something.
    pub const CREDENTIALS: u8 = 8;
    /// Each of them.
    pub const ALL: [u8; 4] = [CONTACT, FINANCIAL, HEALTH, CREDENTIALS];
}

/// The fields that a section's metadata commitment is made of, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// [`Metadata::kind`].
    Kind = 1,
    /// [`Metadata::collection`].
    Collection = 2,
    /// [`Metadata::object`].
    Object = 3,
    /// [`Metadata::generation`].
    Generation = 4,
    /// [`Metadata::actor`].
    Actor = 5,
    /// [`Metadata::correlation`].
    Correlation = 6,
    /// [`Metadata::clock`].
    Clock = 7,
    /// The salted digest of the body.
    BodyDigest = 8,
    /// [`Metadata::personal`].
    Personal = 9,
}

impl Field {
    /// All fields, in order.
    pub const ALL: [Self; 9] = [
        Self::Kind,
        Self::Collection,
        Self::Object,
        Self::Generation,
        Self::Actor,
        Self::Correlation,
        Self::Clock,
        Self::BodyDigest,
        Self::Personal,
    ];

    /// The name in exports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Collection => "collection",
            Self::Object => "object",
            Self::Generation => "generation",
            Self::Actor => "actor",
            Self::Correlation => "correlation",
            Self::Clock => "clock",
            Self::BodyDigest => "body_digest",
            Self::Personal => "personal",
        }
    }
}

/// A section with all it takes to verify it by its author's header alone (its *carried* form).
///
/// Whoever has this can open every field and the body; [`Self::disclose`] gives less away.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Opened {
    /// All salts derive from it. Random; never disclosed itself.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub meta_salt: [u8; 16],
    /// What the section is about.
    #[n(1)]
    pub metadata: Metadata,
    /// The content, as the kind defines it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub body: Vec<u8>,
}

impl Opened {
    /// The canonical encoding: what is sealed, and what travels, packed, as
    /// [`crate::Payload::Opened`].
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads an opened section.
    ///
    /// # Errors
    /// [`SectionError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SectionError> {
        let opened: Self = canonical::decode(bytes, SECTION_BYTES_MAX)
            .map_err(|e| SectionError::Malformed(e.to_string()))?;
        opened.check()?;
        Ok(opened)
    }

    pub(crate) fn check(&self) -> Result<(), SectionError> {
        match &self.metadata.actor {
            Some(actor) if actor.len() > NAME_BYTES_MAX => {
                Err(SectionError::Malformed("an actor longer than a name may be".to_owned()))
            }
            // Not every database holds a larger number.
            _ if self.metadata.clock.wall.0 > CLOCK_MS_MAX => {
                Err(SectionError::Malformed("a clock beyond the year 9999".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The public commitment to metadata and body.
    pub fn meta_commitment(&self) -> Hash {
        let salts = self.salts();
        meta_commitment(
            &Field::ALL
                .map(|field| field_commitment(&salts.field(field), &self.value(field, &salts))),
        )
    }

    /// Whether this is the section that `commitment` was made for.
    pub fn matches(&self, commitment: &SectionCommitment) -> bool {
        equal(self.meta_commitment().as_bytes(), commitment.meta.as_bytes())
    }

    /// Opens `fields`, and the body if `with_body`, and hides the rest. The body's digest is
    /// shown with the body, for without it nothing binds the body.
    pub fn disclose(&self, fields: &[Field], with_body: bool) -> Disclosure {
        let salts = self.salts();
        Disclosure {
            fields: Field::ALL.map(|field| {
                let salt = salts.field(field);
                let value = self.value(field, &salts);
                if fields.contains(&field) || (with_body && field == Field::BodyDigest) {
                    DisclosedField::Shown { salt, value }
                } else {
                    DisclosedField::Hidden(field_commitment(&salt, &value))
                }
            }),
            body: with_body.then(|| (salts.body(), self.body.clone())),
        }
    }

    fn salts(&self) -> Salts {
        Salts(HkdfSha256::new(&self.meta_salt, &[]))
    }

    /// The field's canonical encoding, null for none.
    fn value(&self, field: Field, salts: &Salts) -> Vec<u8> {
        let metadata = &self.metadata;
        match field {
            Field::Kind => canonical::encode(&metadata.kind),
            Field::Collection => canonical::encode(&metadata.collection),
            Field::Object => canonical::encode(&metadata.object),
            Field::Generation => canonical::encode(&metadata.generation),
            Field::Actor => canonical::encode(&metadata.actor),
            Field::Correlation => canonical::encode(&metadata.correlation),
            Field::Clock => canonical::encode(&metadata.clock),
            Field::BodyDigest => canonical::encode(&body_digest(&salts.body(), &self.body)),
            Field::Personal => canonical::encode(&metadata.personal),
        }
    }
}

/// One field of a [`Disclosure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisclosedField {
    /// Only its commitment.
    Hidden(Hash),
    /// Its salt and its canonical encoding.
    Shown {
        /// The field's own salt.
        salt: [u8; 32],
        /// The value, CBOR; null for none.
        value: Vec<u8>,
    },
}

/// Some of a section's metadata, verifiable against its commitment, with the rest hidden behind
/// salted hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disclosure {
    /// In the order of [`Field::ALL`].
    pub fields: [DisclosedField; 9],
    /// The body's salt, and the body.
    pub body: Option<([u8; 32], Vec<u8>)>,
}

/// What a verified disclosure shows. The outer `None` means hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DisclosedMetadata {
    /// [`Metadata::kind`].
    pub kind: Option<u16>,
    /// [`Metadata::collection`].
    pub collection: Option<Option<CollectionName>>,
    /// [`Metadata::object`].
    pub object: Option<Option<ObjectId>>,
    /// [`Metadata::generation`].
    pub generation: Option<Option<EntryHash>>,
    /// [`Metadata::actor`].
    pub actor: Option<Option<String>>,
    /// [`Metadata::correlation`].
    pub correlation: Option<Option<CorrelationId>>,
    /// [`Metadata::clock`]; a claim.
    pub clock: Option<Clock>,
    /// [`Metadata::personal`].
    pub personal: Option<Option<u8>>,
    /// The salted digest of the body.
    pub body_digest: Option<Hash>,
    /// The body.
    pub body: Option<Vec<u8>>,
}

impl Disclosure {
    /// Checks everything disclosed against the author's commitment.
    ///
    /// # Errors
    /// [`DisclosureError`].
    pub fn verify(
        &self,
        commitment: &SectionCommitment,
    ) -> Result<DisclosedMetadata, DisclosureError> {
        let commitments = self.fields.each_ref().map(|field| match field {
            DisclosedField::Hidden(hash) => *hash,
            DisclosedField::Shown { salt, value } => field_commitment(salt, value),
        });
        if meta_commitment(&commitments) != commitment.meta {
            return Err(DisclosureError::Meta);
        }
        let [kind, collection, object, generation, actor, correlation, clock, digest, personal] =
            &self.fields;
        let body_digest: Option<Hash> = read(digest, Field::BodyDigest)?;
        let body = match &self.body {
            None => None,
            Some((salt, body)) if body_digest == Some(crate::metadata::body_digest(salt, body)) => {
                Some(body.clone())
            }
            Some(_) => return Err(DisclosureError::Body),
        };
        Ok(DisclosedMetadata {
            kind: read(kind, Field::Kind)?,
            collection: read(collection, Field::Collection)?,
            object: read(object, Field::Object)?,
            generation: read(generation, Field::Generation)?,
            actor: read(actor, Field::Actor)?,
            correlation: read(correlation, Field::Correlation)?,
            clock: read(clock, Field::Clock)?,
            personal: read(personal, Field::Personal)?,
            body_digest,
            body,
        })
    }
}

fn read<T>(disclosed: &DisclosedField, field: Field) -> Result<Option<T>, DisclosureError>
where
    T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    match disclosed {
        DisclosedField::Hidden(_) => Ok(None),
        DisclosedField::Shown { value, .. } => canonical::decode(value, SECTION_BYTES_MAX)
            .map(Some)
            .map_err(|_| DisclosureError::Malformed { field: field.name() }),
    }
}

/// The salts that derive from one metadata salt.
struct Salts(HkdfSha256);

impl Salts {
    fn field(&self, field: Field) -> [u8; 32] {
        self.derive(&[field as u8])
    }

    fn body(&self) -> [u8; 32] {
        self.derive(b"body")
    }

    fn derive(&self, which: &[u8]) -> [u8; 32] {
        *self.0.expand(&[labels::SALT, which].concat()).expose()
    }
}

fn field_commitment(salt: &[u8; 32], value: &[u8]) -> Hash {
    sha256(&[labels::FIELD, salt, value])
}

fn meta_commitment(fields: &[Hash; 9]) -> Hash {
    sha256(&[labels::META, &fields.each_ref().map(|hash| *hash.as_bytes()).concat()])
}

fn body_digest(salt: &[u8; 32], body: &[u8]) -> Hash {
    sha256(&[labels::BODY, salt, body])
}
