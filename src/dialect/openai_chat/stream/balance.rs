use crate::wire::json::Escaped;

/// Follows the text of a JSON object, escaped within a JSON string, far enough to know where it ends.
#[derive(Default, Clone, Copy)]
pub(super) struct Balance {
    depth: usize,
    began: bool,
    in_string: bool,
    /// Whether the next character of the inner text is escaped.
    is_escaped: bool,
    /// A hash of all of it (FNV-1a), without white space between tokens.
    sum: u64,
}

const FNV: u64 = 0x100_0000_01b3;

impl Balance {
    pub(super) fn is_complete(self) -> bool {
        self.began && self.depth == 0 && !self.in_string
    }

    /// Whether this piece repeats all that was followed.
    pub(super) fn is_said_by(self, piece: &Escaped<'_>) -> bool {
        let mut again = Balance::default();
        again.follow(piece.as_str());
        again.sum == self.sum
    }

    /// The piece must have only whole escapes of the outer text: each piece is a JSON string of its own.
    pub(super) fn follow(&mut self, escaped: &str) {
        let mut rest = escaped.as_bytes();
        loop {
            let (byte, len) = match *rest {
                [] => return,
                // .NET writes quotes like this.
                [b'\\', b'u', b'0', b'0', high, low, ..] => (byte_of(high, low), 6),
                [b'\\', b'u', ..] => (b'?', rest.len().min(6)),
                // Any other escape stands for itself, or for white space.
                [b'\\', byte @ (b'"' | b'\\'), ..] => (byte, 2),
                [b'\\', ..] => (b' ', rest.len().min(2)),
                [byte, ..] => (byte, 1),
            };
            if self.in_string || !byte.is_ascii_whitespace() {
                let spelled = rest.iter().take(len);
                self.sum = spelled.fold(self.sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(FNV));
            }
            self.inner(byte);
            rest = rest.get(len..).unwrap_or_default();
        }
    }

    fn inner(&mut self, byte: u8) {
        if std::mem::take(&mut self.is_escaped) {
            return;
        }
        match byte {
            b'\\' => self.is_escaped = self.in_string,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => {
                self.began = true;
                self.depth += 1;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

fn byte_of(high: u8, low: u8) -> u8 {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default();
    digit(high) << 4 | digit(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_over_where_its_last_brace_closes() {
        let objects = [r#"{}"#, r#"{"a":{"b":[1,2]}}"#, r#"{"a":"}\"{\\"}"#, r#" {"é\n":"\\\\\""} "#];
        for object in objects {
            for quote in [r#"\""#, r"\u0022"] {
                let (mut balance, chars) = (Balance::default(), object.trim_end().chars().count());
                for (at, piece) in object.trim_end().chars().enumerate() {
                    assert!(!balance.is_complete(), "{object} at {at} of {chars}");
                    match piece {
                        '"' => balance.follow(quote),
                        piece => balance.follow(Escaped::new(piece.encode_utf8(&mut [0; 4])).as_str()),
                    }
                }
                assert!(balance.is_complete(), "{object}");
                balance.follow(r" \n");
                assert!(balance.is_complete(), "{object}");
            }
        }
    }
}
