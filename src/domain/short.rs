use std::borrow::Cow;

/// Most that a message shows of what a client has written, in bytes.
pub(crate) const SHOWN: usize = 64;
/// Longest reason that is kept, in bytes.
pub(crate) const REASON: usize = 1024;

const MORE: &str = "…";

/// The text, cut to at most `most` bytes. A text that was cut ends in `…`.
pub(crate) fn shortened<'a>(text: impl Into<Cow<'a, str>>, most: usize) -> Cow<'a, str> {
    let text = text.into();
    if text.len() <= most {
        return text;
    }
    let end = text.floor_char_boundary(most.saturating_sub(MORE.len()));
    Cow::Owned([&text[..end], MORE].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters_and_says_so() {
        for (text, short) in [("", ""), ("12345678", "12345678"), ("123456789", "12345…"), ("1234ééé", "1234…")]
        {
            assert_eq!(shortened(text, 8), short);
        }
        assert_eq!(shortened("123", 2), "…");
    }
}
