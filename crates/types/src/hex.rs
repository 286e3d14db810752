use data_encoding::HEXLOWER;

/// Text that is not lower-case hex of the expected length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} lower-case hex digits")]
pub struct FromHexError {
    /// How many digits the value takes.
    pub expected: usize,
}

/// `bytes` as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Reads exactly `N` bytes of lower-case hex.
///
/// # Errors
/// [`FromHexError`] on any other length or character.
pub fn unhex<const N: usize>(text: &str) -> Result<[u8; N], FromHexError> {
    HEXLOWER
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(FromHexError { expected: N * 2 })
}
