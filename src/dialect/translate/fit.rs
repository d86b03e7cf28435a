use crate::dialect::canon::event::{Event, Open, Sink};
use crate::dialect::canon::needs::{JSON_TOOL, Needs};
use crate::wire::json::Escaped;

/// Makes of the upstream's events those of the answer that the client asked for.
pub(super) struct Fit {
    needs: Needs,
    inside: Inside,
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
        Fit { needs, inside: Inside::Plain }
    }

    pub(super) fn event(&mut self, event: Event<'_>, sink: Sink<'_>) {
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
