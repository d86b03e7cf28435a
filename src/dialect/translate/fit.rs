use crate::dialect::canon::MOST_KEPT;
use crate::dialect::canon::event::{Event, Open, Sink, StopReason, UsageNews};
use crate::dialect::canon::needs::{JSON_TOOL, Needs};
use crate::domain::usage::Usage;
use crate::wire::json::{Escaped, Raw};

/// How often in one answer.
const MOST_PAUSES: u32 = 5;
/// Bytes of text that make a token of most models that speak Chat Completions.
const BYTES_A_TOKEN: u64 = 4;

/// Makes of the upstream's events those of the answer that the client asked for.
pub(super) struct Fit {
    needs: Needs,
    inside: Inside,
    /// How often the answer may still pause and be gone on with.
    pauses: u32,
    is_paused: bool,
    /// What the parts before the last pause used.
    before: Option<UsageNews>,
    usage: UsageNews,
    states_usage: bool,
    /// The tokens that went in, for want of a statement.
    likely_input: Option<u64>,
    has_guessed: bool,
    /// How many bytes the model has said.
    said: u64,
    /// Text, block by block, where a tool stands in for a format: it is the answer only if that is not called.
    held: Vec<Held>,
    /// That tool has been called.
    is_answered: bool,
    /// How much is held, and the writer may have kept.
    kept: usize,
}

/// A text block, and what it rests on.
#[derive(Default)]
struct Held {
    text: String,
    citations: Vec<String>,
}

/// The block that is open, where it is not what it seems.
#[derive(PartialEq, Eq)]
enum Inside {
    Plain,
    /// The tool that stands in for a format: its input is the answer's text.
    JsonTool {
        said: bool,
    },
    /// Text that may turn out to be none of the answer.
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

    /// Whoever asks goes on with an answer that pauses. To others it is one that was too long.
    pub(super) fn resumes(&mut self) {
        self.pauses = MOST_PAUSES;
    }

    /// Where the upstream does not say what the answer cost, it is told by a guess, of so many tokens that went in.
    pub(super) fn guesses(&mut self, likely_input: u64) {
        self.likely_input = Some(likely_input);
    }

    /// Whether it was told by a guess.
    pub(super) fn has_guessed(&self) -> bool {
        self.has_guessed
    }

    /// Whether the provider wants to be asked to go on. Of that the client hears nothing.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether the upstream has said what the answer cost.
    pub(super) fn states_usage(&self) -> bool {
        self.states_usage
    }

    /// Whether more is held, or may have been kept by the writer, than should be.
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
            // It is called once: what is said besides would spoil the JSON.
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

    /// Whoever did not call the tool has answered in text.
    fn release(&mut self, sink: Sink<'_>) {
        for Held { text, citations } in std::mem::take(&mut self.held) {
            sink(Event::Open(Open::Text));
            sink(Event::Text(Escaped::owned(text)));
            citations.iter().for_each(|citation| sink(Event::Citation(Raw::new(citation))));
            sink(Event::Close);
        }
    }
}
