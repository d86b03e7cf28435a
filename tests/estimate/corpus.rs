//! Compares estimates with the bills of recorded exchanges. The recordings are not part of this repository.
//! `TOLLGATE_CORPUS` names their directory: `PROTOCOL/CASE/{request.json, response.*, meta.json}`.

use std::path::{Path, PathBuf};

use tollgate::Dialect;
use tollgate::dialect::head::Head;
use tollgate::dialect::meter::{StreamMeter, answer};
use tollgate::domain::catalog::{Catalog, ModelCard};
use tollgate::domain::estimate::{Observation, ceiling, likely_input, observed_input, proven_input};
use tollgate::domain::usage::Usage;
use tollgate::wire::sse::Scanner;

use crate::skip::{self, say};

/// Stands in for models that are no longer in the table. It has a context window of 200,000 tokens and the price of the
/// Sonnet models of that time.
const STAND_IN: &str = "claude-sonnet-4-5";

/// The reasons for which recorded requests would be refused on a key with a budget: nothing bounds their cost.
const UNBOUNDED: [&str; 5] = [
    "`context_management`: the provider bills additional passes for compaction, and their number is not known",
    "`mcp_servers`: the number of calls that the provider makes to these servers is not limited",
    "`tools`: a tool that the provider runs needs `max_uses`",
    "`tools`: an advisor is another model, with its own prices",
    "`tools`: the number of times the provider runs this tool, and its fee, are not known",
];

#[test]
fn the_bound_holds_for_every_recorded_anthropic_exchange() {
    the_bound_holds("anthropic-messages", Dialect::Anthropic, [210, 20, 10], &UNBOUNDED, Some(STAND_IN));
}

/// Checks only the models in the table. Models of other providers have other tokenizers and prompts.
#[test]
fn the_bound_holds_for_every_recorded_chat_exchange_with_a_model_of_the_table() {
    the_bound_holds("openai-chat", Dialect::OpenAiChat, [115, 8, 4], &[], None);
}

/// For every recorded conversation that goes on, what was billed for its beginning bounds the next turn.
///
/// Each request is padded with trailing spaces, which are not billed, so that short conversations are long enough to be
/// looked at.
#[test]
fn what_was_billed_for_a_conversation_bounds_its_next_turn_in_every_recorded_one() {
    for (protocol, dialect, least, stand_in) in [
        ("anthropic-messages", Dialect::Anthropic, 80, Some(STAND_IN)),
        ("openai-chat", Dialect::OpenAiChat, 45, Some("gpt-4o")),
    ] {
        let Some(corpus) = skip::corpus(&format!("no conversation of {protocol} was continued")) else { continue };
        let catalog = Catalog::builtin();
        let mut turns = Vec::new();
        for case in cases(&corpus.join(protocol)) {
            let Some(usage) = usage(&case, dialect) else { continue };
            let mut request = std::fs::read(case.join("request.json")).expect("a request");
            request.extend(std::iter::repeat_n(b' ', 4 << 10));
            let head = Head::read(&request, dialect).expect("a head");
            let Some(card) = catalog.find(head.model()).or_else(|| catalog.find(stand_in?)) else { continue };
            turns.push((case, head, card, usage.total_input()));
        }
        let (mut continued, mut wrong, mut spared) = (0, Vec::new(), Vec::new());
        for (before, first, card, billed) in &turns {
            let Some(whole) = first.prefixes().last() else { continue };
            let Some(seen) = Observation::new(first.inputs(), card, *billed, whole.bytes) else { continue };
            for (after, second, _, actual) in &turns {
                let goes_on = second.prefixes().iter().rev().skip(1).any(|prefix| prefix == whole);
                let Some(bound) = observed_input(second.inputs(), card, &seen).filter(|_| goes_on) else { continue };
                continued += 1;
                if bound < *actual {
                    wrong.push(format!("{} after {}: {bound} of {actual}", after.display(), before.display()));
                }
                if let Ok(proven) = proven_input(second.inputs(), card) {
                    // Without the padding.
                    spared.push(bound * 100 / (proven - (4 << 10)).max(1));
                }
            }
        }
        let median = median(spared.into_iter());
        say(&format!(
            "{protocol}: {continued} turns go on where a recorded one ended; the median bound is {median}% of the proven one"
        ));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(continued >= least, "{continued} turns are too few");
    }
}

/// Checks the bound for every recorded exchange of a protocol.
///
/// `least` is the minimum number of exchanges, of long ones, and of long ones that are only text. Other exchanges may
/// be unbounded only for the reasons in `refused`.
fn the_bound_holds(protocol: &str, dialect: Dialect, least: [usize; 3], refused: &[&str], stand_in: Option<&str>) {
    let Some(corpus) = skip::corpus(&format!("no exchange of {protocol} was estimated")) else { return };
    let catalog = Catalog::builtin();
    let (mut judged, mut unbounded, mut stood_in, mut wrong) = (Vec::new(), Vec::new(), 0, Vec::new());
    for case in cases(&corpus.join(protocol)) {
        let Some(usage) = usage(&case, dialect) else { continue };
        let request = std::fs::read(case.join("request.json")).expect("a request");
        let head = Head::read(&request, dialect).expect("a head");
        let known = catalog.find(head.model());
        stood_in += usize::from(known.is_none());
        let Some(card) = known.or_else(|| catalog.find(stand_in?)) else { continue };
        match Judged::new(&head, card, usage) {
            Ok(it) => {
                if it.bound < it.actual || it.ceiling < it.cost {
                    wrong.push(format!("{}: {it:?} of {:?}", case.display(), head.inputs()));
                }
                judged.push(it);
            }
            Err(why) => unbounded.push(why),
        }
    }
    say(&format!("{protocol}, {stood_in} models not in the table, {}", stand_in.map_or("left out", |_| STAND_IN)));
    report(&judged, &unbounded);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let long = judged.iter().filter(|it| it.is_long());
    let found = [judged.len(), long.clone().count(), long.filter(|it| it.is_text).count()];
    assert!(found.iter().zip(least).all(|(found, least)| *found >= least), "{found:?} exchanges are too few");
    let other: Vec<_> = unbounded.iter().filter(|why| !refused.contains(&why.as_str())).collect();
    assert!(other.is_empty(), "nobody has said that these have no bound: {other:?}");
    assert!(unbounded.len() * 5 <= judged.len(), "{} without a bound are too many", unbounded.len());
}

/// The estimate and the bill of one exchange, in tokens and billionths of a dollar.
#[derive(Debug)]
struct Judged {
    bound: u64,
    likely: u64,
    actual: u64,
    ceiling: i64,
    cost: i64,
    /// Whether the request is only text.
    is_text: bool,
}

impl Judged {
    fn new(head: &Head, card: &ModelCard, usage: Usage) -> Result<Self, String> {
        let inputs = head.inputs();
        let bound = proven_input(inputs, card).map_err(|unbounded| unbounded.to_string())?;
        let ceiling = ceiling(inputs, card, bound, usage.output).map_err(|unbounded| unbounded.to_string())?;
        let cost = card.cost(&usage, inputs.terms).expect("what is bounded has a price");
        Ok(Judged {
            bound,
            likely: likely_input(inputs, head.model()),
            actual: usage.total_input(),
            ceiling: ceiling.nanos(),
            cost: cost.nanos(),
            is_text: inputs.images + inputs.documents + inputs.references == 0 && inputs.server_tools.is_empty(),
        })
    }

    fn is_long(&self) -> bool {
        self.actual >= 1_000
    }
}

fn report(judged: &[Judged], unbounded: &[String]) {
    let print = |what: &str, of: &[&Judged]| {
        let percent = |part: u64, whole: u64| part.saturating_mul(100) / whole.max(1);
        let over = median(of.iter().map(|it| percent(it.bound, it.actual)));
        let likely = median(of.iter().map(|it| percent(it.likely, it.actual)));
        let nanos = median(of.iter().map(|it| u64::try_from(it.ceiling - it.cost).unwrap_or_default()));
        say(&format!(
            "{what}: {} exchanges, median bound {over}% and median guess {likely}% of the tokens billed, median \
             over-reservation {nanos} billionths of a dollar",
            of.len()
        ));
    };
    print("all that are bounded", &judged.iter().collect::<Vec<_>>());
    print("of 1,000 tokens and more", &judged.iter().filter(|it| it.is_long()).collect::<Vec<_>>());
    print("of them text alone", &judged.iter().filter(|it| it.is_long() && it.is_text).collect::<Vec<_>>());
    let mut why = unbounded.to_vec();
    why.sort_unstable();
    let counts: Vec<_> =
        why.chunk_by(|one, other| one == other).map(|same| format!("{} {}", same.len(), same[0])).collect();
    say(&format!("unbounded: {} exchanges ({})", unbounded.len(), counts.join("; ")));
}

fn median(numbers: impl Iterator<Item = u64>) -> u64 {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

fn cases(protocol: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(protocol)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    cases.retain(|case| case.join("request.json").is_file());
    cases.sort_unstable();
    cases
}

/// Returns the usage that the answer states, if any.
fn usage(case: &Path, dialect: Dialect) -> Option<Usage> {
    if let Ok(json) = std::fs::read(case.join("response.json")) {
        return answer(dialect, &json).usage;
    }
    let stream = std::fs::read(case.join("response.sse")).ok()?;
    let mut meter = StreamMeter::new(dialect);
    Scanner::new().push(&stream, |block| meter.block(&block)).expect("events of a sane size");
    meter.reading().usage
}
