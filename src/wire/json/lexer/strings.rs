//! Scans strings, a block of bytes at a time.

use wide::u8x16;

use super::super::walk::bits;
use super::{Fault, Lexer};

impl Lexer<'_> {
    /// Reads a string. Returns where it ends, and whether it has an escape.
    #[inline(always)]
    pub(super) fn step_string(&mut self, at: usize) -> Result<(usize, bool), Fault> {
        let inside = at + 1;
        // Most keys and words end in the block that was examined last.
        if inside / BLOCK == self.block {
            let left = self.specials >> (inside % BLOCK);
            let end = inside + left.trailing_zeros() as usize;
            if left != 0 && self.byte(end) == Some(b'"') {
                return Ok((end + 1, false));
            }
        }
        self.long_string(inside)
    }

    /// Reads the rest of a string, from anywhere outside an escape: block by block, and special byte by special byte.
    #[inline(never)]
    fn long_string(&mut self, mut at: usize) -> Result<(usize, bool), Fault> {
        let mut escaped = false;
        while at < self.doc.len() {
            if self.block != at / BLOCK {
                self.look(at / BLOCK);
            }
            let start = self.block * BLOCK;
            let mut left = self.specials & (u64::MAX << (at % BLOCK));
            if left == 0 {
                at = self.look_on(start + BLOCK);
                continue;
            }
            at = start + BLOCK;
            while left != 0 {
                let bit = left.trailing_zeros();
                let here = start + bit as usize;
                match self.byte(here) {
                    Some(b'"') => return Ok((here + 1, escaped)),
                    Some(b'\\') => {}
                    _ => return Err(self.stop(here, Fault::Syntax)),
                }
                match self.byte(here + 1) {
                    Some(letter) if SHORT_ESCAPES[usize::from(letter)] => {}
                    Some(b'u') => self.code_unit(here + 2)?,
                    _ => return Err(self.stop(here + 1, Fault::Syntax)),
                }
                escaped = true;
                // Skips the letter of the escape, even if it is the first byte of the next block.
                left &= u64::MAX << bit << 2;
                at = at.max(here + 2);
            }
        }
        Err(self.stop(self.doc.len(), Fault::Syntax))
    }

    /// Moves from the start of a block to the first block that has a special byte, or is incomplete.
    #[inline(always)]
    fn look_on(&mut self, start: usize) -> usize {
        let blocks = self.doc.get(start..).unwrap_or_default().as_chunks::<BLOCK>().0;
        for (i, block) in blocks.iter().enumerate() {
            let specials = specials(block);
            if specials != 0 {
                (self.block, self.specials) = (start / BLOCK + i, specials);
                return start + i * BLOCK;
            }
        }
        start + blocks.len() * BLOCK
    }

    #[inline(never)]
    fn look(&mut self, block: usize) {
        self.block = block;
        self.specials = specials_of_first(self.doc.get(block * BLOCK..).unwrap_or_default());
    }

    /// Reads the four digits of an escape.
    fn code_unit(&mut self, start: usize) -> Result<(), Fault> {
        self.met.units = true;
        match (start..start + 4).find(|&at| !self.byte(at).is_some_and(|byte| byte.is_ascii_hexdigit())) {
            Some(at) => Err(self.stop(at, Fault::Syntax)),
            None => Ok(()),
        }
    }
}

/// The letters of escapes without digits.
const SHORT_ESCAPES: [bool; 256] = {
    let mut table = [false; 256];
    let letters = br#""\/bfnrt"#;
    let mut i = 0;
    while i < letters.len() {
        table[letters[i] as usize] = true;
        i += 1;
    }
    table
};

/// The number of bytes examined together.
const BLOCK: usize = 64;

/// The positions of bytes that must not occur unescaped in a string, front to back.
pub(in super::super) fn specials_in(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let blocks = text.chunks(BLOCK).map(specials_of_first).enumerate();
    blocks.flat_map(|(at, specials)| bits(specials).map(move |bit| at * BLOCK + bit))
}

/// The [`specials`] of the block that begins here, which may be incomplete.
#[inline(always)]
fn specials_of_first(rest: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(block) => specials(block),
        None => {
            let mut block = [b' '; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            specials(&block)
        }
    }
}

/// One bit for each byte of a block that must not occur unescaped in a string: a quote, a backslash, a control
/// character.
#[inline(always)]
fn specials(block: &[u8; BLOCK]) -> u64 {
    let [control, quote, backslash] = [0x1f, b'"', b'\\'].map(u8x16::splat);
    let sixteens = block.as_chunks::<16>().0.iter().enumerate();
    sixteens.fold(0, |bits, (i, sixteen)| {
        let sixteen = u8x16::new(*sixteen);
        let is_control = sixteen.min(control).simd_eq(sixteen);
        let found = is_control | sixteen.simd_eq(quote) | sixteen.simd_eq(backslash);
        bits | u64::from(found.to_bitmask()) << (16 * i)
    })
}
