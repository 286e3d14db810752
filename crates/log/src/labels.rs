//! Every label that starts a hash, MAC or key derivation of this format, in one place.
//!
//! No label is the beginning of another, and what follows a label has a fixed length but for the
//! last part, so no two inputs of different purpose are ever the same bytes. `docs/format/log.md`
//! holds the same table.

/// Commits to a section's eight field commitments.
pub(crate) const META: &[u8] = b"larder/meta/v0";
/// Commits to one metadata field under its salt.
pub(crate) const FIELD: &[u8] = b"larder/field/v0";
/// Derives a field's salt, or the body's, from the section's metadata salt.
pub(crate) const SALT: &[u8] = b"larder/salt/v0";
/// Digest of a body under its salt.
pub(crate) const BODY: &[u8] = b"larder/body/v0";
/// Digest of a section's sealed bytes.
pub(crate) const SEALED: &[u8] = b"larder/sealed/v0";
/// Derives a section's one-time key.
pub(crate) const SECTION_KEY: &[u8] = b"larder/section-key/v0";
/// Associated data of a section's encryption.
pub(crate) const SECTION_AD: &[u8] = b"larder/section-ad/v0";
/// Public commitment to a space's control secret.
pub(crate) const CONTROL_COMMITMENT: &[u8] = b"larder/control-commitment/v0";
/// Derives the discovery secret from the control secret.
pub(crate) const CONTROL_DISCOVERY: &[u8] = b"larder/control-discovery/v0";
/// MAC that masks bands.
pub(crate) const CONTROL_MASK: &[u8] = b"larder/control-mask/v0";
/// Derives the secret of CONTROL sections from the control secret.
pub(crate) const CONTROL_SECTION: &[u8] = b"larder/control-section/v0";
/// Public commitment to a band's secret at step 0; the band's number follows.
pub(crate) const BAND_COMMITMENT: &[u8] = b"larder/band-commitment/v0";
/// Derives the next lower band's secret; that band's number follows.
pub(crate) const BAND_LOWER: &[u8] = b"larder/band-lower/v0";
/// Derives the next step's secret of a band.
pub(crate) const STEP: &[u8] = b"larder/step/v0";
/// A blob's id, from its manifest.
pub(crate) const BLOB_ID: &[u8] = b"larder/blob-id/v0";
/// Digest of a blob's sealed chunk.
pub(crate) const BLOB_CHUNK: &[u8] = b"larder/blob-chunk/v0";
/// Associated data of a blob's chunk.
pub(crate) const BLOB_AD: &[u8] = b"larder/blob-ad/v0";
/// Digest of a blob's opened chunk, which never leaves the device.
pub(crate) const BLOB_PLAIN: &[u8] = b"larder/blob-plain/v0";
/// Derives from the control secret where a space's blobs are cut.
pub(crate) const BLOB_CUT: &[u8] = b"larder/blob-cut/v0";
/// HPKE info of an epoch's envelope.
pub(crate) const EPOCH_ENVELOPE: &[u8] = b"larder/epoch-envelope/v0";
/// What a space's recovery key signs.
pub(crate) const RECOVERY: &[u8] = b"larder/recovery/v0";
/// What people compare of a space by voice.
pub(crate) const FINGERPRINT: &[u8] = b"larder/fingerprint/v0";
/// Derives a space's recovery key from a kit.
pub(crate) const RECOVERY_KEY: &[u8] = b"larder/recovery-key/v0";
/// Names a snapshot.
pub(crate) const SNAPSHOT: &[u8] = b"larder/snapshot-id/v0";
/// Digest of the value that a document was created with.
pub(crate) const SNAPSHOT_VALUE: &[u8] = b"larder/snapshot-value/v0";
/// Derives the salt of a document's leaf from the metadata salt of the section that created it.
pub(crate) const SNAPSHOT_SALT: &[u8] = b"larder/snapshot-salt/v0";
/// Derives a device's key for messages that are not stored.
pub(crate) const MESSAGE_KEY: &[u8] = b"larder/message-key/v0";
/// Associated data of such a message.
pub(crate) const MESSAGE_AD: &[u8] = b"larder/message-ad/v0";
/// An event of a device's security log, hashed and signed.
pub(crate) const SECURITY: &[u8] = b"larder/security/v0";

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/format/log.md");

    #[test]
    fn no_label_is_the_beginning_of_another() {
        let all = [
            META,
            FIELD,
            SALT,
            BODY,
            SEALED,
            SECTION_KEY,
            SECTION_AD,
            CONTROL_COMMITMENT,
            CONTROL_DISCOVERY,
            CONTROL_MASK,
            CONTROL_SECTION,
            BAND_COMMITMENT,
            BAND_LOWER,
            STEP,
            EPOCH_ENVELOPE,
            MESSAGE_KEY,
            MESSAGE_AD,
            BLOB_ID,
            BLOB_CHUNK,
            BLOB_AD,
            BLOB_PLAIN,
            BLOB_CUT,
            RECOVERY,
            RECOVERY_KEY,
            FINGERPRINT,
            SNAPSHOT,
            SNAPSHOT_VALUE,
            SECURITY,
            SNAPSHOT_SALT,
        ];
        for (i, one) in all.iter().enumerate() {
            let row = format!("| `{}` |", std::str::from_utf8(one).unwrap());
            assert!(PAGE.contains(&row), "docs/format/log.md lacks {row}");
            for (j, other) in all.iter().enumerate() {
                assert!(i == j || !other.starts_with(one));
            }
        }
    }
}
