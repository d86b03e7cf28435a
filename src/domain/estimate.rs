//! The most that a call can cost, before it is made.
//!
//! Use it in a budget: a call must hold at least what it will cost.
//!
//! - [`proven_input`] bounds the input tokens.
//! - [`observed_input`] bounds a conversation that goes on, by what was billed for its beginning.
//! - [`counted_input`] relies on a count by somebody else.
//! - [`likely_input`] is a guess, for limits on tokens, where a bound would refuse too much.
//! - [`ceiling`] bounds the cost of input and output together.
//! - [`ceiling_so_far`] bounds the cost of an answer whose end is not known.
//!
//! The dialect reads what a request contains: see [`Head::inputs`](crate::dialect::head::Head::inputs).
//!
//! The bound rests on one assumption, which is tested against recorded calls: providers use byte-level tokenizers,
//! which never produce more tokens than there are bytes, and they do not lengthen what they are sent, except by prompts
//! of their own.
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
//! assert_eq!(ceiling(&inputs, card, input, 1_000)?.to_string(), "0.0116"); // at 1 and 5 dollars per million tokens
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

/// Tokens of the prompts that providers add for tools or for a format. Of 255 recorded requests, the highest exceeded
/// its bytes by 437.
const TOOL_PROMPT: u64 = 1_024;
/// Tokens of a tool that the provider defines and the client runs. A memory tool was recorded at 1,328 above the bytes.
const DEFINED_TOOL: u64 = 2_048;
/// How many passes the provider makes in one request if code that it runs may call its tools: its loop ends after ten
/// and answers `pause_turn`. Source: platform.claude.com/docs/en/build-with-claude/handling-stop-reasons.
const LOOP: u64 = 10;
/// From this version on, web tools are called from code that the provider runs.
const FROM_CODE: &str = "20260209";

/// What a request contains that costs tokens, as its dialect read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inputs {
    /// Bytes of the request that are not media.
    pub text_bytes: u64,
    /// Bytes of images and documents inside the request, as base64.
    pub media_bytes: u64,
    /// The number of images, inside the request or elsewhere.
    pub images: u64,
    /// The number of images that the provider fetches. It may find a different image each time.
    pub remote_images: u64,
    /// The number of documents inside the request that are not text.
    pub documents: u64,
    /// The number of references to things of unknown size: documents by URL or file id, conversations by id.
    pub references: u64,
    /// Whether the request contains or asks for audio.
    pub audio: bool,
    /// Whether it has tools or asks for a format, for which providers add a prompt of their own.
    pub prompted: bool,
    /// Whether it asks for citations. The provider then adds a prompt, and marks the beginning of each part of a
    /// document.
    pub cited: bool,
    /// The number of its tools that the provider defines and the client runs.
    pub defined_tools: u64,
    /// The number of references to its own tools, each of which repeats the tool's definition.
    pub tool_references: u64,
    /// The size of its longest tool, in bytes.
    pub longest_tool: u64,
    /// Bytes of its tools that a translation may add, because it merges what a schema refers to into its root.
    pub repeated_bytes: u64,
    /// Tools that the provider runs itself.
    pub server_tools: Vec<ServerTool>,
    /// What it asks the provider to write to its cache.
    pub cache_writes: CacheWrites,
    /// What it asks for that changes the price of all tokens.
    pub terms: Terms,
    /// The output tokens that thinking may take; `max_tokens` must stay above.
    pub thinking_budget: Option<u64>,
    /// The member that lets another model be used, or answer.
    pub other_models: Option<&'static str>,
    /// The first part of the request that no bound covers.
    pub unbounded: Option<Unbounded>,
}

/// A tool that the provider runs itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerTool {
    /// The type, for example `web_search_20250305`.
    pub kind: Arc<str>,
    /// The most uses in one call, if the request limits them.
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

    /// How many passes over the context the tool may add, each of which is billed.
    fn passes(&self) -> Result<u64, Unbounded> {
        let refused = |why| Err(Unbounded::new(self.field(), why));
        let version = match self.kind.strip_prefix("web_search").or_else(|| self.kind.strip_prefix("web_fetch")) {
            Some(version) => version.trim_start_matches('_'),
            None if self.kind.starts_with("advisor") => {
                return refused("an advisor is another model, with its own prices");
            }
            None => return refused("the number of times the provider runs this tool, and its fee, are not known"),
        };
        match self.max_uses {
            Some(uses) if is_date(version) && version >= FROM_CODE => Ok(uses.saturating_add(LOOP)),
            Some(uses) => Ok(uses),
            None => refused("a tool that the provider runs needs `max_uses`"),
        }
    }

    /// The member of the request that asks for the tool.
    fn field(&self) -> &'static str {
        if &*self.kind == "web_search_options" { "web_search_options" } else { "tools" }
    }
}

fn is_date(version: &str) -> bool {
    version.len() == FROM_CODE.len() && version.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a request asks the provider to write to its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
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
/// That is never more than the context window, unless the provider runs tools: each use of one may read a whole window
/// more.
///
/// # Errors
/// When no bound exists: for [`Inputs::unbounded`], for audio, for a server tool without `max_uses`, and if only the
/// context window would be the bound and it is unknown.
pub fn proven_input(inputs: &Inputs, card: &ModelCard) -> Result<u64, Unbounded> {
    bounded(inputs)?;
    let tools = server_tools(inputs, card);
    let passes = tools.iter().try_fold(0_u64, |passes, tool| Ok(passes.saturating_add(tool.passes()?)))?;
    let window = card.context_window;
    let text = if inputs.documents > 0 || inputs.references > 0 || !tools.is_empty() {
        // However large they and the provider's prompt for its tools are, what does not fit into the window is refused.
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

/// The most tokens that providers add to a request without server tools: prompts, and repeated definitions.
fn added(inputs: &Inputs) -> u64 {
    let prompt = if inputs.prompted { TOOL_PROMPT } else { 0 };
    // The size of a mark is unknown, but none stands for less than a byte.
    let marks = if inputs.cited { TOOL_PROMPT.saturating_add(inputs.text_bytes) } else { 0 };
    prompt
        .saturating_add(marks)
        .saturating_add(inputs.defined_tools.saturating_mul(DEFINED_TOOL))
        .saturating_add(inputs.tool_references.saturating_mul(inputs.longest_tool))
        .saturating_add(inputs.repeated_bytes)
}

/// The most that `input` input tokens and `output` output tokens can cost with these inputs, searches included.
///
/// Input is priced as the most expensive class that it can be: fresh, read from a cache, or written to one that the
/// request asks for. The prices of long conversations apply only if `input` is above their threshold.
///
/// # Errors
/// When no bound exists: for [`Inputs::unbounded`], for audio, for fast mode or a search without a price, and for a
/// cost that does not fit into [`Money`].
pub fn ceiling(inputs: &Inputs, card: &ModelCard, input: u64, output: u64) -> Result<Money, Unbounded> {
    bounded(inputs)?;
    let base = card.prices;
    // The actual tokens may be fewer than the bound and be billed below the threshold, so the higher price counts.
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
    let tokens =
        card.under(tokens, inputs.terms).ok_or(Unbounded::new("speed", "this gateway has no price for fast mode"))?;

    let mut searches = Money::ZERO;
    for tool in server_tools(inputs, card).iter().filter(|tool| tool.searches()) {
        tool.passes()?;
        let price = card.searches(tool.max_uses.unwrap_or_default());
        let price = price.ok_or(Unbounded::new(tool.field(), "the price of a web search is not known"))?;
        searches = searches.saturating_add(price);
    }
    let total = tokens.total().and_then(|tokens| tokens.checked_add(searches));
    total.ok_or(Unbounded::new(
        "max_tokens",
        "the most this request could cost is too large to represent; lower `max_tokens`",
    ))
}

/// A guess at the input tokens, good enough for limits on tokens; not a bound.
///
/// It divides the bytes by the typical bytes per token of the model's family in prose and code, and adds a modest
/// figure for everything that is not text.
#[must_use]
pub fn likely_input(inputs: &Inputs, model: &str) -> u64 {
    let family = Family::of(model);
    let text = inputs.text_bytes.saturating_mul(10) / family.tenths_of_bytes();
    let things = inputs.documents.saturating_add(inputs.references);
    text.saturating_add(inputs.images.saturating_mul(family.likely_image_tokens()))
        .saturating_add(things.saturating_mul(family::LIKELY_DOCUMENT))
}

/// The request's tools, or the search that models made only for searching run in every call.
fn server_tools<'a>(inputs: &'a Inputs, card: &ModelCard) -> Cow<'a, [ServerTool]> {
    match inputs.server_tools.is_empty() && card.name.contains("-search-") {
        true => Cow::Owned(vec![ServerTool::new("web_search_options", Some(1))]),
        false => Cow::Borrowed(&inputs.server_tools),
    }
}

fn bounded(inputs: &Inputs) -> Result<(), Unbounded> {
    match inputs.unbounded {
        Some(unbounded) => Err(unbounded),
        None if inputs.audio => Err(Unbounded::new("messages", "this gateway has no price for audio")),
        None => Ok(()),
    }
}
