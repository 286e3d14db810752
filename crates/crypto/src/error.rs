/// The bytes were altered, or sealed under another key, nonce or associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not authenticate: altered, or sealed under another key")]
pub struct OpenError;

/// A signature does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify: the text was altered, or signed by another key")]
pub struct BadSignature;

/// A public key that no honest device makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable public key: off the curve, not canonical, or of small order")]
pub struct BadKey;

/// Why a password was not turned into a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The recorded cost is outside of what this program accepts.
    #[error(
        "the recorded password cost ({memory_kib} KiB, {passes} passes, {lanes} lanes) is out of \
         bounds: the record is damaged or was altered; restore it from a backup"
    )]
    Params {
        /// Recorded memory.
        memory_kib: u32,
        /// Recorded passes.
        passes: u32,
        /// Recorded lanes.
        lanes: u32,
    },
    /// The machine or the algorithm refused; the message says why.
    #[error("could not derive a key from the password: {0}")]
    Derivation(String),
}
