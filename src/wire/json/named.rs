use super::lexer::{Lexer, Trace};
use super::names::Names;
use super::raw::Raw;
use super::spelled_out;

/// The strings that this key has as its value anywhere in a value, decoded. The value is read once, however deep it is.
pub(crate) fn strings_named(key: &str, value: Raw<'_>) -> Vec<String> {
    let text = value.as_str();
    let mut found = Named { key, text, is_next: false, strings: Vec::new() };
    // A string or a number has no members.
    _ = Lexer::new(text, usize::MAX, &Names::NONE).traced(&mut found);
    found.strings
}

struct Named<'a> {
    key: &'a str,
    text: &'a str,
    /// Whether the last thing that was read is the key.
    is_next: bool,
    strings: Vec<String>,
}

impl Trace for Named<'_> {
    fn open(&mut self, _at: usize) {
        self.is_next = false;
    }

    fn key(&mut self, start: usize, end: usize, escaped: bool) {
        let key = self.text.get(start + 1..end - 1).unwrap_or_default();
        self.is_next = spelled_out(key, escaped) == self.key;
    }

    fn scalar(&mut self, start: usize, end: usize) {
        if std::mem::take(&mut self.is_next) {
            let string = self.text.get(start..end).and_then(|value| Raw::cut(value).text());
            self.strings.extend(string.map(|string| string.into_plain().into_owned()));
        }
    }

    fn close(&mut self, _end: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_a_name_are_found_wherever_they_are() {
        let json =
            r#"{"a":"1","b":["a","2",{"\u0061":"\n3"},{"a":["4"]},{"a":{"a":"5"}}],"a":null,"ab":"6","c":{"a":7}}"#;
        assert_eq!(strings_named("a", Raw::new(json)), ["1", "\n3", "5"]);
        assert_eq!(strings_named("a", Raw::new(r#""a""#)), Vec::<String>::new());
    }
}
