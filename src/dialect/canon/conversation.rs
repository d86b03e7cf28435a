//! A request in any dialect. It borrows from the body, and decodes only what it must.

use std::borrow::Cow;

use crate::domain::catalog::Effort;
use crate::wire::json::{Escaped, Raw};

#[derive(Debug, Default)]
pub(crate) struct Conversation<'a> {
    /// The most tokens of the answer that the client asked for.
    pub(crate) max_tokens: Option<u64>,
    pub(crate) stream: bool,
    /// Whether a Chat Completions client wants the usage chunk.
    pub(crate) include_usage: bool,
    /// What the operator said before anyone else spoke: only text.
    pub(crate) system: Vec<Block<'a>>,
    pub(crate) turns: Vec<Turn<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    /// The provider may search the web.
    pub(crate) search: Option<Search<'a>>,
    pub(crate) choice: Option<ToolChoice<'a>>,
    /// At most one tool call in an answer.
    pub(crate) one_call: bool,
    /// The client uses functions, the predecessor of tools, and expects an answer with them.
    pub(crate) legacy_functions: bool,
    /// Numbers, as they are spelled in the request.
    pub(crate) temperature: Option<Raw<'a>>,
    pub(crate) top_p: Option<Raw<'a>>,
    pub(crate) top_k: Option<Raw<'a>>,
    pub(crate) stops: Vec<Escaped<'a>>,
    pub(crate) effort: Option<Effort>,
    /// The effort came in Anthropic's own member (`output_config`), from a client of another dialect.
    pub(crate) is_own_effort: bool,
    /// Anthropic's `task_budget`, as it is spelled.
    pub(crate) task_budget: Option<Raw<'a>>,
    pub(crate) thinking: Option<Thinking<'a>>,
    pub(crate) format: Option<Format<'a>>,
    /// The end user, for whoever serves the model.
    pub(crate) user: Option<Cow<'a, str>>,
    pub(crate) tier: Option<Tier>,
    /// The breakpoint that the provider shall put after the last block by itself.
    pub(crate) cache: Option<Cache>,
}

impl<'a> Conversation<'a> {
    /// All cache breakpoints, in the order of the prompt: tools, system, messages.
    pub(crate) fn breakpoints(&mut self) -> Vec<&mut Option<Cache>> {
        let tools = self.tools.iter_mut().map(|tool| &mut tool.cache);
        let is_one = |point: &&mut Option<Cache>| point.is_some();
        let before = tools.chain(self.system.iter_mut().map(|block| &mut block.cache));
        let mut points: Vec<_> = before.filter(is_one).collect();
        for block in self.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
            if let BlockKind::ToolResult { content: Content::Blocks(within), .. } = &mut block.kind {
                points.extend(within.iter_mut().map(|block| &mut block.cache).filter(is_one));
            }
            points.extend(Some(&mut block.cache).filter(is_one));
        }
        points
    }

    /// Removes all breakpoints but the last `most`, which cover the longest prefixes. Returns whether any was removed.
    pub(crate) fn keep_breakpoints(&mut self, most: usize) -> bool {
        let mut points = self.breakpoints();
        let over = points.len().saturating_sub(most);
        points.drain(..over).for_each(|point| *point = None);
        over > 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The operator, in the middle of a conversation.
    System,
    User,
    Assistant,
}

#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) role: Role,
    pub(crate) blocks: Vec<Block<'a>>,
    /// Its index in the client's list, for errors.
    pub(crate) at: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Block<'a> {
    pub(crate) kind: BlockKind<'a>,
    pub(crate) cache: Option<Cache>,
    /// Its index among the blocks that the client sent, if errors name it.
    pub(crate) at: Option<u32>,
}

impl<'a> Block<'a> {
    pub(crate) fn new(kind: BlockKind<'a>) -> Self {
        Block { kind, cache: None, at: None }
    }

    pub(crate) fn text(text: Escaped<'a>) -> Self {
        Block::new(BlockKind::Text(text))
    }
}

#[derive(Debug, Clone)]
pub(crate) enum BlockKind<'a> {
    Text(Escaped<'a>),
    Image(Source<'a>),
    Document {
        source: Source<'a>,
        title: Option<Escaped<'a>>,
        /// Text about the document that is not in it.
        context: Option<Escaped<'a>>,
    },
    Thinking {
        text: Escaped<'a>,
        signature: Escaped<'a>,
    },
    RedactedThinking {
        data: Escaped<'a>,
    },
    ToolUse {
        id: Escaped<'a>,
        name: Escaped<'a>,
        /// The text of a JSON object.
        input: Cow<'a, str>,
    },
    ToolResult {
        id: Escaped<'a>,
        content: Content<'a>,
        is_error: bool,
    },
    /// A block that only Anthropic's API has.
    Foreign {
        raw: Raw<'a>,
    },
}

/// What a tool answered.
#[derive(Debug, Clone)]
pub(crate) enum Content<'a> {
    /// No content at all.
    None,
    Text(Escaped<'a>),
    Blocks(Vec<Block<'a>>),
}

/// Where an image or a document is.
#[derive(Debug, Clone)]
pub(crate) enum Source<'a> {
    Base64 {
        media_type: Cow<'static, str>,
        /// Base64, without escapes or white space.
        data: Cow<'a, str>,
    },
    /// A document that is plain text.
    Text(Escaped<'a>),
    Url(Escaped<'a>),
}

/// A cache breakpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    FiveMinutes,
    Hour,
}

#[derive(Debug)]
pub(crate) struct Tool<'a> {
    pub(crate) name: Escaped<'a>,
    pub(crate) description: Option<Escaped<'a>>,
    pub(crate) kind: ToolKind<'a>,
    pub(crate) cache: Option<Cache>,
    /// Members of tools that only one dialect has (`defer_loading`, `input_examples`, …), as they are spelled.
    pub(crate) extras: Vec<(&'static str, Raw<'a>)>,
}

#[derive(Debug)]
pub(crate) enum ToolKind<'a> {
    Function {
        schema: Option<Raw<'a>>,
        strict: bool,
    },
    /// Input that is text instead of JSON.
    Custom {
        /// The definition of a grammar for it.
        grammar: Option<Escaped<'a>>,
    },
    /// One that Anthropic defines, with its type.
    Provided {
        kind: Escaped<'a>,
        raw: Raw<'a>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToolChoice<'a> {
    None,
    Auto,
    Any,
    Named(Escaped<'a>),
}

/// Anthropic's `thinking`, which OpenAI-shaped clients of proxies send too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thinking<'a> {
    pub(crate) kind: ThinkingKind,
    pub(crate) raw: Raw<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThinkingKind {
    Adaptive,
    Enabled { budget: u64 },
    BetweenTools,
    Disabled,
}

impl<'a> Thinking<'a> {
    /// `None` if it is none of the four kinds.
    pub(crate) fn read(raw: Raw<'a>) -> Option<Self> {
        let kind = match raw.member("type")?.text()?.as_str() {
            "adaptive" => ThinkingKind::Adaptive,
            "enabled" => ThinkingKind::Enabled { budget: raw.member("budget_tokens")?.count()? },
            "between_tools" => ThinkingKind::BetweenTools,
            "disabled" => ThinkingKind::Disabled,
            _ => return None,
        };
        Some(Thinking { kind, raw })
    }
}

/// What the answer's text must look like.
#[derive(Debug, Clone)]
pub(crate) enum Format<'a> {
    /// Any JSON object.
    Json,
    Schema {
        name: Option<Escaped<'a>>,
        description: Option<Escaped<'a>>,
        schema: Raw<'a>,
    },
}

/// The service tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Auto,
    Standard,
    Priority,
}

/// How the provider may search the web.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    /// The most searches in one answer.
    pub(crate) max_uses: u64,
    /// Where the user is, as members `city`, `country`, `region` and `timezone`.
    pub(crate) near: Option<Raw<'a>>,
}
