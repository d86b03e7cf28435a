//! Names and ids that one provider accepts and another does not. Replacements depend only on the original, so that a
//! conversation is always translated alike.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::wire::json::Escaped;

/// The hash in base 62; `digits` is the maximum.
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

/// The first bytes of a hash, in hexadecimal digits.
pub(crate) fn hex(hash: &[u8], digits: usize) -> String {
    hash.iter().take(digits.div_ceil(2)).map(|byte| format!("{byte:02x}")).collect()
}

/// A name of at most `most` characters that both APIs accept.
fn is_plain(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && text.bytes().all(is_letter)
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The id of a tool call in a form that Anthropic accepts.
pub(crate) fn anthropic_tool_id<'a>(id: &'a Escaped<'_>) -> Cow<'a, str> {
    match is_plain(id.as_str(), 64) {
        true => Cow::Borrowed(id.as_str()),
        false => Cow::Owned(format!("toolu_{}", base62(&Sha256::digest(&*id.decoded()), 24))),
    }
}

/// Whether Claude accepts an id as it is. The bound on the length is only ours, for the ids that we send by choice.
pub(crate) fn is_claude_tool_id(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().copied().all(is_letter)
}

/// The id of a tool call in a form that Claude accepts, whatever its length.
pub(crate) fn claude_tool_id<'a>(id: &'a Escaped<'_>) -> Cow<'a, str> {
    if is_claude_tool_id(id.as_str().as_bytes()) { Cow::Borrowed(id.as_str()) } else { anthropic_tool_id(id) }
}

/// The id in a form that OpenAI accepts, escaped: any characters, but at most 40.
pub(crate) fn openai_tool_id<'a>(id: &'a Escaped<'_>) -> Cow<'a, str> {
    match id.as_str().len() <= 40 {
        true => Cow::Borrowed(id.as_str()),
        false => Cow::Owned(format!("call_{}", hex(&Sha256::digest(&*id.decoded()), 32))),
    }
}

/// The name of a tool in a form that both APIs accept.
pub(crate) fn tool_name<'a>(name: &'a Escaped<'_>) -> Cow<'a, str> {
    if is_plain(name.as_str(), 64) {
        return Cow::Borrowed(name.as_str());
    }
    let decoded = name.decoded();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let front: String = decoded.chars().take(55).map(plain).collect();
    Cow::Owned(format!("{front}_{}", hex(&Sha256::digest(&*decoded), 8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_stay_and_others_become_ones_that_do() {
        for name in ["get_weather", "mcp__server__tool", "a-b"] {
            assert_eq!(tool_name(&Escaped::new(name)), name);
        }
        for name in ["with space", "ünïcode", "dotted.name", "", &"long".repeat(40)] {
            let name = Escaped::new(name);
            let mangled = tool_name(&name);
            assert!(is_plain(&mangled, 64), "{mangled}");
            assert_eq!(mangled, tool_name(&name));
        }
        assert_ne!(tool_name(&Escaped::new("a.b")), tool_name(&Escaped::new("a:b")));
    }

    #[test]
    fn ids_are_kept_where_they_can_be_and_never_collide() {
        assert_eq!(anthropic_tool_id(&Escaped::new("call_0")), "call_0");
        assert_eq!(openai_tool_id(&Escaped::new("toolu_01A09q90qw90lq917835lq9")), "toolu_01A09q90qw90lq917835lq9");
        let (one, two) = (Escaped::new("llm_version:0"), Escaped::new("llm_version:1"));
        assert_ne!(anthropic_tool_id(&one), anthropic_tool_id(&two));
        assert!(is_plain(&anthropic_tool_id(&one), 64));
        let long = "x".repeat(41);
        assert_eq!(openai_tool_id(&Escaped::new(&long)).len(), 37);
    }
}
