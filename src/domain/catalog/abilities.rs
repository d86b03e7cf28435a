use serde::Deserialize;

use super::effort::{Effort, Efforts};
use crate::domain::dialect::Dialect;

/// What a model accepts in a request. Translation uses it; requests that pass through untouched are for the provider to
/// judge.
///
/// The abilities follow from the model's name. A host that knows better sets them on the
/// [`ModelCard`](super::ModelCard), or reads them from an answer of Anthropic's `GET /v1/models/{id}` with
/// [`refreshed`](Self::refreshed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// The forms of `thinking` that it accepts.
    pub thinking: ThinkingModes,
    /// The effort levels that it accepts.
    pub efforts: Efforts,
    /// Whether it accepts `output_config.task_budget`, the number of tokens for a whole task.
    pub task_budget: bool,
    /// Which of `temperature`, `top_p` and `top_k` it accepts.
    pub sampling: Sampling,
    /// Whether it continues an answer that the request begins.
    pub prefill: bool,
    /// Whether a system message may come in the middle of a conversation. The templates of many open models answer 400
    /// to a system message that is not the first, so for an unknown server it is sent as the user's.
    pub system_turns: bool,
    /// Whether its answer can be constrained to a schema.
    pub structured_outputs: bool,
    /// Whether it can be forced to call a tool.
    pub forced_tools: bool,
    /// OpenAI: whether the output limit is `max_completion_tokens`, and `max_tokens` is an error.
    pub completion_tokens: bool,
    /// Chat Completions: whether a stream accepts `stream_options`, and states its usage only then. Mistral's own API
    /// refuses the option and states usage unasked; other servers of its models do not.
    pub usage_option: bool,
    /// OpenAI: whether the operator's role is `developer`.
    pub developer: bool,
    /// OpenAI: whether there is a role for the operator. The first reasoning models accept neither name of it.
    pub operator: bool,
    /// Whether it accepts stop sequences.
    pub stops: bool,
    /// OpenAI: whether it can be limited to one tool call at a time (`parallel_tool_calls`).
    pub one_call: bool,
    /// OpenAI: whether it reasons beside tools, in Chat Completions. A model that does not accepts tools only with an
    /// effort of `none`, which must be stated.
    pub effort_beside_tools: bool,
    /// OpenAI: whether parts may carry `prompt_cache_breakpoint`.
    pub cache_breakpoints: bool,
    /// Whether it reads documents that the request contains as base64.
    pub files: bool,
    /// Chat Completions: whether the server wants its earlier reasoning back, as `reasoning_content`.
    pub replays_reasoning: bool,
}

/// The forms of Anthropic's `thinking` that a model accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThinkingModes {
    /// `adaptive`: the model decides how much.
    pub adaptive: bool,
    /// `enabled`, with a token budget.
    pub budget: bool,
    /// `between_tools`.
    pub between_tools: bool,
    /// `disabled`.
    pub disabled: bool,
    /// Whether it thinks, adaptively, when the request does not say.
    pub unasked: bool,
    /// Whether it may think when it must call a tool. With a budget no model may.
    pub forced: bool,
}

/// Which sampling parameters a model accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sampling {
    /// None: any value is an error, except for an OpenAI model that is asked not to reason (an effort of `none`).
    None,
    /// `temperature` or `top_p`, but not both.
    OneOf,
    /// All of them.
    All,
}

const LOW_TO_MAX: Efforts = Efforts::between(Effort::Low, Effort::Max);
const LOW_TO_HIGH: Efforts = Efforts::between(Effort::Low, Effort::High);
const NO_EFFORTS: Efforts = Efforts::NONE;

/// What all current Anthropic models have in common. The sources of this and the tables below are Anthropic's
/// documentation of October and November 2026 (thinking, effort, prefill, system messages) and its SDKs.
const CLAUDE: Abilities = Abilities {
    thinking: ThinkingModes {
        adaptive: true,
        budget: false,
        between_tools: false,
        disabled: false,
        unasked: true,
        forced: true,
    },
    efforts: LOW_TO_MAX,
    task_budget: true,
    sampling: Sampling::None,
    prefill: false,
    system_turns: true,
    structured_outputs: true,
    forced_tools: true,
    completion_tokens: false,
    usage_option: true,
    developer: false,
    operator: true,
    stops: true,
    one_call: true,
    effort_beside_tools: true,
    cache_breakpoints: false,
    files: true,
    replays_reasoning: false,
};

const CAN_BE_OFF: ThinkingModes = ThinkingModes { disabled: true, ..CLAUDE.thinking };
const IF_ASKED: ThinkingModes = ThinkingModes { unasked: false, ..CAN_BE_OFF };
const IF_FREE: ThinkingModes = ThinkingModes { forced: false, ..IF_ASKED };
const BY_BUDGET: ThinkingModes = ThinkingModes { adaptive: false, budget: true, ..IF_ASKED };

/// By prefix of the name; the first match counts.
const CLAUDES: [(&str, Abilities); 12] = [
    ("claude-opus-5-5", CLAUDE),
    ("claude-sonnet-5-5", Abilities { thinking: ThinkingModes { between_tools: true, ..CLAUDE.thinking }, ..CLAUDE }),
    ("claude-haiku-5-5", Abilities { thinking: CAN_BE_OFF, ..CLAUDE }),
    ("claude-mythos-preview", Abilities { forced_tools: false, ..CLAUDE }),
    ("claude-opus-5", Abilities { thinking: CAN_BE_OFF, ..CLAUDE }),
    ("claude-sonnet-5", Abilities { thinking: CAN_BE_OFF, system_turns: false, task_budget: false, ..CLAUDE }),
    ("claude-opus-4-8", Abilities { thinking: IF_ASKED, ..CLAUDE }),
    ("claude-opus-4-7", Abilities { thinking: IF_FREE, system_turns: false, ..CLAUDE }),
    ("claude-opus-4-6", CLAUDE_4_6),
    ("claude-sonnet-4-6", CLAUDE_4_6),
    ("claude-opus-4-5", Abilities { efforts: LOW_TO_HIGH, ..CLAUDE_4_5 }),
    ("claude-haiku-4-5", CLAUDE_4_5),
];

const CLAUDE_4_6: Abilities = Abilities {
    thinking: ThinkingModes { budget: true, ..IF_FREE },
    efforts: LOW_TO_HIGH.and(Effort::Max),
    task_budget: false,
    sampling: Sampling::All,
    system_turns: false,
    ..CLAUDE
};

const CLAUDE_4_5: Abilities =
    Abilities { thinking: BY_BUDGET, efforts: NO_EFFORTS, sampling: Sampling::OneOf, prefill: true, ..CLAUDE_4_6 };

/// All earlier models.
const EARLIER_CLAUDES: [&str; 5] = ["claude-3", "claude-2", "claude-opus-4-", "claude-sonnet-4-", "claude-haiku-4-"];

/// An unknown server that speaks Chat Completions.
const SERVER: Abilities = Abilities {
    thinking: ThinkingModes { adaptive: false, unasked: false, ..CLAUDE.thinking },
    efforts: NO_EFFORTS,
    task_budget: false,
    sampling: Sampling::All,
    prefill: true,
    system_turns: false,
    structured_outputs: true,
    forced_tools: true,
    completion_tokens: false,
    usage_option: true,
    developer: false,
    operator: true,
    stops: true,
    one_call: true,
    effort_beside_tools: true,
    cache_breakpoints: false,
    files: false,
    replays_reasoning: false,
};

const GPT: Abilities = Abilities { completion_tokens: true, prefill: false, files: true, system_turns: true, ..SERVER };
const GPT_5: Abilities = Abilities {
    efforts: Efforts::between(Effort::Minimal, Effort::High),
    sampling: Sampling::None,
    developer: true,
    stops: false,
    ..GPT
};
const GPT_5_2: Abilities = Abilities { efforts: LOW_TO_HIGH.and(Effort::None).and(Effort::XHigh), ..GPT_5 };
const GPT_5_4: Abilities = Abilities { effort_beside_tools: false, ..GPT_5_2 };
const GPT_5_5: Abilities = Abilities { stops: true, ..GPT_5_4 };
const GPT_5_6: Abilities = Abilities { cache_breakpoints: true, ..GPT_5_5 };
/// The model behind ChatGPT, which decides by itself how hard to think.
const GPT_5_CHAT: Abilities = Abilities { efforts: NO_EFFORTS, ..GPT_5 };
const O_SERIES: Abilities = Abilities { efforts: LOW_TO_HIGH, one_call: false, ..GPT_5 };
const FIRST_O: Abilities = Abilities { operator: false, system_turns: false, ..O_SERIES };

/// Thinks unless told not to, and wants its thinking back. While it thinks, it refuses a tool that must be called. It
/// supports JSON, but no schemas. Source: api-docs.deepseek.com, thinking mode and JSON output; its error for a tool:
/// "Thinking mode does not support this tool_choice".
const DEEPSEEK: Abilities = Abilities {
    thinking: ThinkingModes { disabled: true, forced: false, ..SERVER.thinking },
    structured_outputs: false,
    replays_reasoning: true,
    system_turns: true,
    ..SERVER
};
const KIMI: Abilities = Abilities { replays_reasoning: true, system_turns: true, ..SERVER };

/// By prefix of the name; the first match counts.
const GPTS: [(&str, Abilities); 29] = [
    ("gpt-6", GPT_5_6),
    ("gpt-5.6", GPT_5_6),
    ("gpt-5.5", GPT_5_5),
    ("gpt-5.4", GPT_5_4),
    ("gpt-5-chat", GPT),
    ("gpt-5.1-chat", GPT_5_CHAT),
    ("gpt-5.2-chat", Abilities { efforts: Efforts::between(Effort::Medium, Effort::Medium), ..GPT_5_CHAT }),
    ("gpt-5.3-chat", GPT_5_CHAT),
    ("gpt-5.1", Abilities { efforts: LOW_TO_HIGH.and(Effort::None), ..GPT_5 }),
    ("gpt-5.", GPT_5_2),
    ("gpt-5", GPT_5),
    ("o1-mini", FIRST_O),
    ("o1-preview", FIRST_O),
    ("o1", Abilities { stops: true, ..O_SERIES }),
    ("o3", O_SERIES),
    ("o4", O_SERIES),
    ("gpt-4o", GPT),
    ("gpt-4", GPT),
    ("gpt-3.5", Abilities { files: false, ..GPT }),
    ("chatgpt", GPT),
    ("chat-latest", GPT),
    ("gpt-audio", GPT),
    ("gpt-daybreak", GPT_5),
    ("gpt-rosalind", GPT_5),
    ("daybreak", GPT_5),
    ("computer-use", GPT),
    ("deepseek", DEEPSEEK),
    ("kimi-k2.", Abilities { thinking: DEEPSEEK.thinking, ..KIMI }),
    ("kimi", KIMI),
];

impl Abilities {
    /// The abilities that a model's name implies, where it is served in `dialect`. An unknown name has those of
    /// Anthropic's newest models, or those of any server of Chat Completions.
    #[must_use]
    pub fn of(model: &str, dialect: Dialect) -> Self {
        // A fine-tuned model has the abilities of its base.
        let model = model.strip_prefix("ft:").unwrap_or(model);
        let found = |table: &[(&str, Abilities)]| {
            table.iter().find(|(start, _)| model.starts_with(start)).map(|(_, abilities)| *abilities)
        };
        match dialect {
            Dialect::Anthropic => {
                let is_earlier = EARLIER_CLAUDES.iter().any(|start| model.starts_with(start));
                found(&CLAUDES).unwrap_or(if is_earlier { CLAUDE_4_5 } else { CLAUDE })
            }
            _ => found(&GPTS).unwrap_or(SERVER),
        }
    }

    /// Updates the abilities from an answer of Anthropic's `GET /v1/models/{id}`; `None` if it has no capabilities.
    /// What the answer does not mention (sampling, prefill, system messages) stays. For the limits, use
    /// [`ModelCard::refreshed`](super::ModelCard::refreshed).
    ///
    /// ```
    /// use tollgate::Dialect;
    /// use tollgate::domain::catalog::{Abilities, Effort};
    /// let answer = br#"{"id":"claude-next","capabilities":{"effort":{"supported":true,"low":{"supported":true}}}}"#;
    /// let abilities = Abilities::of("claude-next", Dialect::Anthropic).refreshed(answer).ok_or("no capabilities")?;
    /// assert_eq!(abilities.efforts.nearest(Effort::Max), Some(Effort::Low));
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn refreshed(mut self, answer: &[u8]) -> Option<Self> {
        let stated = serde_json::from_slice::<Model>(answer).ok()?.capabilities?;
        let says = |field: Option<Supported>, before: bool| field.map_or(before, |field| field.supported);
        if let Some(types) = stated.thinking.and_then(|thinking| thinking.types) {
            self.thinking = ThinkingModes {
                adaptive: says(types.adaptive, self.thinking.adaptive),
                budget: says(types.enabled, self.thinking.budget),
                between_tools: says(types.between_tools, self.thinking.between_tools),
                disabled: says(types.disabled, self.thinking.disabled),
                ..self.thinking
            };
        }
        if let Some(effort) = stated.effort {
            let levels = [
                (effort.low, Effort::Low),
                (effort.medium, Effort::Medium),
                (effort.high, Effort::High),
                (effort.xhigh, Effort::XHigh),
                (effort.max, Effort::Max),
            ];
            let has = |level: Option<Supported>| effort.supported && level.is_some_and(|level| level.supported);
            self.efforts = Efforts::of(levels.into_iter().filter(|(level, _)| has(*level)).map(|(_, effort)| effort));
        }
        self.structured_outputs = says(stated.structured_outputs, self.structured_outputs);
        self.files = says(stated.pdf_input, self.files);
        Some(self)
    }
}

#[derive(Deserialize)]
struct Model {
    capabilities: Option<Capabilities>,
}

#[derive(Deserialize)]
struct Capabilities {
    effort: Option<StatedEffort>,
    thinking: Option<StatedThinking>,
    structured_outputs: Option<Supported>,
    pdf_input: Option<Supported>,
}

#[derive(Deserialize, Clone, Copy)]
struct Supported {
    supported: bool,
}

#[derive(Deserialize)]
struct StatedEffort {
    supported: bool,
    low: Option<Supported>,
    medium: Option<Supported>,
    high: Option<Supported>,
    xhigh: Option<Supported>,
    max: Option<Supported>,
}

#[derive(Deserialize)]
struct StatedThinking {
    types: Option<StatedTypes>,
}

#[derive(Deserialize)]
struct StatedTypes {
    adaptive: Option<Supported>,
    enabled: Option<Supported>,
    between_tools: Option<Supported>,
    disabled: Option<Supported>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_a_model_takes() {
        let claude = |model| Abilities::of(model, Dialect::Anthropic);
        let gpt = |model| Abilities::of(model, Dialect::OpenAiChat);
        assert_eq!(claude("claude-of-tomorrow"), CLAUDE);
        assert_eq!(claude("claude-3-7-sonnet-latest"), CLAUDE_4_5);
        assert_eq!(claude("claude-sonnet-4-20250514"), CLAUDE_4_5);
        assert!(claude("claude-sonnet-5-5").thinking.between_tools && claude("claude-sonnet-5-5").system_turns);
        assert!(claude("claude-sonnet-5").thinking.unasked && !claude("claude-opus-4-8").thinking.unasked);
        assert!(!claude("claude-sonnet-4-6").thinking.unasked && !claude("claude-haiku-4-5").thinking.unasked);
        assert!(!claude("claude-sonnet-5").system_turns && claude("claude-sonnet-5").thinking.disabled);
        let catalog = crate::domain::catalog::Catalog::builtin();
        for card in catalog.models() {
            let is_known =
                card.name.starts_with("claude") || Abilities::of(&card.name, Dialect::OpenAiChat).completion_tokens;
            assert!(is_known, "{} would be given a limit by a name that it refuses", card.name);
        }
        assert!(gpt("ft:gpt-4o-mini:acme::7").completion_tokens && gpt("gpt-oss-120b") == SERVER);
        assert!(gpt("gpt-5-mini").completion_tokens && !gpt("o3").stops && !gpt("llama-4").completion_tokens);
        assert!(gpt("gpt-4o").system_turns && gpt("o3").system_turns && !gpt("qwen3-coder").system_turns);
        for model in ["gpt-5.4-mini", "gpt-5.5", "gpt-5.6-sol", "gpt-6-sol"] {
            assert!(!gpt(model).effort_beside_tools && gpt(model).efforts.has(Effort::None), "{model}");
        }
        assert!(gpt("gpt-5.2").effort_beside_tools && gpt("gpt-5").effort_beside_tools);
        for model in ["gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5.1", "gpt-5.2", "gpt-5.4", "o3", "o4-mini"] {
            assert!(!gpt(model).stops, "{model}");
        }
        assert!(gpt("gpt-5.5").stops && gpt("gpt-4o").stops && gpt("o1").stops);
        assert_eq!(gpt("gpt-5-chat-latest"), GPT);
        assert_eq!(gpt("gpt-5.2-chat-latest").efforts.nearest(Effort::High), Some(Effort::Medium));
        assert_eq!(gpt("gpt-5.1-chat-latest").efforts, NO_EFFORTS);
    }

    #[test]
    fn the_nearest_effort_is_the_next_lower_one() {
        assert_eq!(CLAUDE_4_6.efforts.nearest(Effort::XHigh), Some(Effort::High));
        assert_eq!(CLAUDE_4_6.efforts.nearest(Effort::Max), Some(Effort::Max));
        assert_eq!(LOW_TO_HIGH.nearest(Effort::Minimal), Some(Effort::Low));
        assert_eq!(GPT_5.efforts.nearest(Effort::None), Some(Effort::Minimal));
        assert_eq!(NO_EFFORTS.nearest(Effort::High), None);
    }

    #[test]
    fn what_the_provider_says_of_a_model_replaces_what_its_name_says() {
        let answer = br#"{"capabilities":{"thinking":{"supported":true,"types":{"disabled":{"supported":true},
            "enabled":{"supported":false}}},"structured_outputs":{"supported":false}}}"#;
        let abilities = CLAUDE.refreshed(answer).expect("capabilities");
        assert!(abilities.thinking.disabled && abilities.thinking.adaptive && !abilities.structured_outputs);
        assert_eq!(abilities.efforts, CLAUDE.efforts);
        assert_eq!(CLAUDE.refreshed(b"{}"), None);
        assert_eq!(CLAUDE.refreshed(b"not JSON"), None);
    }
}
