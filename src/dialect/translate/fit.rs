use crate::dialect::canon::MOST_KEPT;
use crate::dialect::canon::event::{Event, Open, Sink, StopReason, UsageNews};
use crate::dialect::canon::needs::{JSON_TOOL, Needs};
use crate::domain::usage::Usage;
use crate::wire::json::{Escaped, Raw};

/// How often an answer may pause and be continued.
const MOST_PAUSES: u32 = 5;
/// Bytes of text per token, for most models that speak Chat Completions.
const BYTES_A_TOKEN: u64 = 4;

/// Turns the upstream's events into those of the answer that the client asked for.
pub(super) struct Fit {
    needs: Needs,
    inside: Inside,
    /// How often the answer may still pause and be continued.
    pauses: u32,
    is_paused: bool,
    /// The usage of the parts before the last pause.
    before: Option<UsageNews>,
    usage: UsageNews,
    states_usage: bool,
    /// The input tokens to report if none are stated.
    likely_input: Option<u64>,
    has_guessed: bool,
    /// How many bytes the model has produced.
    said: u64,
    /// Text, block by block, if a tool stands in for a format: it is the answer only if that tool is not called.
    held: Vec<Held>,
    /// That tool was called.
    is_answered: bool,
    /// How much is held, and how much the writer may have kept.
    kept: usize,
}

/// A text block, with its sources.
#[derive(Default)]
struct Held {
    text: String,
    citations: Vec<String>,
}

/// The open block, if it is not what it seems.
#[derive(PartialEq, Eq)]
enum Inside {
    Plain,
    /// The tool that stands in for a format: its input is the text of the answer.
    JsonTool {
        said: bool,
    },
    /// Text that may turn out not to belong to the answer.
    Held,
    Hidden,
}

impl Fit {
    pub(super) fn new(needs: Needs) -> Self {
        let usage = UsageNews::default();
        let inside = Inside::Plain;
        Fit {
            needs,
            inside,
            pauses: 0,
            is_paused: false,
            before: None,
            usage,
            states_usage: false,
            likely_input: None,
            has_guessed: false,
            said: 0,
            held: Vec::new(),
            is_answered: false,
            kept: 0,
        }
    }

    /// The caller continues an answer that pauses. Otherwise such an answer ends as if it was too long.
    pub(super) fn resumes(&mut self) {
        self.pauses = MOST_PAUSES;
    }

    /// If the upstream does not state the usage, a guess is reported, with this many input tokens.
    pub(super) fn guesses(&mut self, likely_input: u64) {
        self.likely_input = Some(likely_input);
    }

    /// Whether the reported usage is a guess.
    pub(super) fn has_guessed(&self) -> bool {
        self.has_guessed
    }

    /// Whether the provider wants to be asked to continue. The client is not told.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether the upstream has stated the usage.
    pub(super) fn states_usage(&self) -> bool {
        self.states_usage
    }

    /// Whether more is held, or kept by the writer, than is allowed.
    pub(super) fn is_too_large(&self) -> bool {
        self.kept > MOST_KEPT
    }

    /// What comes now is the rest of the answer.
    pub(super) fn resume(&mut self) {
        self.is_paused = false;
        self.before = Some(self.usage);
    }

    pub(super) fn event(&mut self, event: Event<'_>, sink: Sink<'_>) {
        self.kept += event.size();
        if let Event::Text(piece) | Event::Thinking(piece) | Event::Arguments(piece) = &event {
            self.said += piece.as_str().len() as u64;
        }
        match (event, &mut self.inside) {
            (Event::Open(open), _) => self.open(open, sink),
            (Event::Close, Inside::Hidden | Inside::Held) => self.inside = Inside::Plain,
            (Event::Close, Inside::JsonTool { said }) => {
                if !*said {
                    sink(Event::Text(Escaped::new("{}")));
                }
                self.inside = Inside::Plain;
                sink(Event::Close);
            }
            (Event::Arguments(piece), Inside::JsonTool { said }) => {
                *said = true;
                sink(Event::Text(piece));
            }
            (Event::Text(piece), Inside::Held) => {
                self.kept += piece.as_str().len();
                self.held.last_mut().into_iter().for_each(|held| held.text.push_str(piece.as_str()));
            }
            (Event::Citation(raw), Inside::Held) => {
                self.held.last_mut().into_iter().for_each(|held| held.citations.push(raw.as_str().to_owned()));
            }
            (
                Event::Thinking(_) | Event::Signature(_) | Event::Text(_) | Event::Citation(_) | Event::Arguments(_),
                Inside::Hidden,
            ) => {}
            (Event::Stop(stop), _) if stop.reason == StopReason::Pause && self.pauses > 0 => {
                self.pauses -= 1;
                self.is_paused = true;
            }
            (Event::Stop(stop), _) => {
                self.release(sink);
                if let Some(input) = self.likely_input.filter(|_| !self.states_usage) {
                    let usage = Usage { input, output: self.said.div_ceil(BYTES_A_TOKEN), ..Usage::default() };
                    self.has_guessed = true;
                    sink(Event::Usage(UsageNews { usage, ..UsageNews::default() }));
                }
                sink(Event::Stop(stop));
            }
            (Event::End, _) if self.is_paused => {}
            (Event::Start { .. }, _) if self.before.is_some() => {}
            (Event::Usage(news), _) => {
                self.states_usage = true;
                self.usage = self.before.map_or(news, |before| before.plus(news));
                sink(Event::Usage(self.usage));
            }
            (event, _) => sink(event),
        }
    }

    fn open(&mut self, open: Open<'_>, sink: Sink<'_>) {
        let needs = &self.needs;
        match open {
            Open::Thinking | Open::RedactedThinking { .. } if needs.hides_thinking => self.inside = Inside::Hidden,
            // The tool is called once: further text would break the JSON.
            Open::Text if self.is_answered => self.inside = Inside::Hidden,
            Open::Tool { name, .. } if self.is_answered && name.as_str() == JSON_TOOL => self.inside = Inside::Hidden,
            Open::Text if needs.json_tool => {
                self.inside = Inside::Held;
                self.held.push(Held::default());
            }
            Open::Tool { name, .. } if needs.json_tool && name.as_str() == JSON_TOOL => {
                self.is_answered = true;
                self.held.clear();
                self.inside = Inside::JsonTool { said: false };
                sink(Event::Open(Open::Text));
            }
            Open::Tool { id, name, .. } => {
                let takes_text = needs.custom.iter().any(|custom| custom == name.as_str());
                let theirs = needs.names.iter().find(|(ours, _)| ours == name.as_str());
                let name = theirs.map_or(name, |(_, theirs)| Escaped::join(&[theirs]));
                sink(Event::Open(Open::Tool { id, name, takes_text }));
            }
            open => sink(Event::Open(open)),
        }
    }

    /// The model did not call the tool, and so has answered in text.
    fn release(&mut self, sink: Sink<'_>) {
        for Held { text, citations } in std::mem::take(&mut self.held) {
            sink(Event::Open(Open::Text));
            sink(Event::Text(Escaped::owned(text)));
            citations.iter().for_each(|citation| sink(Event::Citation(Raw::new(citation))));
            sink(Event::Close);
        }
    }
}
