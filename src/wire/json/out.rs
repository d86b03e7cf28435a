//! Writes JSON from front to back.

use super::{Escaped, Raw};

/// A document being written. Commas are automatic: a value that follows another in the same brackets gets one.
#[derive(Debug, Default)]
pub(crate) struct Out(String);

impl Out {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Out(String::with_capacity(bytes))
    }

    /// `{` or `[`.
    pub(crate) fn open(&mut self, bracket: char) -> &mut Self {
        self.comma();
        self.0.push(bracket);
        self
    }

    pub(crate) fn close(&mut self, bracket: char) -> &mut Self {
        self.0.push(bracket);
        self
    }

    /// A key, which needs no escape.
    pub(crate) fn key(&mut self, key: &str) -> &mut Self {
        self.comma();
        self.0.extend(["\"", key, "\":"]);
        self
    }

    /// A value, as it is spelled.
    pub(crate) fn raw(&mut self, value: &str) -> &mut Self {
        self.comma();
        self.0.push_str(value);
        self
    }

    /// A string of text that is escaped already.
    pub(crate) fn text(&mut self, text: &Escaped<'_>) -> &mut Self {
        self.pieces(&[text.as_str()])
    }

    /// A string of pieces that are escaped already.
    pub(crate) fn pieces(&mut self, pieces: &[&str]) -> &mut Self {
        self.comma();
        self.0.push('"');
        self.0.extend(pieces.iter().copied());
        self.0.push('"');
        self
    }

    /// A fixed string, which needs no escape.
    pub(crate) fn word(&mut self, word: &'static str) -> &mut Self {
        self.pieces(&[word])
    }

    /// A string of plain text.
    pub(crate) fn plain(&mut self, text: &str) -> &mut Self {
        self.comma();
        self.0.push('"');
        Escaped::write(text, &mut self.0);
        self.0.push('"');
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_string())
    }

    /// A member with this value, if there is one.
    pub(crate) fn member(&mut self, key: &str, value: Option<Raw<'_>>) -> &mut Self {
        if let Some(value) = value {
            self.key(key).raw(value.as_str());
        }
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn comma(&mut self) {
        // No value ends in one of these, and a string ends in its quote.
        if !matches!(self.0.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.0.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_are_where_json_wants_them() {
        let mut out = Out::default();
        out.open('{').key("a").open('[').raw("1").word("{[:").open('{').close('}').close(']');
        out.key("b").plain("\"").member("c", Some(Raw::new("null"))).member("d", None).close('}');
        let json = out.finish();
        assert_eq!(json, r#"{"a":[1,"{[:",{}],"b":"\"","c":null}"#);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }
}
