use bytes::{Bytes, BytesMut};

use super::{Reply, StreamTranslator};
use crate::dialect::canon::AnswerWriter;
use crate::dialect::canon::event::Sink;
use crate::dialect::canon::fault::Fault;
use crate::dialect::{Rendered, anthropic, openai_chat};
use crate::domain::dialect::Dialect;

/// Translates a whole answer with status 200.
///
/// # Errors
/// If the answer is an error after all, or must become one: that error in the format of the client's API.
pub fn answer(json: &[u8], upstream: Dialect, client: Dialect, reply: &Reply) -> Result<Bytes, Box<Rendered>> {
    try_answer(json, upstream, client, reply).map_err(|fault| Box::new(super::of_fault(&fault, client, reply)))
}

pub(crate) fn try_answer(json: &[u8], upstream: Dialect, client: Dialect, reply: &Reply) -> Result<Bytes, Fault> {
    whole(json, upstream, StreamTranslator::gathering(upstream, client, reply))
}

/// Translates a whole answer into the stream that the client asked for. Some servers answer like this to a request for
/// a stream.
///
/// # Errors
/// The same as for [`answer`].
pub fn answer_as_stream(
    json: &[u8],
    upstream: Dialect,
    client: Dialect,
    reply: &Reply,
) -> Result<Bytes, Box<Rendered>> {
    let out = try_answer_as_stream(json, upstream, client, reply);
    out.map_err(|fault| Box::new(super::of_fault(&fault, client, reply)))
}

pub(crate) fn try_answer_as_stream(
    json: &[u8],
    upstream: Dialect,
    client: Dialect,
    reply: &Reply,
) -> Result<Bytes, Fault> {
    whole(json, upstream, StreamTranslator::new(upstream, client, reply))
}

fn whole(json: &[u8], upstream: Dialect, translator: Option<StreamTranslator>) -> Result<Bytes, Fault> {
    let mut out = BytesMut::new();
    translator.ok_or_else(unknown)?.try_whole(json, upstream, &mut out)?;
    Ok(out.freeze())
}

/// The writer of whole answers of `client`; `None` for Responses.
pub(super) fn writer(client: Dialect, reply: &Reply) -> Option<Box<dyn AnswerWriter + Send + Sync>> {
    Some(match client {
        Dialect::Anthropic => Box::new(anthropic::answer::Writer::new(&reply.model, &reply.request_id)),
        Dialect::OpenAiChat => Box::new(openai_chat::answer::Writer::new(&reply.model, reply.created, &reply.needs)),
        Dialect::OpenAiResponses => return None,
    })
}

pub(super) fn read(json: &str, upstream: Dialect, request_id: &str, sink: Sink<'_>) -> Result<(), Fault> {
    match upstream {
        Dialect::Anthropic => anthropic::stream::Reader::whole(json, sink),
        Dialect::OpenAiChat => openai_chat::stream::Reader::whole(json, request_id, sink),
        Dialect::OpenAiResponses => Err(unknown()),
    }
}

fn unknown() -> Fault {
    Fault::garbled("answers of this upstream cannot be translated yet")
}
