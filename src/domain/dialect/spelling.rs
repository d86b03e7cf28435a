//! Other spellings of an LLM endpoint's path that a lax server may accept.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{Dialect, Endpoint};

/// How many servers in a row may each undo an encoding.
const ROUNDS: usize = 4;

/// Characters that end a path or a segment for some servers once decoded: parameters, a query, a fragment, a C string.
const ENDS: [char; 4] = [';', '?', '#', '\0'];

impl Endpoint {
    /// The dialect of the client that probably sent the path.
    pub(crate) fn dialect_of_misspelt(path: &str) -> Dialect {
        let is_of_messages = || decoded(path).is_some_and(|path| path.to_ascii_lowercase().contains("messages"));
        Endpoint::family(path).unwrap_or_else(|| match is_of_messages() {
            true => Dialect::Anthropic,
            false => Dialect::OpenAiChat,
        })
    }

    /// Whether a service that is lax about paths may take this one, which is not an LLM endpoint's, for that of one.
    /// Reasons are doubled slashes, dots, backslashes, capitals, escapes, parameters, or a suffix; for a `POST` also
    /// the prefix of a mount.
    pub(crate) fn is_misspelt(path: &str, is_posted: bool) -> bool {
        // No benign client encodes a path that often.
        let Some(decoded) = decoded(path) else { return true };
        let lax = decoded.to_ascii_lowercase().replace('\\', "/");
        let before_query = lax.split(&ENDS[1..]).next().unwrap_or_default();
        [&*lax, before_query].into_iter().any(|path| {
            let segments: Vec<_> = path.split('/').map(plain).filter(|one| !matches!(*one, "" | ".")).collect();
            // Servers differ in where `..` leads, and no client sends any.
            if segments.contains(&"..") {
                return segments.iter().any(|one| matches!(*one, "messages" | "completions" | "responses"));
            }
            let plain = format!("/{}", segments.join("/"));
            Endpoint::of(&plain).has_head() || (is_posted && Endpoint::is_behind_a_prefix(&plain))
        })
    }
}

/// The path with its escapes decoded, and those that appear by that too.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    let mut path = Cow::Borrowed(path);
    for _ in 0..ROUNDS {
        let next = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if next == path {
            return Some(path);
        }
        path = Cow::Owned(next);
    }
    None
}

/// A segment without what some servers do not count as part of its name.
fn plain(segment: &str) -> &str {
    let name = segment.split(ENDS).next().unwrap_or_default();
    let name = name.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    match name {
        "." | ".." => name,
        _ => name.trim_end_matches(|c: char| c == '.' || c.is_whitespace()),
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn whatever_a_lax_server_may_take_for_one_of_ours_is_known_and_what_is_a_hosts_own_is_not() {
        for path in [
            "/v1//messages",
            "//v1/messages",
            "/v1/messages//",
            "/v1/./messages",
            "/./v1/messages/.",
            "/x/../v1/messages",
            "/chat//../completions",
            "/v1/models/../messages",
            "/v1/models/..%2fmessages",
            "/x/%2e%2E/v1/messages",
            "/x/..;/v1/messages",
            "/V1/messages",
            "/v1/Messages",
            "/OpenAI/v1/CHAT/completions",
            "/v1/message%73",
            "/%76%31/messages",
            "/v1%2fmessages",
            "/v1%2Fmessages%2F",
            "/v1%252fmessages",
            "/v1/message%252573",
            "/%252525252525761/x",
            "/v1\\messages",
            "/v1%5cmessages",
            "/v1/messages;v=1",
            "/v1;x/messages",
            "/v1/messages%3fx",
            "/v1/messages%3fx/y",
            "/v1/messages%23",
            "/v1/messages%00",
            "/v1/messages%00.png",
            "/v1/messages%20",
            "/v1/messages%0a",
            "/v1/messages.",
            "/v1/ messages",
            "/v1/messages//count_tokens",
            "/v1/Responses",
        ] {
            assert!(!Endpoint::of(path).has_head(), "{path} is known as it is");
            for is_posted in [false, true] {
                assert!(Endpoint::is_misspelt(path, is_posted), "{path}");
            }
        }
        for path in ["/llm/v1//messages", "/llm/V1/messages", "/llm/chat/completions;x", "/llm/v1/message%73"] {
            assert!(Endpoint::is_misspelt(path, true), "{path}");
            assert!(!Endpoint::is_misspelt(path, false), "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/healthz",
            "/admin/",
            "/Rooms/7/messages",
            "/rooms//7/messages",
            "/rooms/a%20b/messages",
            "/surveys/Responses",
            "/v1/embeddings",
            "/v1//embeddings",
            "/v1/messages/batches",
            "/v1/responses/resp_1",
            "/v1/messagesx",
            "/files/../healthz",
            "/files/100%25.txt",
            "/files/100%",
            "/v1/models/gpt-5",
            "/v1/models//",
        ] {
            for is_posted in [false, true] {
                assert!(!Endpoint::is_misspelt(path, is_posted), "{path}");
            }
        }
    }
}
