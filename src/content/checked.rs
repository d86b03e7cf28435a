//! Numbers with check digits, which distinguish a card or account number from one that only looks like it.

/// A number with check digits.
#[derive(Clone, Copy)]
pub(super) struct Checked {
    /// The minimum and maximum of letters and digits.
    lens: (usize, usize),
    /// Checks the number.
    is_it: fn(&str) -> bool,
}

pub(super) const IBAN: Checked = Checked { lens: (15, 34), is_it: is_iban };
pub(super) const CARD: Checked = Checked { lens: (13, 19), is_it: is_card };

/// Replaces each valid number in a run of groups; other groups may stand beside it.
pub(super) fn within(run: &str, name: &str, checked: Checked) -> String {
    let is_gap = |byte: &u8| matches!(byte, b' ' | b'-');
    let (bytes, (least, most)) = (run.as_bytes(), checked.lens);
    let (mut out, mut from) = (String::with_capacity(run.len()), 0);
    while from < bytes.len() {
        // Possible ends: before a gap, or at the end.
        let (mut ends, mut len) = (Vec::new(), 0);
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            if is_gap(byte) {
                ends.extend((len >= least).then_some(at));
            } else if len == most {
                break;
            } else {
                len += 1;
                ends.extend((len >= least && at + 1 == bytes.len()).then_some(at + 1));
            }
        }
        let found = ends.into_iter().rev().find(|end| (checked.is_it)(&run[from..*end]));
        // Otherwise continue with the next group.
        let group = bytes[from..].iter().position(is_gap).map_or(bytes.len(), |len| from + len);
        let end = found.unwrap_or(group);
        match found {
            Some(_) => out.push_str(&format!("[{name}]")),
            None => out.push_str(&run[from..end]),
        }
        let gap = bytes[end..].iter().take_while(|byte| is_gap(byte)).count();
        out.push_str(&run[end..end + gap]);
        from = end + gap;
    }
    out
}

/// Checks the check digit (ISO/IEC 7812-1, annex B) and the prefixes of the large issuers, since one in ten of all
/// numbers has the right digit.
fn is_card(text: &str) -> bool {
    let digits = || text.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let is_issued = matches!(
        (digits().count(), digits().next(), digits().nth(1)),
        (13 | 16 | 19, Some(4), _)
            | (16, Some(5), Some(1..=5))
            | (16, Some(2), Some(2..=7))
            | (15, Some(3), Some(4 | 7))
            | (14, Some(3), Some(0 | 6 | 8 | 9))
            | (16, Some(3), Some(5))
            | (16..=19, Some(6), _)
    );
    let double = |digit: u32| digit * 2 / 10 + digit * 2 % 10;
    let sum =
        || digits().rev().enumerate().map(|(at, digit)| if at % 2 == 0 { digit } else { double(digit) }).sum::<u32>();
    is_issued && sum().is_multiple_of(10)
}

/// Checks the digits of ISO 13616 (ISO/IEC 7064): with the first four characters moved to the end, the number is 1
/// modulo 97.
fn is_iban(text: &str) -> bool {
    let letters: Vec<u8> = text.bytes().filter(|byte| !b" -".contains(byte)).collect();
    let [a, b, c, d, rest @ ..] = &letters[..] else { return false };
    let begins = a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() && d.is_ascii_digit();
    if !begins || !(11..=30).contains(&rest.len()) {
        return false;
    }
    let value = |byte: u8| if byte.is_ascii_digit() { u32::from(byte - b'0') } else { u32::from(byte - b'A') + 10 };
    let left = rest.iter().chain([a, b, c, d]).fold(0, |left, byte| {
        let value = value(*byte);
        (if value < 10 { left * 10 } else { left * 100 } + value) % 97
    });
    left == 1
}
