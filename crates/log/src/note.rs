//! Signature lines of C2SP signed-note, shared by checkpoints and acknowledgements.

use data_encoding::{BASE64, HEXLOWER};
use larder_crypto::hash::sha256;

use crate::error::NoteError;
pub(crate) use larder_types::limits::NOTE_BYTES_MAX;

/// Ed25519 over the note's text.
pub(crate) const TYPE_ED25519: u8 = 0x01;
/// Timestamped Ed25519 cosignature (C2SP tlog-cosignature).
pub(crate) const TYPE_COSIGNATURE: u8 = 0x04;

pub(crate) fn key_id(name: &str, kind: u8, key: &[u8; 32]) -> [u8; 4] {
    let hash = sha256(&[name.as_bytes(), b"\n", &[kind], key]);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

/// `<name>+<key id, hex>+<type and key, base64>`
pub(crate) fn vkey(name: &str, kind: u8, key: &[u8; 32]) -> String {
    let id = HEXLOWER.encode(&key_id(name, kind, key));
    format!("{name}+{id}+{}", BASE64.encode(&[&[kind], key.as_slice()].concat()))
}

/// `— <name> <key id and signature, base64>\n`
pub(crate) fn signature_line(name: &str, key_id: [u8; 4], signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", BASE64.encode(&[&key_id, signature].concat()))
}

/// The name, key id and signature of a signature line without its newline.
pub(crate) fn parse_signature_line(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    if name.is_empty() || name.contains(|c: char| c == '+' || c.is_whitespace()) {
        return None;
    }
    let bytes = BASE64.decode(signature.as_bytes()).ok()?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    Some((name, *key_id, signature.to_vec()))
}

/// Decimal digits without leading zeros.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok()).flatten()
}

pub(crate) fn malformed(line: usize, reason: &'static str) -> NoteError {
    NoteError::Malformed { line, reason }
}
