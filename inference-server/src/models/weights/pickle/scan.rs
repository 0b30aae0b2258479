//! Memory and stack that reading a pickle would take, computed without building any of it.
//!
//! candle's reader clones a value whenever the pickle memoises it or gets it from the memo, and
//! drops nested values by recursion: a few kilobytes of pickle can exhaust memory or stack. So the
//! same instructions are interpreted here on the size and the depth of each value alone. Opcodes
//! are those of Python's `pickletools`.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};

/// Upper limit on the nesting of values; checkpoints have about ten levels.
const MAX_DEPTH: u32 = 64;
/// Upper limit on the values in memory at once, where 64 bytes of a text count as one; a checkpoint
/// has about thirty for each tensor.
const MAX_VALUES: u64 = 4 << 20;
/// Upper limit on the values that are copied, all copies together.
const MAX_COPIES: u64 = 64 << 20;
/// Upper limit on the bytes of a text.
const MAX_TEXT: u32 = 1 << 20;

/// Size of a value, or a mark.
#[derive(Debug, Clone, Copy)]
struct Size {
    depth: u32,
    values: u64,
    is_mark: bool,
}

impl Size {
    const ONE: Self = Self { depth: 1, values: 1, is_mark: false };
    const MARK: Self = Self { is_mark: true, ..Self::ONE };
}

#[derive(Default)]
struct Scan {
    stack: Vec<Size>,
    memo: HashMap<u32, Size>,
    /// Values on the stack and in the memo.
    held: u64,
    copied: u64,
}

/// Interprets a pickle up to its end.
///
/// # Errors
/// If it is malformed, has instructions that no checkpoint needs, or exceeds a limit.
pub(super) fn scan(pickle: &mut impl BufRead) -> Result<()> {
    let mut scan = Scan::default();
    while scan.step(pickle)? {}
    Ok(())
}

impl Scan {
    /// Interprets one instruction. Returns whether more follow.
    fn step(&mut self, r: &mut impl BufRead) -> Result<bool> {
        let [code] = bytes(r)?;
        match code {
            b'.' => return Ok(false),
            0x80 => {
                // The version of the protocol does not matter, since every instruction is checked.
                bytes::<1>(r)?;
            }
            b'c' => {
                // A module and a function, a line each.
                let length = line(r)? + line(r)?;
                self.push_text(length)?;
            }
            b'K' => self.skip::<1>(r)?,
            b'M' => self.skip::<2>(r)?,
            b'J' => self.skip::<4>(r)?,
            b'G' => self.skip::<8>(r)?,
            0x8a => {
                let [length] = bytes(r)?;
                ensure!(length <= 8, "has a number of {length} bytes");
                skip_bytes(r, u64::from(length))?;
                self.push(Size::ONE)?;
            }
            b'X' => {
                let length = u32::from_le_bytes(bytes(r)?);
                ensure!(length <= MAX_TEXT, "has a text of {length} bytes; expected at most {MAX_TEXT}");
                skip_bytes(r, u64::from(length))?;
                self.push_text(length as usize)?;
            }
            // candle takes `d` (DICT) for an empty dictionary and leaves the mark where it is.
            b'N' | 0x88 | 0x89 | b'}' | b'd' | b']' | b')' => self.push(Size::ONE)?,
            b'(' => self.push(Size::MARK)?,
            b't' => {
                let parts = self.pop_mark()?;
                self.push_container(&parts)?;
            }
            b'Q' | 0x85 => self.join(1)?,
            b'b' | b'R' | 0x81 | 0x86 => self.join(2)?,
            0x87 => self.join(3)?,
            b'a' => self.extend_by(1)?,
            b's' => self.extend_by(2)?,
            b'e' | b'u' => {
                let parts = self.pop_mark()?;
                self.extend(&parts)?;
            }
            b'q' => self.memoise(short_id(r)?)?,
            b'r' => self.memoise(u32::from_le_bytes(bytes(r)?))?,
            b'h' => self.get(short_id(r)?)?,
            b'j' => self.get(u32::from_le_bytes(bytes(r)?))?,
            code => bail!("has the instruction {code:#04x}, which no checkpoint needs"),
        }
        Ok(true)
    }

    fn skip<const N: usize>(&mut self, r: &mut impl BufRead) -> Result<()> {
        bytes::<N>(r)?;
        self.push(Size::ONE)
    }

    fn push_text(&mut self, length: usize) -> Result<()> {
        self.push(Size { values: 1 + length as u64 / 64, ..Size::ONE })
    }

    fn push(&mut self, size: Size) -> Result<()> {
        ensure!(size.depth <= MAX_DEPTH, "nests values more than {MAX_DEPTH} deep");
        self.held = self.held.saturating_add(size.values);
        ensure!(self.held <= MAX_VALUES, "holds more than {MAX_VALUES} values");
        self.stack.push(size);
        Ok(())
    }

    fn pop(&mut self) -> Result<Size> {
        let size = self.stack.pop().context("takes a value where there is none")?;
        self.held = self.held.saturating_sub(size.values);
        Ok(size)
    }

    /// Pops the values above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Size>> {
        let mark = self.stack.iter().rposition(|size| size.is_mark).context("has no mark")?;
        let parts = self.stack.split_off(mark + 1);
        let values: u64 = parts.iter().map(|size| size.values).sum();
        self.held = self.held.saturating_sub(values);
        self.pop()?;
        Ok(parts)
    }

    /// Replaces the last values by one that contains them.
    fn join(&mut self, count: usize) -> Result<()> {
        let mut parts = Vec::new();
        for _ in 0..count {
            parts.push(self.pop()?);
        }
        self.push_container(&parts)
    }

    /// Pushes a value that contains these.
    fn push_container(&mut self, parts: &[Size]) -> Result<()> {
        let depth = parts.iter().map(|size| size.depth).max().unwrap_or_default() + 1;
        let values = parts.iter().map(|size| size.values).fold(1, u64::saturating_add);
        self.push(Size { depth, values, is_mark: false })
    }

    /// Pops values and puts them into the one below.
    fn extend_by(&mut self, count: usize) -> Result<()> {
        let mut parts = Vec::new();
        for _ in 0..count {
            parts.push(self.pop()?);
        }
        self.extend(&parts)
    }

    /// Puts values into the one on top of the stack.
    fn extend(&mut self, parts: &[Size]) -> Result<()> {
        let container =
            if self.stack.last().is_some_and(|size| !size.is_mark) { self.pop()? } else { Size::ONE };
        let depth = parts.iter().map(|size| size.depth + 1).max().unwrap_or_default().max(container.depth);
        let values = parts.iter().map(|size| size.values).fold(container.values, u64::saturating_add);
        self.push(Size { depth, values, is_mark: false })
    }

    fn count_copy(&mut self, size: Size) -> Result<()> {
        self.copied = self.copied.saturating_add(size.values);
        ensure!(self.copied <= MAX_COPIES, "copies more than {MAX_COPIES} values");
        Ok(())
    }

    /// Memoises the value on top of the stack.
    fn memoise(&mut self, id: u32) -> Result<()> {
        let size = *self.stack.last().context("memoises a value where there is none")?;
        self.count_copy(size)?;
        let before = self.memo.insert(id, size).map_or(0, |size| size.values);
        self.held = self.held.saturating_sub(before).saturating_add(size.values);
        ensure!(self.held <= MAX_VALUES, "holds more than {MAX_VALUES} values");
        Ok(())
    }

    /// Pushes a value of the memo.
    fn get(&mut self, id: u32) -> Result<()> {
        let size = *self.memo.get(&id).context("gets a value that is not in the memo")?;
        self.count_copy(size)?;
        self.push(size)
    }
}

fn bytes<const N: usize>(r: &mut impl BufRead) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    r.read_exact(&mut bytes).context("ends in the middle of an instruction")?;
    Ok(bytes)
}

fn short_id(r: &mut impl BufRead) -> Result<u32> {
    bytes(r).map(|[id]| u32::from(id))
}

/// Skips bytes of a text or number.
fn skip_bytes(r: &mut impl BufRead, count: u64) -> Result<()> {
    let passed = std::io::copy(&mut r.by_ref().take(count), &mut std::io::sink())?;
    ensure!(passed == count, "ends in the middle of a text");
    Ok(())
}

/// Skips a line. Returns its length.
fn line(r: &mut impl BufRead) -> Result<usize> {
    let mut text = Vec::new();
    let length = r.by_ref().take(u64::from(MAX_TEXT)).read_until(b'\n', &mut text)?;
    ensure!(text.last() == Some(&b'\n'), "has a name without end");
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pickle: &[u8], expected: Result<(), &str>) {
        match (scan(&mut &pickle[..]), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn what_a_checkpoint_needs_is_followed() {
        let state_dict = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02\
            K\x05M\x00\x01\x86q\x03X\x01\x00\x00\x00bJ\x00\x00\x00\x00u}b.";
        check(state_dict, Ok(()));
        check(b"\x80\x02]q\x00(K\x01K\x02e\x8a\x01\x07a.", Ok(()));
        check(b"G\x00\x00\x00\x00\x00\x00\x00\x00\x85.", Ok(()));
        check(b"\x80", Err("ends in the middle"));
        check(b"t.", Err("no mark"));
        check(b"h\x05.", Err("not in the memo"));
        check(b"\x95", Err("0x95"));
        check(b"X\xff\xff\xff\xff", Err("a text of 4294967295 bytes"));
        check(b"cbuiltins", Err("a name without end"));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |opener: &[u8], count: usize| [b")", &opener.repeat(count)[..], b"."].concat();
        check(&nested(b"\x85", 60), Ok(()));
        check(&nested(b"\x85", 64), Err("more than 64 deep"));
        // A list in a list, appended from inside out.
        let lists = [b"]".repeat(70), b"a".repeat(69), b".".to_vec()].concat();
        check(&lists, Err("more than 64 deep"));
        // Each pair holds the one before twice.
        let doubled: Vec<u8> = (0..40).flat_map(|_| *b"q\x00h\x00\x86").collect();
        check(&[b")", &doubled[..], b"."].concat(), Err("values"));
        // A large value remembered under many names.
        let large = [b"(".to_vec(), b"K\x01".repeat(1_000), b"t".to_vec()].concat();
        let kept: Vec<u8> = (0..5_000_u32).flat_map(|id| [b"r", &id.to_le_bytes()[..]].concat()).collect();
        check(&[large, kept, b".".to_vec()].concat(), Err("values"));
    }
}
