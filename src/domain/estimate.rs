//! The most that a call can cost, before it is made.
//!
//! Reach for it in a budget: what is held before a call must be no less than the call will cost. [`proven_input`]
//! bounds the input tokens, [`ceiling`] what they and the output cost at most; [`likely_input`] is the guess for limits
//! on tokens, where a bound would refuse too much. [`observed_input`] bounds a conversation that goes on, by what was billed
//! for its beginning, and [`counted_input`] goes by somebody's count. [`ceiling_so_far`] bounds what an answer has cost of which the end is not
//! known. What a request holds is read by its dialect, see
//! [`Head::inputs`](crate::dialect::head::Head::inputs).
//!
//! The bound rests on one assumption, tested against recorded calls: providers read text with tokenizers over bytes,
//! which never make more tokens than there are bytes, and render what they are sent no longer than it came, but for the
//! prompts that they add themselves.
//!
//! ```
//! use tollgate::domain::catalog::Catalog;
//! use tollgate::domain::estimate::{Inputs, ceiling, likely_input, proven_input};
//!
//! let catalog = Catalog::builtin();
//! let card = catalog.find("claude-haiku-4-5").ok_or("no such model")?;
//! let mut inputs = Inputs::default();
//! inputs.text_bytes = 6_600;
//! let input = proven_input(&inputs, card)?;
//! assert_eq!((input, likely_input(&inputs, "claude-haiku-4-5")), (6_600, 2_000));
//! assert_eq!(ceiling(&inputs, card, input, 1_000)?.to_string(), "0.0116"); // at 1 and 5 dollars a million tokens
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod billed;
mod counted;
mod family;
mod observed;
mod so_far;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::catalog::{ModelCard, Prices, Terms};
use super::money::{Cost, Money, Price};

pub(crate) use billed::billed;
use family::Family;

pub use counted::counted_input;
pub use observed::{Observation, observed_input};
pub use so_far::{Seen, ceiling_so_far};

/// Tokens of the prompts that providers add for tools or for a format: 437 was the most above the bytes of 255 recorded
/// requests.
const TOOL_PROMPT: u64 = 1_024;
/// Tokens of a tool that the provider defines and the client runs: a memory tool was recorded at 1,328 above the bytes.
const DEFINED_TOOL: u64 = 2_048;
/// How many passes the provider makes in one request where code that it runs may call its tools: its loop ends after ten
/// and answers `pause_turn`. Source: platform.claude.com/docs/en/build-with-claude/handling-stop-reasons.
const LOOP: u64 = 10;
/// From this version on, web tools are called from code that the provider runs.
const FROM_CODE: &str = "20260209";

/// What a request holds that costs tokens, as its dialect read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inputs {
    /// Bytes of the request that are not media.
    pub text_bytes: u64,
    /// Bytes of images and documents that stand in the request itself, as base64.
    pub media_bytes: u64,
    /// How many images, wherever they lie.
    pub images: u64,
    /// How many of them the provider fetches: what it finds there may be another one each time.
    pub remote_images: u64,
    /// How many documents stand in the request itself as something other than text.
    pub documents: u64,
    /// How many things of any size the request only refers to: documents by URL or file id, conversations by id.
    pub references: u64,
    /// Whether it holds audio or asks for some.
    pub audio: bool,
    /// Whether it has tools or asks for a format, for which providers add a prompt of their own.
    pub prompted: bool,
    /// Whether it speaks of citations: for them a provider adds a prompt, and marks where each part of a document begins.
    pub cited: bool,
    /// How many of its tools the provider defines and the client runs.
    pub defined_tools: u64,
    /// How many times it refers to one of its own tools, whose definition is then repeated.
    pub tool_references: u64,
    /// Bytes of its longest tool.
    pub longest_tool: u64,
    /// Tools that the provider runs itself.
    pub server_tools: Vec<ServerTool>,
    /// What it asks the provider to write to its cache.
    pub cache_writes: CacheWrites,
    /// What it asks for that changes the price of all tokens.
    pub terms: Terms,
    /// The tokens that thinking may take of the output; `max_tokens` must stay above.
    pub thinking_budget: Option<u64>,
    /// The member by which another model than the one that was asked for may be used, or answer.
    pub other_models: Option<&'static str>,
    /// What it asks for that no bound covers; the first of several.
    pub unbounded: Option<Unbounded>,
}

/// A tool that the provider runs itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerTool {
    /// Its type: `web_search_20250305`.
    pub kind: Arc<str>,
    /// How often it may be used in one call, if the request says so.
    pub max_uses: Option<u64>,
}

impl ServerTool {
    /// A tool of this type.
    pub fn new(kind: impl Into<Arc<str>>, max_uses: Option<u64>) -> Self {
        ServerTool { kind: kind.into(), max_uses }
    }

    fn searches(&self) -> bool {
        self.kind.starts_with("web_search")
    }

    /// How many passes over the context it may add, each of which is billed.
    fn passes(&self) -> Result<u64, Unbounded> {
        let refused = |why| Err(Unbounded::new(self.field(), why));
        let version = match self.kind.strip_prefix("web_search").or_else(|| self.kind.strip_prefix("web_fetch")) {
            Some(version) => version.trim_start_matches('_'),
            None if self.kind.starts_with("advisor") => {
                return refused("an advisor is another model, at its own prices");
            }
            None => return refused("how often the provider runs this tool, and for what fee, is not known"),
        };
        match self.max_uses {
            Some(uses) if is_date(version) && version >= FROM_CODE => Ok(uses.saturating_add(LOOP)),
            Some(uses) => Ok(uses),
            None => refused("a tool that the provider runs needs `max_uses`"),
        }
    }

    /// The member of the request that asks for it.
    fn field(&self) -> &'static str {
        if &*self.kind == "web_search_options" { "web_search_options" } else { "tools" }
    }
}

fn is_date(version: &str) -> bool {
    version.len() == FROM_CODE.len() && version.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a request asks the provider to write to its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum CacheWrites {
    /// Nothing, unless the provider [caches unasked](ModelCard::caches_unasked).
    #[default]
    None,
    /// Something, for five minutes (with OpenAI, half an hour).
    FiveMinutes,
    /// Something, perhaps for an hour (with OpenAI, twelve).
    OneHour,
}

/// Why a call has no proven bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unbounded {
    /// The member of the request at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Unbounded {
    pub(crate) const fn new(field: &'static str, why: &'static str) -> Self {
        Unbounded { field, why }
    }
}

impl fmt::Display for Unbounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.why)
    }
}

impl std::error::Error for Unbounded {}

/// The most input tokens, cached ones included, that the provider can bill for one answer.
///
/// Never more than the context window, unless the provider runs tools: then every use of one may read a whole window
/// more.
///
/// # Errors
/// What no bound covers: [`Inputs::unbounded`], audio, a server tool without `max_uses`, and whatever only the context
/// window would bound, if that is not known.
pub fn proven_input(inputs: &Inputs, card: &ModelCard) -> Result<u64, Unbounded> {
    bounded(inputs)?;
    let tools = server_tools(inputs, card);
    let passes = tools.iter().try_fold(0_u64, |passes, tool| Ok(passes.saturating_add(tool.passes()?)))?;
    let window = card.context_window;
    let text = if inputs.documents > 0 || inputs.references > 0 || !tools.is_empty() {
        // However large it is, or the provider's own prompt for its tools: what does not fit is refused.
        window
    } else {
        let parts = [
            inputs.text_bytes,
            added(inputs),
            match inputs.images {
                0 => 0,
                images => images.saturating_mul(Family::of(&card.name).image_tokens()),
            },
        ];
        parts.into_iter().fold(0, u64::saturating_add).min(window)
    };
    match text.saturating_add(passes.saturating_mul(window)) {
        u64::MAX => Err(Unbounded::new("model", "the context window of this model is not known")),
        tokens => Ok(tokens),
    }
}

/// The most tokens of what providers add to a request that has no tools of theirs: prompts, and definitions repeated.
fn added(inputs: &Inputs) -> u64 {
    let prompt = if inputs.prompted { TOOL_PROMPT } else { 0 };
    // What a mark takes is not known; none is of less than a byte.
    let marks = if inputs.cited { TOOL_PROMPT.saturating_add(inputs.text_bytes) } else { 0 };
    prompt
        .saturating_add(marks)
        .saturating_add(inputs.defined_tools.saturating_mul(DEFINED_TOOL))
        .saturating_add(inputs.tool_references.saturating_mul(inputs.longest_tool))
}

/// The most that `input` tokens in and `output` tokens out can cost under these inputs, searches included.
///
/// Input is priced as the dearest class that it can fall in: fresh, read from a cache, or written to one that the request
/// asks for. A long conversation's prices count only if `input` is above their threshold.
///
/// # Errors
/// [`Inputs::unbounded`], audio, a fast mode or a search without a price, and a cost that [`Money`] cannot say.
pub fn ceiling(inputs: &Inputs, card: &ModelCard, input: u64, output: u64) -> Result<Money, Unbounded> {
    bounded(inputs)?;
    let base = card.prices;
    // Fewer tokens than the bound may still be billed below the threshold, whichever is dearer there.
    let long = card.prices_at(input);
    let dearest = |price: fn(&Prices) -> Price| price(&base).max(price(&long));

    let mut input_price = dearest(|prices| prices.input).max(dearest(|prices| prices.cache_read));
    if card.caches_unasked || inputs.cache_writes >= CacheWrites::FiveMinutes {
        input_price = input_price.max(dearest(|prices| prices.cache_write_5m));
    }
    if inputs.cache_writes == CacheWrites::OneHour {
        input_price = input_price.max(dearest(|prices| prices.cache_write_1h));
    }
    let tokens = Cost::default().add(input, input_price).add(output, dearest(|prices| prices.output));
    let tokens = card.under(tokens, inputs.terms).ok_or(Unbounded::new("speed", "fast mode has no price here"))?;

    let mut searches = Money::ZERO;
    for tool in server_tools(inputs, card).iter().filter(|tool| tool.searches()) {
        tool.passes()?;
        let price = card.searches(tool.max_uses.unwrap_or_default());
        let price = price.ok_or(Unbounded::new(tool.field(), "what a web search costs is not known"))?;
        searches = searches.saturating_add(price);
    }
    let total = tokens.total().and_then(|tokens| tokens.checked_add(searches));
    total.ok_or(Unbounded::new("max_tokens", "the worst case costs more than can be said"))
}

/// A guess at the input tokens, near enough for limits on tokens; not a bound.
///
/// Bytes by what a token of the model's family has in prose and code, and a modest figure for whatever is not text.
#[must_use]
pub fn likely_input(inputs: &Inputs, model: &str) -> u64 {
    let family = Family::of(model);
    let text = inputs.text_bytes.saturating_mul(10) / family.tenths_of_bytes();
    let things = inputs.documents.saturating_add(inputs.references);
    text.saturating_add(inputs.images.saturating_mul(family.likely_image_tokens()))
        .saturating_add(things.saturating_mul(family::LIKELY_DOCUMENT))
}

/// Those of the request, and the search that models made for nothing else run in every call.
fn server_tools<'a>(inputs: &'a Inputs, card: &ModelCard) -> Cow<'a, [ServerTool]> {
    match inputs.server_tools.is_empty() && card.name.contains("-search-") {
        true => Cow::Owned(vec![ServerTool::new("web_search_options", Some(1))]),
        false => Cow::Borrowed(&inputs.server_tools),
    }
}

fn bounded(inputs: &Inputs) -> Result<(), Unbounded> {
    match inputs.unbounded {
        Some(unbounded) => Err(unbounded),
        None if inputs.audio => Err(Unbounded::new("messages", "audio is not priced here")),
        None => Ok(()),
    }
}
