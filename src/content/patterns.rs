use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexSet};

use super::Redactor;

/// A [`Redactor`] by regular expressions and words: what is found stands as its name in brackets, `[email]`.
///
/// All are looked for in one pass; a text in which there is none of them is not copied.
///
/// ```
/// use tollgate::content::{Patterns, Redactor};
/// let patterns = Patterns::common()
///     .pattern("ticket", r"\bACME-\d+\b")?
///     .words("project", ["Falcon", "Night Heron"])?;
/// assert_eq!(patterns.redact("Ask ada@example.com about ACME-71 and falcon."), "Ask [email] about [ticket] and [project].");
/// # Ok::<(), tollgate::content::NotAPattern>(())
/// ```
#[derive(Clone)]
pub struct Patterns {
    set: RegexSet,
    each: Vec<Pattern>,
    /// Whether what members hold that are called so is taken out, whatever it is.
    by_name: Option<Regex>,
}

#[derive(Clone)]
struct Pattern {
    name: Arc<str>,
    regex: Regex,
    /// Tells what it is from what only looks like it, where there are check digits.
    is_it: Option<fn(&str) -> bool>,
}

type Common = (&'static str, &'static str, Option<fn(&str) -> bool>);

/// What members are called that hold a secret.
const SECRET: &str = r"(?i)^(?:.*[_-])?(?:password|passwd|passphrase|secret|secret_?key|api_?-?key|access_?-?token|refresh_?-?token|private_?-?key|authorization)$";

/// What nearly nobody wants kept. Secrets first: one may hold what looks like another.
const COMMON: [Common; 8] = [
    ("secret", r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", None),
    (
        "secret",
        r"\b(?:sk-|sk_live_|sk_test_|rk_live_|tg_live_|tg_test_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|npm_|hf_|AIza|ya29\.)[A-Za-z0-9_-]{16,}",
        None,
    ),
    ("secret", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", None),
    // A JSON Web Token (RFC 7519): its first part begins as `{"` in base64.
    ("secret", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", None),
    (
        "secret",
        r#"(?i)\b(?:[a-z0-9]+_)*(?:password|passwd|secret|api_?key|access_?token)(?:_[a-z0-9]+)*["']?\s*[=:]\s*["']?[^\s"',;]{6,}"#,
        None,
    ),
    ("email", r"(?i)\b[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}\b", None),
    ("iban", r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,}\b", Some(is_iban)),
    ("card", r"\b[0-9](?:[ -]?[0-9]){12,}\b", Some(is_card)),
];

impl Patterns {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Patterns { set: RegexSet::empty(), each: Vec::new(), by_name: None }
    }

    /// Addresses of e-mail, numbers of cards (ISO/IEC 7812) and accounts (ISO 13616) whose check digits are right, and secrets:
    /// private keys, tokens by what the providers' begin with, passwords that are called so. A beginning, and no promise:
    /// names, addresses and telephone numbers have no shape that could be found so.
    #[must_use]
    pub fn common() -> Self {
        let of = |&(name, pattern, is_it): &Common| {
            Regex::new(pattern).ok().map(|regex| Pattern { name: name.into(), regex, is_it })
        };
        // They are all good: a test looks.
        let each: Vec<_> = COMMON.iter().filter_map(of).collect();
        let by_name = Regex::new(SECRET).ok();
        Patterns { each, by_name, ..Patterns::new() }.found().unwrap_or_default()
    }

    /// What this [expression](https://docs.rs/regex/1/regex/#syntax) finds stands as `[name]`.
    ///
    /// # Errors
    /// When it is none, or too large.
    pub fn pattern(mut self, name: impl Into<Arc<str>>, expression: &str) -> Result<Self, NotAPattern> {
        let regex = Regex::new(expression).map_err(NotAPattern)?;
        self.each.push(Pattern { name: name.into(), regex, is_it: None });
        self.found()
    }

    /// These words stand as `[name]`, in whichever case, where they are not part of a longer one.
    ///
    /// # Errors
    /// When there are too many.
    pub fn words<'a>(
        self,
        name: impl Into<Arc<str>>,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, NotAPattern> {
        let words: Vec<_> = words.into_iter().map(regex::escape).collect();
        if words.is_empty() {
            return Ok(self);
        }
        self.pattern(name, &format!(r"(?i)\b{{start-half}}(?:{})\b{{end-half}}", words.join("|")))
    }

    /// With all of them looked for.
    fn found(mut self) -> Result<Self, NotAPattern> {
        self.set = RegexSet::new(self.each.iter().map(|pattern| pattern.regex.as_str())).map_err(NotAPattern)?;
        Ok(self)
    }
}

impl fmt::Debug for Patterns {
    /// By their names: a list of words may be a secret itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.each.iter().map(|pattern| &pattern.name)).finish()
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self::new()
    }
}

impl Redactor for Patterns {
    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut left = Cow::Borrowed(text);
        for pattern in self.set.matches(text).iter().filter_map(|at| self.each.get(at)) {
            let replaced = pattern.regex.replace_all(&left, |found: &regex::Captures<'_>| match pattern.is_it {
                None => format!("[{}]", pattern.name),
                Some(is_it) => within(&found[0], &pattern.name, is_it),
            });
            if let Cow::Owned(replaced) = replaced {
                left = Cow::Owned(replaced);
            }
        }
        left
    }

    fn redact_member<'a>(&self, name: &str, text: &'a str) -> Cow<'a, str> {
        match &self.by_name {
            Some(by_name) if by_name.is_match(name) && !text.is_empty() => Cow::Borrowed("[secret]"),
            _ => self.redact(text),
        }
    }
}

/// The longest number that is looked for, with what stands between its groups.
const LONGEST: usize = 48;

/// A run of groups, with each part of it taken out that is the number that is looked for: it may stand beside others.
fn within(run: &str, name: &str, is_it: fn(&str) -> bool) -> String {
    let is_edge = |at: usize| at == run.len() || matches!(run.as_bytes()[at], b' ' | b'-');
    let (mut out, mut from) = (String::with_capacity(run.len()), 0);
    while from < run.len() {
        let ends = (from + 1..=run.len().min(from + LONGEST)).rev().filter(|end| is_edge(*end));
        match { ends }.find(|end| is_it(&run[from..*end])) {
            Some(end) => {
                out.push_str(&format!("[{name}]"));
                from = end;
            }
            None => {
                // On to the next group.
                let next = (from + 1..=run.len()).find(|at| is_edge(*at)).unwrap_or(run.len());
                out.push_str(&run[from..next]);
                from = next;
            }
        }
        let gap = run[from..].bytes().take_while(|byte| matches!(byte, b' ' | b'-')).count();
        out.push_str(&run[from..from + gap]);
        from += gap;
    }
    out
}

/// An expression that cannot be looked for.
#[derive(Debug, Clone)]
pub struct NotAPattern(regex::Error);

impl fmt::Display for NotAPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a pattern to redact: {}", self.0)
    }
}

impl std::error::Error for NotAPattern {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// By the check digit of ISO/IEC 7812-1, annex B, and what the numbers of the large issuers begin with: one in ten of all
/// numbers has the right digit.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0')).collect();
    let is_issued = matches!(
        (digits.len(), digits.first(), digits.get(1)),
        (13 | 16 | 19, Some(4), _)
            | (16, Some(5), Some(1..=5))
            | (16, Some(2), Some(2..=7))
            | (15, Some(3), Some(4 | 7))
            | (14, Some(3), Some(0 | 6 | 8 | 9))
            | (16, Some(3), Some(5))
            | (16..=19, Some(6), _)
    );
    let double = |digit: u32| digit * 2 / 10 + digit * 2 % 10;
    let digits = digits.iter().rev().enumerate();
    let sum: u32 = digits.map(|(at, digit)| if at % 2 == 0 { *digit } else { double(*digit) }).sum();
    is_issued && sum.is_multiple_of(10)
}

/// By the check digits of ISO 13616, as ISO/IEC 7064 has them: the number is 1 modulo 97, its first four letters last.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nearly_nobody_wants_kept_is_found() {
        let patterns = Patterns::common();
        assert_eq!(patterns.each.len(), COMMON.len(), "all are good");
        let key = ["tg_live_", &"a1B2".repeat(10), "_abcdef"].concat();
        for (text, left) in [
            ("write to Ada.Lovelace+x@mail.example.co.uk, please", "write to [email], please"),
            ("card 4111 1111 1111 1111 or 5500-0000-0000-0004.", "card [card] or [card]."),
            (
                "the numbers 4111 1111 1111 1112 and 1234567890123 are none",
                "the numbers 4111 1111 1111 1112 and 1234567890123 are none",
            ),
            ("to DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432", "to [iban] and [iban]"),
            ("to GB83WEST12345698765432", "to GB83WEST12345698765432"),
            (&format!("x-api-key: {key}"), "x-api-key: [secret]"),
            ("export DB_PASSWORD=hunter2hunter2 && run", "export [secret] && run"),
            (r#"{"client_secret": "abcdefgh"}"#, r#"{"[secret]"}"#),
            ("AKIAIOSFODNN7EXAMPLE!", "[secret]!"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nrest", "[secret]\nrest"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "[secret]"),
            ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0abc.c2ln", "Bearer [secret]"),
            ("fn password(self) -> Secret { todo }", "fn password(self) -> Secret { todo }"),
            ("", ""),
        ] {
            assert_eq!(patterns.redact(text), left, "{text}");
        }
        assert!(matches!(patterns.redact("nothing of the kind"), Cow::Borrowed(_)));
        for name in ["password", "DB_PASSWORD", "client-secret", "apiKey", "x-api-key", "Authorization"] {
            assert_eq!(patterns.redact_member(name, "hunter2"), "[secret]", "{name}");
        }
        for name in ["passwords_changed", "secretary", "text"] {
            assert_eq!(patterns.redact_member(name, "hunter2"), "hunter2", "{name}");
        }
    }

    #[test]
    fn a_list_of_words_may_be_a_secret_and_is_not_shown() {
        let patterns = Patterns::new().words("project", ["Falcon"]).expect("words");
        assert_eq!(format!("{patterns:?}"), r#"{"project"}"#);
    }

    #[test]
    fn words_are_whole_and_in_any_case() {
        let patterns = Patterns::new().words("project", ["Falcon", "c++", "(x)"]).expect("words");
        assert_eq!(patterns.redact("FALCON, falcons and c++ (x)"), "[project], falcons and [project] [project]");
        assert!(Patterns::new().words("none", []).expect("none").each.is_empty());
        assert!(Patterns::new().pattern("bad", "(").is_err());
    }
}
