//! What clients say about themselves. It is for reports only, since nobody has checked it.
//!
//! Use it in an observer, through [`Outcome::client`](super::outcome::Outcome::client), to see who spends, by session
//! and by agent. It needs no setup. Each value is one line of at most 128 bytes.
//!
//! ```
//! use http::HeaderMap;
//! use tollgate::domain::attribution::Attribution;
//! let mut headers = HeaderMap::new();
//! headers.insert("user-agent", "claude-cli/2.1.330 (external, cli)".parse()?);
//! headers.insert("x-claude-code-session-id", "0199".parse()?);
//! let client = Attribution::of(&headers, None);
//! assert_eq!((client.agent.as_deref(), client.session.as_deref()), (Some("claude-cli/2.1.330"), Some("0199")));
//! # Ok::<(), http::header::InvalidHeaderValue>(())
//! ```

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use memchr::memchr_iter;
use serde::Deserialize;

/// The longest value, in bytes.
const LONGEST: usize = 128;

/// The request headers that describe the client, found in one pass.
#[derive(Default)]
struct Said<'a> {
    user_agent: Option<&'a HeaderValue>,
    claude_code_session: Option<&'a HeaderValue>,
    session: Option<&'a HeaderValue>,
    /// Sent by Codex and opencode.
    originator: Option<&'a HeaderValue>,
    x_session: Option<&'a HeaderValue>,
    affinity: Option<&'a HeaderValue>,
    /// Codex's description of a turn, in JSON. It has the session if the session header is missing.
    codex_turn: Option<&'a HeaderValue>,
    /// Set by people in their clients, for their own reports.
    team: Option<&'a HeaderValue>,
}

impl<'a> Said<'a> {
    fn by(headers: &'a HeaderMap) -> Self {
        let mut said = Said::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "user-agent" => &mut said.user_agent,
                "x-claude-code-session-id" => &mut said.claude_code_session,
                "session-id" => &mut said.session,
                "originator" => &mut said.originator,
                "x-session-id" => &mut said.x_session,
                "x-session-affinity" => &mut said.affinity,
                "x-codex-turn-metadata" => &mut said.codex_turn,
                "x-team" => &mut said.team,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        said
    }

    /// The headers in which clients name their session, each only together with a sign that it is that client. A host
    /// may use a generic header name for its own credentials.
    fn sessions(&self) -> impl Iterator<Item = &'a HeaderValue> {
        [
            self.claude_code_session,
            self.session.filter(|_| self.originator.is_some()),
            self.x_session.filter(|_| self.affinity.is_some()),
        ]
        .into_iter()
        .flatten()
    }
}

/// What a client says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Attribution {
    /// The program and its version: `claude-cli/2.1.330`, `OpenAI/Python 2.34.0`.
    pub agent: Option<Arc<str>>,
    /// The session that the call belongs to.
    pub session: Option<Arc<str>>,
    /// The end user: `metadata.user_id` of Messages, `safety_identifier` or `user` of Chat Completions.
    pub user: Option<Arc<str>>,
    /// The team: the header `x-team`.
    pub team: Option<Arc<str>>,
}

impl Attribution {
    /// Reads it from the headers of a request and from the user that the body names.
    #[must_use]
    pub fn of(headers: &HeaderMap, user: Option<&str>) -> Self {
        let said = Said::by(headers);
        let agent = said.user_agent.and_then(|value| {
            let agent = value.as_bytes();
            // What follows in brackets describes the machine.
            let behind = memchr_iter(b'(', agent).filter_map(|bracket| agent[..bracket].strip_suffix(b" ")).next();
            clean(behind.unwrap_or(agent))
        });
        let session = said.sessions().find_map(|value| clean(value.as_bytes()));
        let session = session.or_else(|| CodexTurn::session(said.codex_turn?.as_bytes()));
        let team = said.team.and_then(|value| clean(value.as_bytes()));
        Attribution { agent, session, user: None, team }.and_user(user)
    }

    /// Adds the user that the body names. With Claude Code that contains the session too.
    #[must_use]
    pub fn and_user(mut self, said: Option<&str>) -> Self {
        let Some(said) = said else { return self };
        let (user, session) = ClaudeCode::read(said).unwrap_or_else(|| (Some(said.to_owned()), None));
        let line = |text: Option<String>| clean(text?.as_bytes());
        self.user = line(user);
        self.session = self.session.or_else(|| line(session));
        self
    }
}

/// `metadata.user_id` as Claude Code writes it.
#[derive(Deserialize)]
struct ClaudeCode {
    device_id: Option<String>,
    account_uuid: Option<String>,
    session_id: Option<String>,
}

impl ClaudeCode {
    /// The user and the session, if Claude Code wrote the text.
    fn read(said: &str) -> Option<(Option<String>, Option<String>)> {
        if said.starts_with('{') {
            let ClaudeCode { device_id, account_uuid, session_id } = serde_json::from_str(said).ok()?;
            let user = account_uuid.filter(|id| !id.is_empty()).or(device_id);
            return (user.is_some() || session_id.is_some()).then_some((user, session_id));
        }
        // The older format: user_<device>_account_<uuid>_session_<uuid>.
        let (user, session) = said.split_once("_session_")?;
        let is_its = user.starts_with("user_") && user.contains("_account_");
        is_its.then(|| (Some(user.to_owned()), Some(session.to_owned())))
    }
}

/// The part of Codex's description of a turn that is used.
#[derive(Deserialize)]
struct CodexTurn {
    session_id: Option<String>,
}

impl CodexTurn {
    fn session(said: &[u8]) -> Option<Arc<str>> {
        let CodexTurn { session_id } = serde_json::from_slice(said).ok()?;
        clean(session_id?.as_bytes())
    }
}

/// One line of at most `LONGEST` bytes; `None` if nothing is left.
fn clean(bytes: &[u8]) -> Option<Arc<str>> {
    let is_plain = bytes.len() <= LONGEST && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    if let (true, Ok(plain)) = (is_plain, str::from_utf8(bytes)) {
        return Some(plain.trim_ascii()).filter(|plain| !plain.is_empty()).map(Arc::from);
    }
    let mut clean = String::new();
    for letter in String::from_utf8_lossy(bytes).trim_start().chars().filter(|letter| !is_unseen(*letter)) {
        if clean.len() + letter.len_utf8() > LONGEST {
            break;
        }
        clean.push(letter);
    }
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.into())
}

/// Whether a character ends a line, changes the text direction or is invisible (Unicode's Cc, Zl, Zp and Cf): such
/// values would look alike without being equal.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(headers: &[(&'static str, &[u8])], user: Option<&str>) -> [Option<String>; 3] {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let Attribution { agent, session, user, .. } = Attribution::of(&map, user);
        [agent, session, user].map(|text| text.map(|text| text.to_string()))
    }

    #[test]
    fn clients_say_who_they_are_each_in_its_own_way() {
        let some = |text: &str| Some(text.to_owned());
        let said = r#"{"device_id":"d1","account_uuid":"","session_id":"s1"}"#;
        assert_eq!(
            of(&[("user-agent", b"claude-cli/2.1.330 (external, cli)")], Some(said)),
            [some("claude-cli/2.1.330"), some("s1"), some("d1")]
        );
        let said = r#"{"device_id":"d1","account_uuid":"a1","session_id":"s1"}"#;
        assert_eq!(of(&[("x-claude-code-session-id", b"s2")], Some(said)), [None, some("s2"), some("a1")]);
        assert_eq!(
            of(&[], Some("user_d1_account_a1_session_s1")),
            [None, some("s1"), some("user_d1_account_a1")],
            "as it was before"
        );
        assert_eq!(
            of(&[("user-agent", b"OpenAI/Python 2.34.0")], Some("ada@example.com")),
            [some("OpenAI/Python 2.34.0"), None, some("ada@example.com")]
        );
        assert_eq!(of(&[("session-id", b"s3"), ("originator", b"codex_cli_rs")], None), [None, some("s3"), None]);
        assert_eq!(of(&[("x-session-id", b"s4"), ("x-session-affinity", b"1")], None), [None, some("s4"), None]);
        assert_eq!(of(&[("x-session-id", b"a token"), ("session-id", b"another")], None), [None, None, None]);
        for said in ["user_7_session_9", r#"{"id":"ada"}"#, "{}", r#"["a","b","c"]"#, r#"{"session_id":7}"#] {
            assert_eq!(of(&[], Some(said)), [None, None, some(said)], "nobody's way but its own");
        }
        assert_eq!(of(&[], None), [None, None, None]);
    }

    #[test]
    fn codex_names_its_session_in_its_account_of_a_turn_where_no_header_does() {
        let turn = br#"{"session_id":"s5","thread_source":"user","workspaces":{"/home/ada":{"has_changes":true}}}"#;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(&[("x-codex-turn-metadata", turn)], None)[1], some("s5"));
        let headers: [(_, &[u8]); 3] =
            [("session-id", b"s3"), ("originator", b"codex_cli_rs"), ("x-codex-turn-metadata", turn)];
        assert_eq!(of(&headers, None)[1], some("s3"));
        let long = format!(r#"{{"session_id":"{}"}}"#, "s".repeat(60_000));
        assert_eq!(of(&[("x-codex-turn-metadata", long.as_bytes())], None)[1], Some("s".repeat(LONGEST)));
        for turn in [&br#"{"session_id":7}"#[..], b"{", b"[]", br#"{"turn_id":"t"}"#, br#"{"session_id":""}"#] {
            assert_eq!(of(&[("x-codex-turn-metadata", turn)], None)[1], None);
        }
    }

    #[test]
    fn a_client_says_its_team_in_a_header_that_is_cleaned_and_capped_like_the_rest() {
        let team = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-team", HeaderValue::from_bytes(value).expect("a value"));
            Attribution::of(&headers, None).team.map(|team| team.to_string())
        };
        assert_eq!(team(b" search "), Some("search".to_owned()));
        assert_eq!(team("suche\t\u{85}team".as_bytes()), Some("sucheteam".to_owned()));
        assert_eq!(team(&[b'a'; 65_536]), Some("a".repeat(LONGEST)));
        assert_eq!(team(b" "), None);
    }

    #[test]
    fn what_they_say_is_one_short_line_whatever_it_was() {
        let long = vec![b'a'; 65_536];
        let [agent, session, user] = of(
            &[("user-agent", b"\xff\xfe agent\t\x80(x"), ("session-id", &long), ("originator", b"x")],
            Some("one\nline\u{1b}[31m \u{85}and \r\nmore"),
        );
        assert_eq!(agent.as_deref(), Some("\u{fffd}\u{fffd} agent\u{fffd}(x"));
        assert_eq!(session.map(|session| session.len()), Some(LONGEST));
        assert_eq!(user.as_deref(), Some("oneline[31m and more"));
        let [.., user] = of(&[], Some(&"ß".repeat(1_000)));
        assert_eq!(user.map(|user| user.chars().count()), Some(LONGEST / 2), "cut between letters");
        assert_eq!(of(&[("user-agent", b"  "), ("session-id", b"")], Some("\n")), [None, None, None]);
        let unseen = "a\u{2028}da\u{2029}\u{202e}\u{200b}\u{ad}\u{feff}\u{2066} b\u{e0041}ö";
        let [agent, _, user] = of(&[("user-agent", unseen.as_bytes())], Some(unseen));
        assert_eq!(
            (agent.as_deref(), user.as_deref()),
            (Some("ada bö"), Some("ada bö")),
            "nor has it what nobody sees"
        );
        assert_eq!(of(&[], Some(" \u{200b} \u{2029} "))[2], None);
        assert_eq!(of(&[], Some(r#"{"device_id":{}}"#)), [None, None, Some(r#"{"device_id":{}}"#.to_owned())]);
    }
}
