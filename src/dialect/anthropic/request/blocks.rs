use crate::dialect::canon::conversation::{Block, BlockKind, Cache, Content, Source};
use crate::dialect::canon::name::tool_name;
use crate::wire::json::Out;

pub(super) fn cache_control(out: &mut Out, cache: Option<Cache>) {
    match cache {
        Some(Cache::FiveMinutes) => _ = out.key("cache_control").raw(r#"{"type":"ephemeral"}"#),
        Some(Cache::Hour) => _ = out.key("cache_control").raw(r#"{"type":"ephemeral","ttl":"1h"}"#),
        None => {}
    }
}

pub(super) fn blocks(out: &mut Out, blocks: &[Block<'_>]) {
    out.open('[');
    blocks.iter().for_each(|each| block(out, each));
    out.close(']');
}

fn block(out: &mut Out, block: &Block<'_>) {
    if let BlockKind::Foreign { raw } = &block.kind {
        out.raw(raw.as_str());
        return;
    }
    out.open('{').key("type");
    match &block.kind {
        BlockKind::Text(text) => _ = out.word("text").key("text").text(text),
        BlockKind::Image(image) => {
            out.word("image").key("source");
            source(out, image);
        }
        BlockKind::Document { source: document, title, context } => {
            out.word("document").key("source");
            source(out, document);
            for (name, text) in [("title", title), ("context", context)] {
                text.iter().for_each(|text| _ = out.key(name).text(text));
            }
        }
        BlockKind::Thinking { text, signature } => {
            out.word("thinking").key("thinking").text(text).key("signature").text(signature);
        }
        BlockKind::RedactedThinking { data } => _ = out.word("redacted_thinking").key("data").text(data),
        BlockKind::ToolUse { id, name, input } => {
            out.word("tool_use").key("id").text(id).key("name").pieces(&[&tool_name(name)]);
            out.key("input").raw(input);
        }
        BlockKind::ToolResult { id, content, is_error } => {
            out.word("tool_result").key("tool_use_id").text(id);
            match content {
                Content::None => {}
                Content::Text(text) => _ = out.key("content").text(text),
                Content::Blocks(within) => {
                    out.key("content");
                    blocks(out, within);
                }
            }
            if *is_error {
                out.key("is_error").raw("true");
            }
        }
        BlockKind::Foreign { .. } => {}
    }
    cache_control(out, block.cache);
    out.close('}');
}

fn source(out: &mut Out, source: &Source<'_>) {
    out.open('{').key("type");
    match source {
        Source::Base64 { media_type, data } => {
            out.word("base64").key("media_type").plain(media_type).key("data").pieces(&[data]);
        }
        Source::Text(text) => _ = out.word("text").key("media_type").word("text/plain").key("data").text(text),
        Source::Url(url) => _ = out.word("url").key("url").text(url),
    }
    out.close('}');
}
