use crate::dialect::canon::MOST_KEPT;
use crate::dialect::canon::event::{Event, Open, Sink, StopReason, UsageNews};
use crate::dialect::canon::needs::{JSON_TOOL, Needs};
use crate::wire::json::Escaped;

/// How often in one answer.
const MOST_PAUSES: u32 = 5;

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
    /// How much the writer may have kept.
    kept: usize,
}

/// The block that is open, where it is not what it seems.
#[derive(PartialEq, Eq)]
enum Inside {
    Plain,
    /// The tool that stands in for a format: its input is the answer's text.
    JsonTool {
        said: bool,
    },
    Hidden,
}

impl Fit {
    pub(super) fn new(needs: Needs) -> Self {
        let usage = UsageNews::default();
        let inside = Inside::Plain;
        Fit { needs, inside, pauses: 0, is_paused: false, before: None, usage, states_usage: false, kept: 0 }
    }

    /// Whoever asks goes on with an answer that pauses. To others it is one that was too long.
    pub(super) fn resumes(&mut self) {
        self.pauses = MOST_PAUSES;
    }

    /// Whether the provider wants to be asked to go on. Of that the client hears nothing.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether the upstream has said what the answer cost.
    pub(super) fn states_usage(&self) -> bool {
        self.states_usage
    }

    /// Whether the writer may have kept more than it should.
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
        match (event, &mut self.inside) {
            (Event::Open(open), _) => self.open(open, sink),
            (Event::Close, Inside::Hidden) => self.inside = Inside::Plain,
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
            (Event::Thinking(_) | Event::Signature(_), Inside::Hidden) => {}
            (Event::Stop(stop), _) if stop.reason == StopReason::Pause && self.pauses > 0 => {
                self.pauses -= 1;
                self.is_paused = true;
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
            Open::Tool { name, .. } if needs.json_tool && name.as_str() == JSON_TOOL => {
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
}
