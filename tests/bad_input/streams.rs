//! Event streams that break in the middle.

use std::time::Duration;

use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::{Dialect, IngestLayer};

use crate::raw::{Act, Rude, chunk, last_chunk, stream_head};
use crate::shape::{Expected, TIMEOUT, UNREACHABLE, error_json};
use crate::stack::{Reply, Stack, request};

/// The client that asks for the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Peer {
    Anthropic,
    OpenAi,
    /// It asks for the usage chunk, so the gateway withholds nothing and passes the bytes through.
    OpenAiWithUsage,
}

const PEERS: [Peer; 3] = [Peer::Anthropic, Peer::OpenAi, Peer::OpenAiWithUsage];

impl Peer {
    fn dialect(self) -> Dialect {
        if self == Peer::Anthropic { Dialect::Anthropic } else { Dialect::OpenAiChat }
    }

    fn request(self) -> String {
        let usage = if self == Peer::OpenAiWithUsage { r#","stream_options":{"include_usage":true}"# } else { "" };
        request(self.dialect(), &format!(r#","stream":true{usage}"#))
    }

    /// Whole events of a stream that has not come to its end.
    fn begun(self) -> [&'static str; 3] {
        match self {
            Peer::Anthropic => [
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n",
                ": a comment\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"你好\"}}\n\n",
            ],
            _ => [
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
                ": a comment\n\n",
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"你好\"}}]}\n\n",
            ],
        }
    }

    /// The rest of a whole stream.
    fn rest(self) -> &'static str {
        match self {
            Peer::Anthropic => "data: {\"type\":\"message_stop\"}\n\n",
            _ => "data: [DONE]\n\n",
        }
    }

    /// Plays `acts` after the head of a stream. Returns what the client got and the outcome of the call.
    async fn hears(self, acts: Vec<Act>, idle: Duration) -> (Reply, Outcome) {
        let rude = Rude::start([vec![stream_head()], acts].concat()).await;
        let mut stack = Stack::build(&rude.url(), IngestLayer::new(), |p| p.idle_timeout(idle)).await;
        let reply = stack.post(self.dialect(), self.request()).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("cache-control"), "no-cache");
        let outcome = stack.outcome_of(&reply).await;
        stack.outcomes.none_left().await;
        (reply, outcome)
    }
}

const LONG: Duration = Duration::from_secs(60);

/// Checks that the client got `before`, then an error event of its dialect, and then a proper end of the body.
fn ends_with_error_event(peer: Peer, reply: &Reply, before: &[u8], expected: Expected) {
    assert!(!reply.cut, "{peer:?}");
    let event = reply.body.strip_prefix(before).expect("what came before is untouched");
    let event = std::str::from_utf8(event).expect("text");
    let data = match peer {
        Peer::Anthropic => event.strip_prefix("event: error\ndata: "),
        _ => event.strip_prefix("data: "),
    };
    let data = data.and_then(|data| data.strip_suffix("\n\n")).expect("one whole event");
    assert!(!data.contains('\n'), "{event}");
    error_json(data.as_bytes(), peer.dialect(), expected, reply.header("request-id"));
}

fn is_broken(peer: Peer, outcome: &Outcome) {
    assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::Broken), "{peer:?}");
    assert!(!outcome.attempts[0].usage_is_final, "{peer:?}");
}

#[tokio::test]
async fn a_stream_that_ends_half_way_with_a_good_end_is_no_whole_answer_to_who_could_tell_and_counts_as_failed() {
    for peer in PEERS {
        let begun = peer.begun().concat();
        // After an event, within one, and before any.
        for body in [begun.as_str(), &begun[..begun.len() - 4], ""] {
            let acts = if body.is_empty() { vec![last_chunk()] } else { vec![chunk(body), last_chunk()] };
            let (reply, outcome) = peer.hears(acts, LONG).await;
            match peer {
                // In the middle of an event, the gateway can only cut the connection.
                Peer::Anthropic if !body.is_empty() && !body.ends_with("\n\n") => {
                    assert_eq!((&*reply.body, reply.cut), (body.as_bytes(), true));
                }
                Peer::Anthropic if !body.is_empty() => {
                    ends_with_error_event(peer, &reply, body.as_bytes(), UNREACHABLE);
                }
                _ => assert_eq!((&*reply.body, reply.cut), (body.as_bytes(), false), "{peer:?}"),
            }
            is_broken(peer, &outcome);
            let known = (peer == Peer::Anthropic && !body.is_empty()).then_some(11);
            assert_eq!(outcome.usage.map(|u| u.input), known, "what was stated is known");
        }
    }
}

#[tokio::test]
async fn a_stream_that_counts_nothing_is_no_whole_answer_without_its_end_either() {
    let peer = Peer::Anthropic;
    let [_, _, text] = peer.begun();
    let last = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n";
    for message in ["{\"usage\":{}}", "{\"usage\":null}", "{}"] {
        let body = format!("data: {{\"type\":\"message_start\",\"message\":{message}}}\n\n{text}");
        let (reply, outcome) = peer.hears(vec![chunk(&body), last_chunk()], LONG).await;
        ends_with_error_event(peer, &reply, body.as_bytes(), UNREACHABLE);
        is_broken(peer, &outcome);
        let body = [&body, last].concat();
        let (reply, outcome) = peer.hears(vec![chunk(&body), last_chunk()], LONG).await;
        assert_eq!((&*reply.body, reply.cut), (body.as_bytes(), false), "{message}");
        is_broken(peer, &outcome);
    }
}

#[tokio::test]
async fn a_stream_that_lacks_only_its_last_event_passes_to_the_byte() {
    let peer = Peer::Anthropic;
    let last = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n";
    let body = [&peer.begun().concat(), last].concat();
    let (reply, outcome) = peer.hears(vec![chunk(&body), last_chunk()], LONG).await;
    assert_eq!((&*reply.body, reply.cut), (body.as_bytes(), false));
    // Its usage is known all the same.
    assert_eq!((outcome.attempts[0].end, outcome.attempts[0].usage_is_final), (AttemptEnd::Broken, true));
}

#[tokio::test]
async fn a_chat_stream_that_lacks_only_its_mark_is_charged_what_it_stated() {
    let last = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\n\n";
    let peer = Peer::OpenAiWithUsage;
    let body = [&peer.begun().concat(), last].concat();
    let (reply, outcome) = peer.hears(vec![chunk(&body), last_chunk()], LONG).await;
    assert_eq!((&*reply.body, reply.cut), (body.as_bytes(), false));
    assert!(outcome.attempts[0].usage_is_final && outcome.usage.is_some_and(|usage| usage.output == 4), "{outcome:?}");
    // If the stream is cut off after this usage, the usage is not final.
    let (_, outcome) = peer.hears(vec![chunk(&body), Act::Reset], LONG).await;
    assert!(!outcome.attempts[0].usage_is_final, "{outcome:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_within_an_event_is_a_cut_connection_or_ends_before_that_event() {
    for peer in PEERS {
        let begun = peer.begun();
        let whole = begun[..2].concat();
        let half = &begun[2].as_bytes()[..40];
        for end in [vec![Act::Reset], vec![]] {
            let acts = [vec![chunk(&whole), chunk(half)], end].concat();
            let (reply, outcome) = peer.hears(acts, LONG).await;
            is_broken(peer, &outcome);
            if peer == Peer::OpenAi {
                // The gateway holds half an event back, since it may be the usage chunk. So an error event can follow.
                ends_with_error_event(peer, &reply, whole.as_bytes(), UNREACHABLE);
            } else {
                assert!(reply.cut, "{peer:?}: an error event would become part of the half event");
                let sent = [whole.as_bytes(), half].concat();
                assert!(sent.starts_with(&reply.body), "{peer:?}: {}", String::from_utf8_lossy(&reply.body));
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_between_events_ends_with_an_error_event_in_the_clients_dialect() {
    for peer in PEERS {
        let begun = peer.begun();
        for body in [begun.concat(), begun[..2].concat(), String::new(), begun.concat().replace('\n', "\r\n")] {
            for end in [vec![Act::Reset], vec![]] {
                let said = if body.is_empty() { vec![] } else { vec![chunk(&body)] };
                let (reply, outcome) = peer.hears([said, end].concat(), LONG).await;
                ends_with_error_event(peer, &reply, body.as_bytes(), UNREACHABLE);
                is_broken(peer, &outcome);
            }
        }
    }
}

#[tokio::test]
async fn the_error_event_counts_among_the_bytes_that_the_client_was_handed() {
    for peer in PEERS {
        let (reply, outcome) = peer.hears(vec![chunk(peer.begun()[0]), Act::Reset], LONG).await;
        assert!(!reply.cut);
        assert_eq!(outcome.bytes_out, reply.body.len() as u64, "{peer:?}");
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_with_an_error_event_that_says_so() {
    for peer in PEERS {
        let begun = peer.begun().concat();
        for body in [begun.as_str(), ""] {
            let said = if body.is_empty() { vec![] } else { vec![chunk(body)] };
            let (reply, outcome) = peer.hears([said, vec![Act::Hang]].concat(), Duration::from_millis(400)).await;
            ends_with_error_event(peer, &reply, body.as_bytes(), TIMEOUT);
            is_broken(peer, &outcome);
            assert!(outcome.took >= Duration::from_millis(400) && outcome.took < Duration::from_secs(5));
        }
    }
}

#[tokio::test]
async fn garbage_in_a_stream_passes_to_the_byte() {
    let garbage: [&[u8]; 6] = [
        b"data: {\"half\":\xff\x00 \n\n",
        b"<html>\r\n\r\n",
        b"data\ndata:\nevent:\nid: 7\nretry: 10\n\n\n\n\n",
        b"data: [DONE] not yet\n\n",
        b"data: {\"usage\":{\"prompt_tokens\":1},\"choices\":[\n\n",
        b"\xef\xbb\xbfdata: {}\r\r",
    ];
    for peer in PEERS {
        let begun = peer.begun();
        for garbage in garbage {
            let body = [begun[0].as_bytes(), garbage, begun[2].as_bytes(), peer.rest().as_bytes()].concat();
            // In one piece, and byte by byte.
            for size in [body.len(), 1] {
                let acts: Vec<Act> = body.chunks(size).map(chunk).chain([last_chunk()]).collect();
                let (reply, outcome) = peer.hears(acts, LONG).await;
                assert_eq!((&*reply.body, reply.cut), (&*body, false), "{peer:?}");
                assert_eq!(outcome.bytes_out, body.len() as u64);
                assert_eq!(outcome.end, End::Complete, "{peer:?}: its end came: {}", String::from_utf8_lossy(garbage));
            }
            let (reply, outcome) = peer.hears(vec![chunk(garbage), last_chunk()], LONG).await;
            assert_eq!(&*reply.body, garbage);
            is_broken(peer, &outcome);
        }
    }
}

#[tokio::test]
async fn an_error_that_the_provider_states_in_its_stream_passes_to_the_byte_and_counts_as_failed() {
    for peer in PEERS {
        let error = match peer {
            Peer::Anthropic => "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
            _ => "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n",
        };
        for rest in ["", peer.rest()] {
            let body = [peer.begun()[0], error, rest].concat();
            let (reply, outcome) = peer.hears(vec![chunk(&body), last_chunk()], LONG).await;
            assert_eq!((&*reply.body, reply.cut), (body.as_bytes(), false));
            is_broken(peer, &outcome);
        }
    }
}

#[tokio::test]
async fn an_event_beyond_16_mib_breaks_the_stream_and_nothing_else() {
    for peer in PEERS {
        let begun = peer.begun()[0];
        let mut acts = vec![chunk(begun), chunk("data: {\"x\":\"")];
        acts.extend(std::iter::repeat_n(chunk(vec![b'a'; 1 << 20]), 17));
        acts.push(Act::Hang);
        let (reply, outcome) = peer.hears(acts, LONG).await;
        is_broken(peer, &outcome);
        assert!(reply.body.starts_with(begun.as_bytes()), "{peer:?}");
        if peer == Peer::OpenAi {
            ends_with_error_event(peer, &reply, begun.as_bytes(), UNREACHABLE);
        } else {
            assert!(reply.cut, "{peer:?}: the client has half of it already");
        }
    }
}

#[tokio::test]
async fn an_event_just_below_16_mib_passes() {
    for peer in PEERS {
        let event = format!("data: {{\"x\":\"{}\"}}\n\n", "a".repeat((16 << 20) - 18));
        let body = [peer.begun()[0], &event, peer.rest()].concat();
        let (reply, outcome) = peer.hears(vec![chunk(&body), last_chunk()], LONG).await;
        assert!(reply.body == body.as_bytes() && !reply.cut, "{peer:?}");
        assert_eq!(outcome.end, End::Complete, "{peer:?}");
    }
}
