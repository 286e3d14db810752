use std::net::SocketAddr;

use larder_engine::{Heads, Object, PagesError, StoreError, StoreErrorKind};
use larder_protocol::pairing::Refusal;
use larder_protocol::{GreetingError, InvitationError, PairingError};
use larder_types::{CloseCode, ObjectId, SpaceName};
use tokio::sync::watch;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for a program to act upon; the [`Error`] itself is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The passphrase or key does not open the profile.
    WrongPassphrase,
    /// Another process has the profile open.
    InUse,
    /// There is no such profile, space, document or receipt.
    NotFound,
    /// The content of a blob is not on this device, or not all of it, or nothing is known of it.
    NotHere,
    /// There is one already.
    AlreadyExists,
    /// The document was deleted, which is for ever.
    Deleted,
    /// The document is in the trash.
    Trashed,
    /// More documents would go at once than anybody was asked about:
    /// [`UnitOfWork::confirm_removals`](crate::UnitOfWork::confirm_removals).
    RemovesMany,
    /// The document changed since it was read, or an idempotency key came back with other content.
    Conflict,
    /// A contract of the app's refuses what is to be written.
    Contract,
    /// The call or its input makes no sense.
    Invalid,
    /// The invitation cannot be used.
    Invitation,
    /// The other device does not answer, or no longer.
    Unreachable,
    /// The other device, or what it may do, stands against it.
    Refused,
    /// This device may not: by its role or clearance in the space, because it was shut out of it,
    /// or because its enrolment has not arrived yet. Its status says which, and its error what to
    /// do.
    NotAllowed,
    /// What is stored is damaged.
    Corrupt,
    /// No space left.
    DiskFull,
    /// Something is in use for the moment: try again.
    Busy,
    /// The profile was opened for reading only.
    ReadOnly,
    /// The operating system could not read, write or listen.
    Io,
    /// A fault of the program.
    Internal,
}

/// Everything that can go wrong, sorted by whose doing it was. [`Error::kind`] is what to match
/// on; the message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The peer.
    /// There is no connection with the other device, or no longer.
    #[error(transparent)]
    Transport(#[from] larder_transport::Error),
    /// The two devices cannot talk.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// Pairing came to nothing.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The sync of a space ended before both sides had everything.
    #[error(
        "the sync of {space} was ended by {}: {code}{}; what was received until then is safe, \
         sync again for the rest",
        if *by_peer { "the other device" } else { "this device" },
        if message.is_empty() { String::new() } else { format!(" ({message})") }
    )]
    Session {
        /// The space.
        space: SpaceName,
        /// Why.
        code: CloseCode,
        /// The same for people.
        message: String,
        /// Whether the other device ended it.
        by_peer: bool,
    },
    /// The other device has none of this device's spaces.
    #[error(
        "the other device shares no space with this one: join with an invitation first, and sync \
         with the device that invited"
    )]
    NothingShared,
    /// It is not known where the other device is.
    #[error("no address of {0} is known: let that device connect to this one, or name its address")]
    NoAddress(String),
    /// The time that was given was over before the other device had answered.
    #[error("the time was over before {0} had answered: sync again")]
    OutOfTime(String),
    /// The device at this address is none of those known here.
    #[error("no device of any of this profile's spaces answered at {0}")]
    Stranger(SocketAddr),

    // Storage and authority.
    /// The device's own storage, keys or rules.
    #[error(transparent)]
    Engine(larder_engine::Error),
    /// What is BLACK of a space cannot be read, and what was asked for may be there alone. All else
    /// of the space can be read.
    #[error(
        "what is BLACK of it cannot be read, in {space} ({source}): run `larder check --repair`. \
         All else can be read, and new documents can be created"
    )]
    Black {
        /// The space that has what is BLACK.
        space: SpaceName,
        /// Why it cannot be read.
        source: Box<Error>,
    },
    /// The document changed since the caller read it.
    #[error("document {object} was changed since it was read: read it again and redo the edit")]
    Conflict {
        /// Which document.
        object: ObjectId,
        /// Its heads now.
        heads: Heads,
        /// Its value now.
        current: Box<Object>,
    },

    // Misuse.
    /// The text is no invitation.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The inviting device honours no invitation any more, or never gave this one.
    #[error(
        "the inviting device has no open invitation: this one was used before, was tried too \
         often, has expired or was withdrawn; ask for a new one"
    )]
    InvitationClosed,
    /// The invitation's time is over and nobody came.
    #[error("the invitation has expired without being used: make a new one")]
    InvitationExpired,
    /// The device that asked to be let in has ended the conversation.
    #[error("the device that asked to be let in is gone; it may ask again")]
    PairingGone,
    /// No device on the local network has an invitation open.
    #[error(
        "no device in this network invites anybody now; `larder invite --code` has to run there, \
         or name its address"
    )]
    NobodyInvites,
    /// The text is no recovery kit's words; why, without any of them.
    #[error("these are not the words of a recovery kit: {0}")]
    RecoveryWords(String),
    /// The text is no short code.
    #[error(transparent)]
    ShortCode(#[from] larder_protocol::pairing::NotAShortCode),
    /// The profile was closed.
    #[error("the profile is closed: open it again")]
    Closed,
    /// The document does not have the shape of the type it is read as.
    #[error("document {object} does not have the expected shape: {source}")]
    Shape {
        /// Which document.
        object: ObjectId,
        /// What does not fit.
        source: serde_json::Error,
    },

    // Internal.
    /// A state that should not be possible.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport(error) => of_transport(error),
            Self::Greeting(GreetingError::TooManySpaces { .. })
            | Self::Shape { .. }
            | Self::RecoveryWords(_)
            | Self::Closed => ErrorKind::Invalid,
            Self::Pairing(PairingError::Refused { refusal: Refusal::Busy, .. }) => ErrorKind::Busy,
            Self::Pairing(
                PairingError::Malformed(_)
                | PairingError::OutOfBounds(_)
                | PairingError::BadKeys(_),
            )
            | Self::Greeting(_)
            | Self::NothingShared
            | Self::Stranger(_) => ErrorKind::Refused,
            Self::Pairing(_)
            | Self::Invitation(_)
            | Self::InvitationClosed
            | Self::PairingGone
            | Self::ShortCode(_)
            | Self::InvitationExpired => ErrorKind::Invitation,
            Self::Session { code, by_peer, .. } => match code {
                CloseCode::Storage if !by_peer => ErrorKind::Io,
                CloseCode::Internal if !by_peer => ErrorKind::Internal,
                code => of_code(*code),
            },
            Self::NoAddress(_) | Self::OutOfTime(_) | Self::NobodyInvites => ErrorKind::Unreachable,
            Self::Engine(error) => of_engine(error),
            Self::Black { source, .. } => source.kind(),
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

fn of_transport(error: &larder_transport::Error) -> ErrorKind {
    use larder_transport::Error as E;
    match error {
        E::Unreachable { .. } | E::TimedOut | E::Cut { .. } => ErrorKind::Unreachable,
        E::Busy { .. } => ErrorKind::Busy,
        E::Closed { code, .. } => of_code(*code),
        E::Bind { .. } | E::Discovery(_) => ErrorKind::Io,
        E::LocallyClosed => ErrorKind::Invalid,
        E::Tls(_) => ErrorKind::Internal,
        _ => ErrorKind::Refused,
    }
}

fn of_code(code: CloseCode) -> ErrorKind {
    match code {
        CloseCode::Done | CloseCode::ShuttingDown | CloseCode::TimedOut => ErrorKind::Unreachable,
        CloseCode::Busy => ErrorKind::Busy,
        _ => ErrorKind::Refused,
    }
}

fn of_engine(error: &larder_engine::Error) -> ErrorKind {
    use larder_engine::Error as E;
    match error {
        E::Refused { .. } => ErrorKind::Refused,
        E::Store(error) => of_store(error),
        E::Pages(error) => of_pages(error),
        E::Corrupt(_) => ErrorKind::Corrupt,
        E::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            ErrorKind::DiskFull
        }
        E::InUse(_) => ErrorKind::InUse,
        E::WrongPassphrase => ErrorKind::WrongPassphrase,
        E::Invitation(_) => ErrorKind::Invitation,
        E::Invalid(_) | E::Document(_) => ErrorKind::Invalid,
        E::NotCleared { .. }
        | E::Lowered { .. }
        | E::StaysHere { .. }
        | E::MayNotWrite(_)
        | E::Auditor
        | E::ShutOut
        | E::NotYetEnrolled => ErrorKind::NotAllowed,
        E::NotFound(_) | E::Pruned(_) => ErrorKind::NotFound,
        E::BlobNotHere { .. } | E::BlobNotKnown(_) => ErrorKind::NotHere,
        E::AlreadyExists(_) => ErrorKind::AlreadyExists,
        E::Deleted(_) => ErrorKind::Deleted,
        E::Trashed(_) => ErrorKind::Trashed,
        E::RemovesMany { .. } => ErrorKind::RemovesMany,
        E::Conflict { .. } | E::IdempotencyKeyReused => ErrorKind::Conflict,
        E::Contract { .. } | E::ContractBand { .. } | E::ContractAbove { .. } => {
            ErrorKind::Contract
        }
        E::ReadOnly
        | E::RolledBack { .. }
        | E::OtherHistory
        | E::Renewed
        | E::Recovering { .. } => ErrorKind::ReadOnly,
        E::Io { .. } | E::Transaction(_) | E::Search(_) | E::RekeyFailed => ErrorKind::Io,
        _ => ErrorKind::Internal,
    }
}

fn of_store(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::Newer { .. } | StoreError::Older { .. } => ErrorKind::Invalid,
        StoreError::Open { source } if source.is::<larder_engine::Error>() => {
            source.downcast_ref().map_or(ErrorKind::Io, of_engine)
        }
        error => match error.kind() {
            StoreErrorKind::Busy => ErrorKind::Busy,
            StoreErrorKind::Full => ErrorKind::DiskFull,
            StoreErrorKind::Corrupt | StoreErrorKind::Schema => ErrorKind::Corrupt,
            StoreErrorKind::Io => ErrorKind::Io,
            StoreErrorKind::Misuse => ErrorKind::Invalid,
            _ => ErrorKind::Internal,
        },
    }
}

fn of_pages(error: &PagesError) -> ErrorKind {
    match error {
        PagesError::Missing { .. } => ErrorKind::NotFound,
        PagesError::InUse { .. } => ErrorKind::InUse,
        PagesError::Busy(_) => ErrorKind::Busy,
        PagesError::Full(_) => ErrorKind::DiskFull,
        // The profile opened, so its keys are right: a space's file that they do not open is not
        // the file that was there.
        PagesError::NotADatabase { .. }
        | PagesError::Corrupt { .. }
        | PagesError::WrongKey { .. } => ErrorKind::Corrupt,
        PagesError::NotWritable { .. } | PagesError::Io(_) => ErrorKind::Io,
        _ => ErrorKind::Internal,
    }
}

impl From<larder_engine::Error> for Error {
    fn from(error: larder_engine::Error) -> Self {
        match error {
            larder_engine::Error::Conflict { object, heads, current } => {
                Self::Conflict { object, heads, current }
            }
            error => Self::Engine(error),
        }
    }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> larder_engine::Result<T> + Send + 'static,
) -> Result<T> {
    apart(|| Ok(work()?)).await
}

/// Runs what blocks where it may, to its end even if the caller stops waiting.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(error.to_string())),
    }
}

/// Runs to its end even if the caller stops waiting.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(error.to_string())),
    }
}

/// Waits for `work`, telling `progress` what comes through `tells` meanwhile, the last of it too.
pub(crate) async fn told<T>(
    work: impl Future<Output = Result<T>>,
    mut tells: watch::Receiver<(u64, u64)>,
    mut progress: impl FnMut(u64, u64),
) -> Result<T> {
    tokio::pin!(work);
    let mut tell = |tells: &mut watch::Receiver<(u64, u64)>| {
        let (done, total) = *tells.borrow_and_update();
        if total > 0 {
            progress(done, total);
        }
    };
    loop {
        tokio::select! {
            biased;
            result = &mut work => {
                tell(&mut tells);
                return result;
            }
            Ok(()) = tells.changed() => tell(&mut tells),
        }
    }
}
