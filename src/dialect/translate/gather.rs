use super::{Reply, answer};
use crate::dialect::canon::StreamReader;
use crate::dialect::canon::event::Event;
use crate::dialect::canon::needs::Needs;
use crate::dialect::{anthropic, openai_chat};
use crate::domain::dialect::Dialect;
use crate::wire::sse::Scanner;

/// A reader of streams of `upstream`, for the call with this id; `None` for Responses.
pub(super) fn reader(upstream: Dialect, request_id: &str) -> Option<Box<dyn StreamReader + Send + Sync>> {
    match upstream {
        Dialect::Anthropic => Some(Box::new(anthropic::stream::Reader::new())),
        Dialect::OpenAiChat => Some(Box::new(openai_chat::stream::Reader::new(request_id))),
        Dialect::OpenAiResponses => None,
    }
}

/// Combines a stream into one answer of its own dialect, as far as it came before it broke off or failed. Of several
/// choices it takes the first. `None` for Responses, and for what does not begin like an answer.
pub(crate) fn gathered(stream: &[u8], dialect: Dialect, reply: &Reply) -> Option<String> {
    // It stays in its own dialect, so nothing of another is needed.
    let reply = Reply { needs: Needs { is_silent: true, ..reply.needs.clone() }, ..reply.clone() };
    let (mut reader, mut writer) = (reader(dialect, &reply.request_id)?, answer::writer(dialect, &reply)?);
    let (mut verdict, mut has_begun) = (Ok(()), false);
    let mut sink = |event: Event<'_>| {
        has_begun |= matches!(event, Event::Start { .. });
        writer.event(event);
    };
    let mut scanner = Scanner::new();
    scanner
        .push(stream, |block| {
            if verdict.is_ok() {
                verdict = reader.block(&block, &mut sink);
            }
        })
        .ok()?;
    // Half an event says nothing.
    let _ = scanner.finish(|block| {
        if verdict.is_ok() {
            verdict = reader.block(&block, &mut sink);
        }
    });
    if verdict.is_ok() {
        // Whether it was complete is for others to say.
        let _ = reader.finish(&mut sink);
    }
    has_begun.then(|| writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stream: &str, dialect: Dialect) -> String {
        gathered(stream.as_bytes(), dialect, &Reply::new("m", "r")).expect("a dialect that is read")
    }

    #[test]
    fn a_stream_is_gathered_as_far_as_it_came() {
        let piece = |text: &str| {
            format!(
                "data: {{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
            )
        };
        let stream = piece("one@ex") + &piece("ample.com");
        assert!(text(&stream, Dialect::OpenAiChat).contains(r#""content":"one@example.com""#));
        let whole = stream.clone() + "data: [DONE]\n\n";
        assert!(text(&whole, Dialect::OpenAiChat).contains(r#""content":"one@example.com""#));
        let failed = stream + "data: {\"error\":{\"message\":\"no\"}}\n\n" + &piece("not this");
        let failed = text(&failed, Dialect::OpenAiChat);
        assert!(failed.contains("one@example.com") && !failed.contains("not this"));
        let messages = concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m1\",\"usage\":{}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"he\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"llo\"}}\n\n",
        );
        let broken = text(messages, Dialect::Anthropic);
        assert!(broken.contains(r#""content":[{"type":"text","text":"hello"}]"#));
        assert!(broken.contains(r#""stop_reason":null"#), "why it stopped nobody has said");
        for (stream, dialect) in
            [("", Dialect::OpenAiResponses), ("", Dialect::Anthropic), (": hello\n\n\u{fffd}", Dialect::OpenAiChat)]
        {
            assert!(gathered(stream.as_bytes(), dialect, &Reply::new("m", "r")).is_none());
        }
    }
}
