use larder_crypto::Secret;

use crate::format::{self, FRAME, Frame, PAGE, Page, Sealer};

/// Seals and opens pages and frames without a VFS: for files that none would write.
///
/// Nonces count up, so they serve once for each value of this type, and no more: not for content
/// that matters.
pub struct Forge {
    sealer: Sealer,
    nonces: u64,
}

impl Forge {
    /// For the database with this id, the first 16 bytes of its file.
    pub fn new(data_key: &Secret<32>, id: [u8; 16]) -> Self {
        Self { sealer: Sealer::new(data_key, id), nonces: 0 }
    }

    /// Page `number` as on disk, with `plain` cut or filled up with zeros to 4,048 bytes.
    pub fn page(&mut self, number: u32, plain: &[u8]) -> [u8; PAGE] {
        let mut page: Page = format::bytes(plain, 0);
        let nonce = self.nonce();
        self.sealer.seal_page(number, nonce, &mut page);
        page
    }

    /// The `index`th frame of a WAL as on disk: 24 bytes of header, and 4,048 of a page.
    pub fn frame(&mut self, index: u32, flags: u8, plain: &[u8]) -> [u8; FRAME] {
        let mut frame: Frame = format::bytes(plain, 0);
        let nonce = self.nonce();
        self.sealer.seal_frame(index, flags, nonce, &mut frame);
        frame
    }

    /// The page as SQLite knows it, if it opens.
    pub fn open_page(&self, number: u32, sealed: &[u8]) -> Option<[u8; PAGE]> {
        let mut page: Page = sealed.try_into().ok()?;
        self.sealer.open_page(number, &mut page).ok()?;
        Some(page)
    }

    /// The frame as SQLite knows it and its flags, if it opens.
    pub fn open_frame(&self, index: u32, sealed: &[u8]) -> Option<([u8; FRAME], u8)> {
        let mut frame: Frame = sealed.try_into().ok()?;
        let flags = self.sealer.open_frame(index, &mut frame).ok()?;
        Some((frame, flags))
    }

    fn nonce(&mut self) -> [u8; 24] {
        self.nonces += 1;
        format::bytes(&self.nonces.to_be_bytes(), 0)
    }
}

/// Overwrites what page `number`, as SQLite knows it, has where its tree has nothing, as is done
/// with each page that goes into a file of so many.
pub fn clear_unused(number: u32, pages: u32, page: &mut [u8; PAGE]) {
    crate::unused::clear(number, pages, page);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forged_opens_in_its_place() {
        let mut forge = Forge::new(&Secret::new([1; 32]), [2; 16]);
        let page = forge.page(3, b"forged");
        assert_eq!(forge.open_page(3, &page).unwrap()[..7], *b"forged\0");
        assert!(forge.open_page(4, &page).is_none());
        let frame = forge.frame(5, 1, &[7; 30]);
        let (opened, flags) = forge.open_frame(5, &frame).unwrap();
        assert_eq!((&opened[..31], flags), (&[&[7; 30][..], &[0]].concat()[..], 1));
        assert_ne!(forge.page(3, b"forged"), page, "a nonce of its own");
    }
}
