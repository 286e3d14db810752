//! QR codes: on the terminal, and as an image in a file.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use qrcode::render::unicode::Dense1x2;
use qrcode::types::Color;
use qrcode::{EcLevel, QrCode};

use crate::private::new_file;

/// Light modules around a code, without which it is not found (ISO/IEC 18004).
const QUIET: usize = 4;
/// Pixels to a module.
const SCALE: usize = 8;

/// Capitals and digits take less than two thirds of the room; an invitation is read in capitals.
fn code_of(text: &str) -> anyhow::Result<QrCode> {
    let text = text.to_ascii_uppercase();
    QrCode::with_error_correction_level(text, EcLevel::M).context("too long for a QR code")
}

/// Black on white, whatever colours the terminal has; two modules to a character.
pub(crate) fn for_terminal(text: &str) -> anyhow::Result<String> {
    let picture = code_of(text)?.render::<Dense1x2>().build();
    let lines: Vec<_> =
        picture.lines().map(|line| format!("\u{1b}[30;107m{line}\u{1b}[0m")).collect();
    Ok(lines.join("\n"))
}

/// Writes a PNG (W3C, third edition) of one bit per pixel to a new file that only its owner reads.
pub(crate) fn write_png(path: &Path, text: &str) -> anyhow::Result<()> {
    let image = png(&code_of(text)?)?;
    let written = new_file(path).and_then(|mut file| file.write_all(&image));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn png(code: &QrCode) -> io::Result<Vec<u8>> {
    let width = code.width();
    let side = (width + 2 * QUIET) * SCALE;
    let modules = code.to_colors();
    let is_dark = |x: usize, y: usize| {
        let (x, y) = ((x / SCALE).checked_sub(QUIET), (y / SCALE).checked_sub(QUIET));
        let at = x.zip(y).filter(|(x, _)| *x < width).map(|(x, y)| y * width + x);
        at.and_then(|at| modules.get(at)).is_some_and(|module| *module == Color::Dark)
    };
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::best());
    for y in 0..side {
        // No filter; then eight pixels to a byte, the first of which is the highest bit.
        let mut line = vec![0];
        line.extend(
            (0..side)
                .step_by(8)
                .map(|x| (x..x + 8).fold(0_u8, |byte, x| byte << 1 | u8::from(!is_dark(x, y)))),
        );
        pixels.write_all(&line)?;
    }
    let side = u32::try_from(side).map_err(io::Error::other)?.to_be_bytes();
    // Bits per sample 1, grey, deflate, the usual filters, not interlaced.
    let header = [&side[..], &side[..], &[1, 0, 0, 0, 0]].concat();
    let mut image = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", pixels.finish()?), (b"IEND", Vec::new())] {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut sum = Crc::new();
        sum.update(kind);
        sum.update(&data);
        image.extend(length.to_be_bytes());
        image.extend([&kind[..], &data].concat());
        image.extend(sum.sum().to_be_bytes());
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An invitation with so many addresses, as long as it gets.
    fn invitation(addresses: usize) -> String {
        let bytes = 77 + 7 * addresses + addresses / 8 * 12 * 8;
        format!("larder1-{}", "a".repeat((bytes * 8).div_ceil(5)))
    }

    #[test]
    fn an_invitation_fits_a_terminal() {
        for (addresses, modules) in [(1, 45), (3, 49), (8, 69)] {
            let text = invitation(addresses);
            let code = code_of(&text).unwrap();
            assert!(code.width() <= modules, "{} characters: {}", text.len(), code.width());
            let shown = for_terminal(&text).unwrap();
            assert_eq!(shown.lines().count(), (code.width() + 2 * QUIET).div_ceil(2));
        }
        assert!(code_of(&"x".repeat(10_000)).is_err());
    }

    #[test]
    fn the_image_has_the_modules_of_the_code() {
        let code = code_of(&invitation(1)).unwrap();
        let image = png(&code).unwrap();
        let side = u32::from_be_bytes(image[16..20].try_into().unwrap()) as usize;
        assert_eq!(side, (code.width() + 2 * QUIET) * SCALE);
        let length = u32::from_be_bytes(image[33..37].try_into().unwrap()) as usize;
        let mut pixels = Vec::new();
        let mut decoder = flate2::read::ZlibDecoder::new(&image[41..41 + length]);
        io::Read::read_to_end(&mut decoder, &mut pixels).unwrap();
        let line = 1 + side / 8;
        assert_eq!(pixels.len(), side * line);
        for (y, row) in code.to_colors().chunks(code.width()).enumerate() {
            for (x, module) in row.iter().enumerate() {
                // A module is as wide as a byte.
                let byte = pixels[(y + QUIET) * SCALE * line + 1 + x + QUIET];
                assert_eq!(byte, if *module == Color::Dark { 0 } else { 255 }, "{x} {y}");
            }
        }
    }
}
