//! How one page and one WAL frame are sealed: bytes in, bytes out. `docs/format/pages.md` draws
//! them.
//!
//! Invariants: length is preserved; a nonce serves once; an opened page ends in zeros, since
//! SQLite's WAL checksums cover the reserved tail of the page as SQLite wrote it.

use larder_crypto::aead::{NONCE_BYTES, OpenError, TAG_BYTES, XAes};
use larder_crypto::{Secret, kdf};

/// Bytes of a page, the only size there is.
pub(crate) const PAGE: usize = 4096;
/// Bytes at the end of each page that SQLite leaves to us.
pub(crate) const RESERVED: usize = 48;
/// Bytes of a page that hold content.
pub(crate) const BODY: usize = PAGE - RESERVED;
/// Bytes of the header before each page in the WAL.
pub(crate) const FRAME_HEADER: usize = 24;
/// Bytes of a WAL frame: header and page.
pub(crate) const FRAME: usize = FRAME_HEADER + PAGE;
/// Bytes at the start of the WAL.
pub(crate) const WAL_HEADER: usize = 32;
/// The page that SQLite locks and never writes.
pub(crate) const LOCK_PAGE: u32 = 0x4000_0000 / 4096 + 1;

/// What SQLite has at the start of page 1, where the disk has the database id.
pub(crate) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Where page 1 has its clear bytes after the database id, and where its sealed ones begin.
const CLEAR: std::ops::Range<usize> = 16..24;
/// Page size, file format versions (WAL), reserved bytes and payload fractions.
const CLEAR_BYTES: [u8; 8] = [0x10, 0x00, 2, 2, 48, 64, 32, 32];

/// Where the sealed bytes of a frame begin: the page number, commit size and salts stay clear.
const FRAME_CLEAR: usize = 16;

/// HKDF's `info` and the start of all associated data.
const LABEL: &[u8; 16] = b"larder/pages/v1\0";
const MAIN: u8 = 1;
const WAL: u8 = 2;
const KEY_EPOCH: u16 = 1;
const FORMAT: u8 = 1;

/// Flag of a WAL frame: everything before it was committed and synced when it was written.
pub(crate) const STARTS_TRANSACTION: u8 = 1;

const AD_MAX: usize = LABEL.len() + 1 + 16 + 4 + 4 + FRAME_CLEAR;

pub(crate) type Nonce = [u8; NONCE_BYTES];
pub(crate) type Page = [u8; PAGE];
pub(crate) type Frame = [u8; FRAME];
pub(crate) type DatabaseId = [u8; 16];

/// What the reserved 48 bytes of a page hold on disk.
struct Tail {
    nonce: Nonce,
    tag: [u8; TAG_BYTES],
    epoch: u16,
    format: u8,
    flags: u8,
}

impl Tail {
    fn parse(tail: &[u8]) -> Result<Self, OpenError> {
        let parsed = Self {
            nonce: bytes(tail, 0),
            tag: bytes(tail, 24),
            epoch: u16::from_be_bytes(bytes(tail, 40)),
            format: u8::from_be_bytes(bytes(tail, 42)),
            flags: u8::from_be_bytes(bytes(tail, 43)),
        };
        let known = parsed.epoch == KEY_EPOCH
            && parsed.format == FORMAT
            && parsed.flags & !STARTS_TRANSACTION == 0
            && bytes::<4>(tail, 44) == [0; 4];
        if known { Ok(parsed) } else { Err(OpenError) }
    }

    fn write(&self, out: &mut [u8]) {
        let epoch = self.epoch.to_be_bytes();
        let fields: [&[u8]; 5] =
            [&self.nonce, &self.tag, &epoch, &[self.format, self.flags], &[0; 4]];
        lay(out, &fields);
    }
}

/// The cipher of one database.
pub(crate) struct Sealer {
    cipher: XAes,
    page_key: Secret<32>,
    id: DatabaseId,
}

impl Sealer {
    /// The cipher of database `id` under its data key.
    pub(crate) fn new(data_key: &Secret<32>, id: DatabaseId) -> Self {
        let page_key = kdf::hkdf_sha256(data_key.expose(), &id, LABEL);
        Self { cipher: XAes::new(&page_key), page_key, id }
    }

    /// Whether `data_key` is the key of this database.
    pub(crate) fn has_key(&self, data_key: &Secret<32>) -> bool {
        let other = kdf::hkdf_sha256(data_key.expose(), &self.id, LABEL);
        let pairs = self.page_key.expose().iter().zip(other.expose());
        pairs.fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    /// Seals page `number` in place.
    pub(crate) fn seal_page(&self, number: u32, nonce: Nonce, page: &mut Page) {
        let mut tail =
            Tail { nonce, tag: [0; TAG_BYTES], epoch: KEY_EPOCH, format: FORMAT, flags: 0 };
        let (body, reserved) = page.split_at_mut(BODY);
        let (clear, sealed) = body.split_at_mut(clear_bytes(number));
        if number == 1 {
            copy(clear, &self.id);
        }
        let extra = clear.get(CLEAR).unwrap_or_default();
        let (ad, length) = self.associated(MAIN, number, &tail, extra);
        tail.tag = self.cipher.seal_detached(&tail.nonce, first(&ad, length), sealed);
        tail.write(reserved);
    }

    /// Opens page `number` in place; page 1 gets SQLite's magic back.
    pub(crate) fn open_page(&self, number: u32, page: &mut Page) -> Result<(), OpenError> {
        let (body, reserved) = page.split_at_mut(BODY);
        let (clear, sealed) = body.split_at_mut(clear_bytes(number));
        if number == 1 && bytes::<16>(clear, 0) != self.id {
            return Err(OpenError);
        }
        let tail = Tail::parse(reserved)?;
        let extra = clear.get(CLEAR).unwrap_or_default();
        let (ad, length) = self.associated(MAIN, number, &tail, extra);
        self.cipher.open_detached(&tail.nonce, first(&ad, length), sealed, &tail.tag)?;
        if number == 1 {
            copy(clear, MAGIC);
        }
        reserved.fill(0);
        Ok(())
    }

    /// Seals the `index`th frame of the WAL (from 1) in place.
    pub(crate) fn seal_frame(&self, index: u32, flags: u8, nonce: Nonce, frame: &mut Frame) {
        let mut tail = Tail { nonce, tag: [0; TAG_BYTES], epoch: KEY_EPOCH, format: FORMAT, flags };
        let (body, reserved) = frame.split_at_mut(FRAME - RESERVED);
        let (clear, sealed) = body.split_at_mut(FRAME_CLEAR);
        let (ad, length) = self.associated(WAL, index, &tail, clear);
        tail.tag = self.cipher.seal_detached(&tail.nonce, first(&ad, length), sealed);
        tail.write(reserved);
    }

    /// Opens the `index`th frame of the WAL in place and returns its flags.
    pub(crate) fn open_frame(&self, index: u32, frame: &mut Frame) -> Result<u8, OpenError> {
        let (body, reserved) = frame.split_at_mut(FRAME - RESERVED);
        let (clear, sealed) = body.split_at_mut(FRAME_CLEAR);
        let tail = Tail::parse(reserved)?;
        let (ad, length) = self.associated(WAL, index, &tail, clear);
        self.cipher.open_detached(&tail.nonce, first(&ad, length), sealed, &tail.tag)?;
        reserved.fill(0);
        Ok(tail.flags)
    }

    fn associated(
        &self,
        kind: u8,
        number: u32,
        tail: &Tail,
        extra: &[u8],
    ) -> ([u8; AD_MAX], usize) {
        let mut ad = [0; AD_MAX];
        let number = number.to_be_bytes();
        let epoch = tail.epoch.to_be_bytes();
        let parts: [&[u8]; 7] =
            [LABEL, &[kind], &self.id, &number, &epoch, &[tail.format, tail.flags], extra];
        let length = lay(&mut ad, &parts);
        (ad, length)
    }
}

/// What SQLite reads as the header of a database that has none yet: page size and reserve, and
/// whether it keeps a note of what refers to which page (`auto_vacuum=INCREMENTAL`), so that its
/// free pages can be given back.
pub(crate) fn synthetic_header(can_shrink: bool) -> [u8; 100] {
    let mut header = [0; 100];
    let notes = u32::from(can_shrink).to_be_bytes();
    lay(&mut header, &[MAGIC, &CLEAR_BYTES, &[0; 28], &notes, &[0; 8], &notes]);
    header
}

/// Whether the clear bytes of page 1, as on disk, are those of this format.
pub(crate) fn has_clear_bytes(page: &Page) -> bool {
    bytes::<8>(page, CLEAR.start) == with_versions_of(page)
}

/// Makes a database id one that [`is_unfinished`] can tell from zeros.
pub(crate) fn mark(id: &mut DatabaseId) {
    let [first, ..] = id;
    *first = (*first).max(1);
}

/// Blanks the id and the clear bytes of a sealed page 1, as the first write of a file has it.
pub(crate) fn blank(page: &mut Page) {
    page.iter_mut().take(CLEAR.end).for_each(|byte| *byte = 0);
}

/// Whether a crash cut the creation of this file short, so that nothing was ever committed to it:
/// it is one page or less, and what is written last of that, the id and the clear bytes, are not
/// there or torn. `page` has zeros behind the end of the file.
pub(crate) fn is_unfinished(page: &Page, size: u64) -> bool {
    let (id, clear) = (bytes::<16>(page, 0), bytes::<8>(page, CLEAR.start));
    let is_blank = id == [0; 16] && clear == [0; 8];
    let [high, low] = KEY_EPOCH.to_be_bytes();
    let is_torn = page.ends_with(&[high, low, FORMAT, 0, 0, 0, 0, 0])
        && clear.iter().zip(CLEAR_BYTES).all(|(found, full)| *found == 0 || *found == full)
        && (id.starts_with(&[0]) || clear != CLEAR_BYTES);
    size <= PAGE as u64 && (is_blank || is_torn)
}

/// Whether a page that SQLite wants written has the shape this format needs: nothing in its tail
/// and, on page 1, its own page size and reserve. (A backup from a database without a reserve
/// would otherwise put content where the nonce goes.)
pub(crate) fn is_sealable(number: u32, page: &[u8]) -> bool {
    let Some((body, reserved)) = page.split_at_checked(BODY) else { return false };
    let shaped = number != 1
        || (bytes::<16>(body, 0) == *MAGIC && bytes::<8>(body, 16) == with_versions_of(body));
    number != 0
        && number != LOCK_PAGE
        && reserved.len() == RESERVED
        && reserved.iter().all(|byte| *byte == 0)
        && shaped
}

/// The clear bytes with the versions (1: rollback journal, 2: WAL) that `page` has.
fn with_versions_of(page: &[u8]) -> [u8; 8] {
    let mut expected = CLEAR_BYTES;
    let versions = bytes::<2>(page, 18);
    if versions == [1, 1] {
        expected[2..4].copy_from_slice(&versions);
    }
    expected
}

/// Makes page 1 that of a database with a WAL.
pub(crate) fn set_wal_versions(page: &mut Page) {
    page.iter_mut().skip(CLEAR.start).zip(CLEAR_BYTES).for_each(|(to, from)| *to = from);
}

/// How many pages an opened page 1 says the database has; 0 if it does not say.
pub(crate) fn pages_in_header(page: &Page) -> u32 {
    if bytes::<4>(page, 24) == bytes::<4>(page, 92) {
        u32::from_be_bytes(bytes(page, 28))
    } else {
        0
    }
}

/// Whether SQLite would take these bytes as the start of a WAL of our page size.
pub(crate) fn is_wal_header(header: &[u8; WAL_HEADER]) -> bool {
    let magic = u32::from_be_bytes(bytes(header, 0));
    let big_endian = magic & 1 == 1;
    let (mut first, mut second) = (0_u32, 0_u32);
    for pair in header[..24].chunks_exact(8) {
        let word = |at| {
            let word = bytes(pair, at);
            if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        first = first.wrapping_add(word(0)).wrapping_add(second);
        second = second.wrapping_add(word(4)).wrapping_add(first);
    }
    magic & !1 == 0x377f_0682
        && u32::from_be_bytes(bytes(header, 4)) == 3_007_000
        && u32::from_be_bytes(bytes(header, 8)) == 4096
        && u32::from_be_bytes(bytes(header, 24)) == first
        && u32::from_be_bytes(bytes(header, 28)) == second
}

/// `N` bytes from `at` on; zeros past the end.
pub(crate) fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    copy(&mut out, from.get(at..).unwrap_or_default());
    out
}

/// As many bytes as both have, in one go: whole pages pass here.
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    let length = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
        to.copy_from_slice(from);
    }
}

/// Puts `parts` one after another into `out` and answers with their length.
fn lay(out: &mut [u8], parts: &[&[u8]]) -> usize {
    parts.iter().fold(0, |at, part| {
        copy(out.get_mut(at..).unwrap_or_default(), part);
        at + part.len()
    })
}

/// How many bytes at the start of page `number` stay clear.
fn clear_bytes(number: u32) -> usize {
    if number == 1 { CLEAR.end } else { 0 }
}

fn first(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8, id: u8) -> Sealer {
        Sealer::new(&Secret::new([key; 32]), [id; 16])
    }

    fn sample(number: u32) -> Page {
        let mut page = [0; PAGE];
        for (i, byte) in page[..BODY].iter_mut().enumerate() {
            *byte = u8::try_from(i % 251).unwrap();
        }
        if number == 1 {
            page[..100].copy_from_slice(&synthetic_header(false));
        }
        page
    }

    #[test]
    fn pages_open_only_where_they_were_sealed() {
        for number in [1, 2, 77] {
            let mut page = sample(number);
            sealer(1, 1).seal_page(number, [9; NONCE_BYTES], &mut page);
            let sealed = page;
            sealer(1, 1).open_page(number, &mut page).unwrap();
            assert_eq!(page, sample(number));
            for (other, at) in [(sealer(2, 1), number), (sealer(1, 2), number), (sealer(1, 1), 3)] {
                assert_eq!(other.open_page(at, &mut sealed.clone()), Err(OpenError));
            }
        }
    }

    /// The bytes that `docs/format/pages.md` describes, the same from every backend.
    #[test]
    fn a_page_and_a_frame_are_these_bytes() {
        let hash = |bytes: &[u8]| larder_crypto::hash::sha256(&[bytes]).to_string();
        let mut page = sample(1);
        sealer(1, 1).seal_page(1, [9; NONCE_BYTES], &mut page);
        assert_eq!(hash(&page), "564f1c07d795689d94d5cbac96a6fd70867c458fab21d26624f45232f8db1c99");
        let mut frame = [0; FRAME];
        frame[FRAME_HEADER..].copy_from_slice(&sample(2));
        frame[..FRAME_HEADER].fill(5);
        sealer(1, 1).seal_frame(3, STARTS_TRANSACTION, [9; NONCE_BYTES], &mut frame);
        assert_eq!(
            hash(&frame),
            "0026f5c3204f52e2a5adf53fea196ff26f6f8e50ba4b9913374508076b348cb6"
        );
    }

    #[test]
    fn every_bit_of_a_page_and_a_frame_counts() {
        let sealer = sealer(1, 1);
        for number in [1, 2] {
            let mut page = sample(number);
            sealer.seal_page(number, [9; NONCE_BYTES], &mut page);
            for byte in 0..PAGE {
                let mut altered = page;
                altered[byte] ^= 1 << (byte % 8);
                assert!(sealer.open_page(number, &mut altered).is_err(), "byte {byte}");
            }
        }
        let mut frame = [0; FRAME];
        frame[..BODY].copy_from_slice(&sample(2)[..BODY]);
        sealer.seal_frame(3, 0, [9; NONCE_BYTES], &mut frame);
        for byte in 0..FRAME {
            let mut altered = frame;
            altered[byte] ^= 1 << (byte % 8);
            assert!(sealer.open_frame(3, &mut altered).is_err(), "byte {byte}");
        }
        assert!(sealer.open_frame(4, &mut frame.clone()).is_err());
    }

    #[test]
    fn a_frame_is_no_page_and_a_zero_page_is_nothing() {
        let sealer = sealer(1, 1);
        let mut frame = [0; FRAME];
        sealer.seal_frame(2, STARTS_TRANSACTION, [9; NONCE_BYTES], &mut frame);
        let mut page: Page = frame[FRAME_HEADER..].try_into().unwrap();
        assert!(sealer.open_page(2, &mut page).is_err());
        assert!(sealer.open_page(2, &mut [0; PAGE]).is_err());
        assert_eq!(sealer.open_frame(2, &mut frame), Ok(STARTS_TRANSACTION));
        assert_eq!(frame, [0; FRAME]);
    }

    #[test]
    fn a_tail_with_content_is_not_sealable() {
        let mut page = sample(2);
        assert!(is_sealable(2, &page));
        assert!(!is_sealable(LOCK_PAGE, &page));
        page[PAGE - 1] = 1;
        assert!(!is_sealable(2, &page));
        let mut header = sample(1);
        assert!(is_sealable(1, &header));
        header[20] = 0;
        assert!(!is_sealable(1, &header));
    }
}
