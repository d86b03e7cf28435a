//! What surrounds the content of an answer: the finish reason, the sources and the usage.

use crate::dialect::canon::event::{ServedTier, Stop, StopReason, UsageNews};
use crate::dialect::canon::on_one_line;
use crate::wire::json::{Escaped, Raw};

/// SDKs decide by the reason alone whether to run tools.
pub(super) fn finish_reason(stop: StopReason, has_tools: bool, legacy_functions: bool) -> &'static str {
    match stop {
        StopReason::MaxTokens | StopReason::ContextWindow | StopReason::Pause => "length",
        StopReason::Refusal => "content_filter",
        StopReason::Compaction => "stop",
        _ if has_tools && legacy_functions => "function_call",
        _ if has_tools => "tool_calls",
        _ => "stop",
    }
}

/// The provider's own reason, for clients that want to know more than the dialect can say.
pub(super) fn provider_fields(stop: &Stop<'_>) -> String {
    let quoted = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), |text| format!("\"{text}\""));
    let reason = quoted(stop.reason.name());
    let sequence = quoted(stop.sequence.as_ref().map(Escaped::as_str));
    let mut fields = format!(r#"{{"stop_reason":{reason},"stop_sequence":{sequence}"#);
    if let Some(details) = stop.details {
        fields.extend([r#","stop_details":"#, &on_one_line(details)]);
    }
    fields.push('}');
    fields
}

pub(super) fn tier(tier: ServedTier) -> &'static str {
    match tier {
        ServedTier::Default => "default",
        ServedTier::Priority => "priority",
    }
}

/// The members of a `url_citation`.
pub(super) fn url_citation(raw: Raw<'_>) -> Option<String> {
    if raw.member("type")?.text()?.as_str() != "web_search_result_location" {
        return None;
    }
    let text = |name: &str| raw.member(name).and_then(Raw::text).unwrap_or_default().into_owned();
    Some(format!(r#""url":"{}","title":"{}""#, text("url").as_str(), text("title").as_str()))
}

/// A source of the text that is not a web page, as it is spelled, with the index of its block: OpenAI has no member for
/// it.
pub(super) fn citation(raw: Raw<'_>, block: usize) -> Option<String> {
    let spelled = on_one_line(raw);
    let open = spelled.trim_end().strip_suffix('}').filter(|_| raw.members().next().is_some())?;
    Some(format!(r#"{open},"block_index":{block}}}"#))
}

/// The usage as OpenAI counts it: the prompt with cached tokens.
pub(super) fn usage_of(news: &UsageNews) -> String {
    let usage = &news.usage;
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let (prompt, output, read) = (usage.total_input(), usage.output, usage.cache_read);
    let total = prompt.saturating_add(output);
    let details = format!(r#"{{"cached_tokens":{read},"cache_write_tokens":{written}}}"#);
    let reasoning = usage.reasoning;
    let (short, long) = (usage.cache_write_5m, usage.cache_write_1h);
    let split = format!(r#"{{"ephemeral_5m_input_tokens":{short},"ephemeral_1h_input_tokens":{long}}}"#);
    let ran = match (usage.web_searches, usage.web_fetches) {
        (0, 0) => String::new(),
        (searches, fetches) => {
            format!(r#","server_tool_use":{{"web_search_requests":{searches},"web_fetch_requests":{fetches}}}"#)
        }
    };
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},"total_tokens":{total},"prompt_tokens_details":{details},"completion_tokens_details":{{"reasoning_tokens":{reasoning}}},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"cache_creation":{split}{ran}}}"#
    )
}

/// The text within the object that stands for it, both escaped: `ls` of `{\"input\":\"ls\"}`.
pub(super) fn text_input(arguments: &str) -> String {
    let object = Escaped::join(&[arguments]);
    let object = object.decoded();
    let text = Raw::new(&object).member("input").and_then(Raw::text);
    // If the model did not produce the object, all of it is the text.
    text.map_or_else(|| arguments.to_owned(), |text| text.as_str().to_owned())
}
