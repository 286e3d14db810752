//! Device keys, HPKE sealing, signatures, password hashing and zeroizing secrets.
//!
//! Invariants: nothing here draws randomness ([`larder_types::Entropy`] is handed in); secrets
//! zeroize on drop, print as redacted and can be neither compared nor serialised; every algorithm
//! is one that a standard fixes, and is held to that standard's vectors in `tests/`.

pub mod aead;
mod error;
pub mod hash;
pub mod kdf;
mod keys;
pub mod pake;
pub mod password;
mod secret;

pub use error::{BadKey, BadSignature, OpenError, PasswordError};
pub use keys::{
    AckKey, AckPublic, DeviceSigningKey, Envelope, RecoveryKey, RecoveryPublic, SUITE, SealingKey,
    SealingPublic, TransportKey, check_signing_key, hpke_seal, verify,
};
pub use secret::{Secret, wipe_stack};
