use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexSet};

use super::Redactor;
use super::checked::{CARD, Checked, IBAN, within};
use super::names::is_telling;

/// A [`Redactor`] that replaces matches of regular expressions and words by a name in brackets, such as `[email]`.
///
/// All patterns are searched in one pass. A text without matches is not copied.
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
    /// Whether members with the name of a secret are hidden, whatever their value.
    by_name: bool,
}

#[derive(Clone)]
struct Pattern {
    name: Arc<str>,
    regex: Regex,
    checked: Option<Checked>,
}

type Common = (&'static str, &'static str, Option<Checked>);

/// What hardly anyone wants to keep. Secrets come first, since a secret may contain something that looks like another
/// match. `\b` is ASCII: Unicode's makes the whole text go through a slower engine.
const COMMON: [Common; 13] = [
    (
        "secret",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
        None,
    ),
    (
        "secret",
        r"(?-u:\b)(?:sk-|sk_live_|sk_test_|rk_live_|tg_live_|tg_test_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|npm_|hf_|hv[bsr]\.|AIza|ya29\.)[A-Za-z0-9_-]{16,}",
        None,
    ),
    ("secret", r"(?-u:\b)(?:AKIA|ASIA)[A-Z0-9]{16}(?-u:\b)", None),
    // A JSON Web Token (RFC 7519): its first part starts with `{"`, in base64.
    ("secret", r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", None),
    // A scheme and its credentials (RFC 7235).
    ("secret", r#"(?i)(?-u:\b)(?:bearer|basic) +[a-z0-9._~+/=-]{12,}"#, None),
    // A value with the name of a secret: in quotes, which may be escaped, or after `=`. After `:` without quotes it
    // needs a digit, otherwise it is a type.
    (
        "secret",
        r#"(?i)[a-z0-9_-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|(?:access|auth|refresh|session|id)[_-]?token)[a-z0-9_-]*\\*["']? *(?:[=:] *"(?:[^"\\\n]|\\.)+"?|[=:] *'(?:[^'\\\n]|\\.)+'?|[=:] *\\"(?:[^"\\\n]|\\[^"\\\n]|\\{2,}"?)+(?:\\")?|[=:] *\\+"[^"\n]+"?|[=:] *\\+'[^'\n]+'?|= *[^\s"'=,;&](?:[^\s"',;&]|["'][a-z0-9]){3,}|: *[^\s"',;&]*[0-9][^\s"',;&]*)"#,
        None,
    ),
    // The same for names that mean a secret only at their end, unlike `token_count` or `passed`: a long value in quotes,
    // or one of letters and digits after `=`.
    (
        "secret",
        r#"(?i)(?:[a-z0-9_-]*token|(?-u:\b)(?:[a-z0-9_-]*[_-])?(?:pass|pwd)|[a-z0-9_-]*(?:encryption|signing|master|account|shared)[_-]?key)(?:\\*["']? *[=:] *\\*["'][^\s"'\\]{8,}(?:\\*["'])?|=[a-z_.~+/-]*[0-9][0-9._-]*[a-z][a-z0-9._~+/=-]{4,})"#,
        None,
    ),
    // A variable of the environment. `PWD` alone is a directory.
    (
        "secret",
        r#"(?-u:\b)(?:[A-Z0-9_]*TOKEN|(?:[A-Z0-9_]*_)?PASS|[A-Z0-9_]+_(?:PWD|KEY))=(?:\\*["'])?[^\s"',;&\\]{4,}(?:\\*["'])?"#,
        None,
    ),
    // The password in a URL (RFC 3986, section 3.2.1), which may have an `@` of its own.
    ("secret", r#"://[^\s/?\#@:"'<>\\]*:(?<hidden>[^\s/?\#"'<>\\]+)@"#, None),
    // A domain's last part is either ASCII or not: text in another script may follow an address without a space.
    (
        "email",
        r"(?i)(?-u:\b)[a-z0-9._%+-]+(?:@|%40)[\p{L}\p{M}0-9-]+(?:\.[\p{L}\p{M}0-9-]+)*\.(?:xn--[a-z0-9-]+|[a-z]{2,}(?-u:\b)|[\p{L}\p{M}--\x00-\x7f]{2,})",
        None,
    ),
    ("iban", r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,}(?-u:\b)", Some(IBAN)),
    ("card", r"(?-u:\b)[0-9](?:[ -]?[0-9]){12,}(?-u:\b)", Some(CARD)),
    ("ssn", r"(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b)", None),
];

/// The group of a pattern that is replaced, where that is not all of it.
const HIDDEN: &str = "hidden";

impl Patterns {
    /// Creates an empty set of patterns.
    #[must_use]
    pub fn new() -> Self {
        Patterns { set: RegexSet::empty(), each: Vec::new(), by_name: false }
    }

    /// Common patterns: e-mail addresses; US social security numbers; card numbers (ISO/IEC 7812) and bank accounts
    /// (ISO 13616) with valid check digits; and secrets (private keys, tokens with known prefixes, passwords in URLs,
    /// and what has the name of a secret, such as `password`, `API_KEY`, `npm_token` or `credentials`).
    ///
    /// This is a start and no guarantee: names, postal addresses and telephone numbers have no form that patterns could
    /// find.
    #[must_use]
    pub fn common() -> Self {
        let of = |&(name, pattern, checked): &Common| {
            Regex::new(pattern).ok().map(|regex| Pattern { name: name.into(), regex, checked })
        };
        // All of them compile, as a test checks.
        let each: Vec<_> = COMMON.iter().filter_map(of).collect();
        Patterns { each, by_name: true, ..Patterns::new() }.found().unwrap_or_default()
    }

    /// Replaces matches of this [expression](https://docs.rs/regex/1/regex/#syntax) by `[name]`. In an expression with a
    /// group called `hidden`, only what that group matches is replaced.
    ///
    /// # Errors
    /// If the expression is invalid or too large.
    pub fn pattern(mut self, name: impl Into<Arc<str>>, expression: &str) -> Result<Self, NotAPattern> {
        let regex = Regex::new(expression).map_err(NotAPattern)?;
        self.each.push(Pattern { name: name.into(), regex, checked: None });
        self.found()
    }

    /// Replaces these words by `[name]`, in any case, unless they are part of a longer word.
    ///
    /// # Errors
    /// If there are too many.
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

    /// Rebuilds the set that finds all patterns in one pass.
    fn found(mut self) -> Result<Self, NotAPattern> {
        self.set = RegexSet::new(self.each.iter().map(|pattern| pattern.regex.as_str())).map_err(NotAPattern)?;
        Ok(self)
    }
}

impl fmt::Debug for Patterns {
    /// Shows only the names: a list of words may be secret itself.
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
            let replaced = pattern.regex.replace_all(&left, |found: &regex::Captures<'_>| match pattern.checked {
                None => {
                    let (whole, hidden) = (found.get_match(), found.name(HIDDEN));
                    let hidden = hidden.unwrap_or(whole);
                    let (before, after) = (whole.start()..hidden.start(), hidden.end()..whole.end());
                    format!("{}[{}]{}", &left[before], pattern.name, &left[after])
                }
                Some(checked) => within(&found[0], &pattern.name, checked),
            });
            if let Cow::Owned(replaced) = replaced {
                left = Cow::Owned(replaced);
            }
        }
        left
    }

    fn hides(&self, name: &str) -> bool {
        self.by_name && is_telling(name)
    }
}

/// The error for a pattern that cannot be used.
#[derive(Debug, Clone)]
pub struct NotAPattern(regex::Error);

impl fmt::Display for NotAPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid redaction pattern: {}", self.0)
    }
}

impl std::error::Error for NotAPattern {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
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
            (&format!("with {key}"), "with [secret]"),
            ("x-api-key: 9f8a7b6c5d4e", "[secret]"),
            ("export DB_PASSWORD=hunter2hunter2 && run", "export [secret] && run"),
            (r#"{"client_secret": "abcdefgh"}"#, r#"{"[secret]}"#),
            ("AKIAIOSFODNN7EXAMPLE!", "[secret]!"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nrest", "[secret]\nrest"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "[secret]"),
            ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0abc.c2ln", "Bearer [secret]"),
            ("fn password(self) -> Secret { todo }", "fn password(self) -> Secret { todo }"),
            (
                "password: string; secret: always; if password == expected",
                "password: string; secret: always; if password == expected",
            ),
            ("PASSWORD='S3cr3t!x,more-of-it;tail' run", "[secret] run"),
            ("password: \"correct horse battery staple\", user: ada", "[secret], user: ada"),
            (r#"curl -d "{\"password\":\"tulip\"}""#, r#"curl -d "{\"[secret]}""#),
            (r#"{"password":"pa\"ss-word1"}"#, r#"{"[secret]}"#),
            (r#"{"password":"back\\","user":"ada"}"#, r#"{"[secret],"user":"ada"}"#),
            (r"password = 'it\'s me' or", "[secret] or"),
            (r#"-d "{\"password\":\"pa\\\"ss\",\"x\":1}""#, r#"-d "{\"[secret],\"x\":1}""#),
            (r#""{\\\"password\\\":\\\"it's\\\"}""#, r#""{\\\"[secret]}""#),
            ("password=hunter=2secret next", "[secret] next"),
            (r#"DATABASE_PASSWORD=ab"cdef next"#, "[secret] next"),
            (r#"{"command":"run PASSWORD=hunter2"}"#, r#"{"command":"run [secret]"}"#),
            ("if secret == wanted { secret=> }", "if secret == wanted { secret=> }"),
            ("ada@bücher.example, ada@пример.рф. ada@x.xn--p1ai", "[email], [email]. [email]"),
            ("ada@example.comです, a@b", "[email]です, a@b"),
            ("?to=ada%40example.com&x=%20a", "?to=[email]&x=%20a"),
            ("api-key=9f8a7b6c&x=1 and refresh_token=abcdefgh", "[secret]&x=1 and [secret]"),
            ("Authorization: Bearer abcdefghijklmnop", "Authorization: [secret]"),
            ("078-05-1120", "[ssn]"),
            ("postgres://app:hunter2@db:5432/x", "postgres://app:[secret]@db:5432/x"),
            ("redis://:s3cr3tpw@localhost:6379", "redis://:[secret]@localhost:6379"),
            (
                "DATABASE_URL=mysql://a:p@ss@db.example.com/x now",
                "DATABASE_URL=mysql://a:[secret]@db.example.com/x now",
            ),
            (
                "http://localhost:8080/@vite?a=b@c and ssh://git@host:22",
                "http://localhost:8080/@vite?a=b@c and ssh://git@host:22",
            ),
            ("VAULT_TOKEN=hvs.CAESIJ vault read", "[secret] vault read"),
            ("env DB_PASS=hunter2hunter2 STRIPE_KEY='abcd' run", "env [secret] [secret] run"),
            ("token=9f8a7b6c5d4e&page=2", "[secret]&page=2"),
            (r#"{"NPM_TOKEN": "abcdefgh", "pass":"hunter2hunter2"}"#, r#"{"[secret], "[secret]}"#),
            ("AccountName=x;AccountKey=ab3cdefgh==;y", "AccountName=x;[secret];y"),
            (
                r#"max_tokens=4096 tokens: "x" token_count="12345678" keyboard=qwerty12345 pass: true passed="yes, it is""#,
                r#"max_tokens=4096 tokens: "x" token_count="12345678" keyboard=qwerty12345 pass: true passed="yes, it is""#,
            ),
            (
                r#"PWD=/home/ada let token = next_token(); pad_token="<pad>" bypass="everything" pass=12 cost_per_token=0.0000025"#,
                r#"PWD=/home/ada let token = next_token(); pad_token="<pad>" bypass="everything" pass=12 cost_per_token=0.0000025"#,
            ),
            ("\u{201c}caf\u{e9}\u{201d} 4111 1111 1111 1111\u{201d}", "\u{201c}caf\u{e9}\u{201d} [card]\u{201d}"),
            ("", ""),
        ] {
            assert_eq!(patterns.redact(text), left, "{text}");
        }
        assert!(matches!(patterns.redact("nothing of the kind"), Cow::Borrowed(_)));
        assert!(patterns.hides("password"));
        assert!(!Patterns::new().hides("password"));
    }

    #[test]
    fn every_pattern_is_found_behind_an_escape_of_a_document_that_is_cut_or_stands_in_a_text() {
        let patterns = Patterns::common();
        for (secret, name) in [
            ("4111 1111 1111 1111", "card"),
            ("078-05-1120", "ssn"),
            ("DE89 3704 0044 0532 0130 00", "iban"),
            ("ada@example.com", "email"),
            ("sk-ant-api03-abcdefghijklmnopqrstuvwxyz", "secret"),
            ("AKIAIOSFODNN7EXAMPLE", "secret"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0abc.c2ln", "secret"),
        ] {
            for escape in ["\\n", "\\t", "\\u0020", "\\\\n"] {
                for text in [
                    format!("```json\n{{\"a\":\"it is{escape}{secret}{escape}\", }}\n```"),
                    format!("Result: {{'a': \"it is{escape}{secret}{escape}\"}}"),
                    format!("{{\"a\":\"it is{escape}{secret}{escape}and"),
                ] {
                    let document = serde_json::json!({ "content": text, "arguments": text }).to_string();
                    let left = super::super::document::redacted(&document, &patterns).expect("a document");
                    assert!(
                        !left.contains(secret) && left.matches(&format!("[{name}]")).count() == 2,
                        "{text}: {left}"
                    );
                }
            }
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
