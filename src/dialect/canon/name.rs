//! Ids that one provider gives none of, and another's clients want. Functions of the answer alone, so that it is translated
//! alike each time.

/// As many digits of base 62 as there are bytes at most.
pub(crate) fn base62(hash: &[u8], digits: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = hash.to_vec();
    let mut out = String::with_capacity(digits);
    for _ in 0..digits {
        // Long division of the whole number, the remainder being the next digit.
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or_default();
            rest = value % 62;
        }
        out.push(char::from(DIGITS[rest as usize % 62]));
    }
    out
}
