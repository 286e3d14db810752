//! Room in a page that its tree does not use, and that may hold what stood there before.
//!
//! With `PRAGMA secure_delete` SQLite overwrites what is deleted, where it is then. What it moved
//! to another page before stays between the cell pointers and the cells of the page that it left:
//! so that is overwritten on the way into the file.

use crate::format::{BODY, LOCK_PAGE, Page};

/// Overwrites with zeros what lies between the cell pointers and the cells of page `number`, if it
/// is a page of a tree: SQLite never reads it. `pages`: how many the file has, about.
pub(crate) fn clear(number: u32, pages: u32, page: &mut Page) {
    // Of what is no page of a tree the first byte is that of a page's number.
    if pages.max(number) >= PAGES_MAX || is_map(number) {
        return;
    }
    if let Some((from, to)) = unused(number, page)
        && let Some(unused) = page.get_mut(from..to)
    {
        unused.fill(0);
    }
}

/// <https://www.sqlite.org/fileformat2.html#b_tree_pages>
fn unused(number: u32, page: &Page) -> Option<(usize, usize)> {
    let header = page.get(if number == 1 { FILE_HEADER } else { 0 }..)?;
    let (&kind, _) = header.split_first()?;
    let pointers = match kind {
        2 | 5 => 12,
        10 | 13 => 8,
        _ => return None,
    };
    let word = |at: usize| {
        let bytes: [u8; 2] = header.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_be_bytes(bytes)))
    };
    let (cells, content) = (word(3)?, word(5)?);
    let from = PAGE_LEN - header.len() + pointers + 2 * cells;
    let is_sound = from <= content
        && content <= BODY
        && (0..cells).all(|n| word(pointers + 2 * n).is_some_and(|at| at >= content && at < BODY));
    is_sound.then_some((from, content))
}

/// Whether the page tells what refers to which others, where a database has such pages: its first
/// byte may be that of a page of a tree.
/// <https://www.sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages>
fn is_map(number: u32) -> bool {
    let each = u32::try_from(BODY).unwrap_or(u32::MAX) / 5 + 1;
    let Some(behind) = number.checked_sub(2) else { return false };
    let map = behind / each * each + 2;
    number == if map == LOCK_PAGE { map + 1 } else { map }
}

const FILE_HEADER: usize = 100;
const PAGE_LEN: usize = size_of::<Page>();
/// 64 GiB: beyond twice that, a page's number may begin like a page of a tree.
const PAGES_MAX: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cells: &[u16], content: u16) -> Page {
        let mut page = [0xAA; PAGE_LEN];
        page[0] = 13;
        page[3..5].copy_from_slice(&u16::try_from(cells.len()).unwrap().to_be_bytes());
        page[5..7].copy_from_slice(&content.to_be_bytes());
        for (pointer, cell) in page[8..].chunks_mut(2).zip(cells) {
            pointer.copy_from_slice(&cell.to_be_bytes());
        }
        page
    }

    #[test]
    fn only_what_no_cell_has_is_overwritten() {
        let before = leaf(&[4000, 3000], 3000);
        let mut page = before;
        clear(3, 3, &mut page);
        assert!(page[12..3000].iter().all(|byte| *byte == 0));
        assert_eq!((&page[..12], &page[3000..]), (&before[..12], &before[3000..]));
    }

    #[test]
    fn what_is_no_page_of_a_tree_stays_as_it_is() {
        let stays = |number, pages, before: Page| {
            let mut page = before;
            clear(number, pages, &mut page);
            assert_eq!(page, before, "page {number} of {pages}");
        };
        let tree = leaf(&[4000], 4000);
        for (number, pages) in [(2, 3), (812, 813), (3, PAGES_MAX), (LOCK_PAGE, LOCK_PAGE)] {
            if number != LOCK_PAGE {
                stays(number, pages, tree);
            }
        }
        let mut overflow = tree;
        overflow[0] = 0;
        stays(3, 3, overflow);
        // Not as SQLite writes it: whoever reads it says that it is damaged.
        stays(3, 3, leaf(&[2000], 3000));
        stays(3, 3, leaf(&[4090], 4000));
        stays(3, 3, leaf(&[4000], 4090));
        stays(3, 3, leaf(&[4000], 9));
    }

    #[test]
    fn maps_are_where_sqlite_has_them() {
        assert!([2, 812, 1622].into_iter().all(is_map));
        assert!([1, 3, 811, 813].into_iter().all(|number| !is_map(number)));
        // The one that would be the page that is locked comes behind it.
        let of_lock = (LOCK_PAGE - 2).is_multiple_of(810);
        assert_eq!(is_map(LOCK_PAGE + 1), of_lock);
    }
}
