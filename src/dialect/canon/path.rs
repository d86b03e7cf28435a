use std::fmt;

/// The path of a field in a request. It is formatted only if something is wrong with the field, since there are as many
/// as there is history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'p> {
    above: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Member(&'p str),
    Element(usize),
}

impl<'p> Path<'p> {
    /// A member of the request.
    pub(crate) const fn root(name: &'p str) -> Self {
        Path { above: None, step: Step::Member(name) }
    }

    pub(crate) fn member<'n>(&'n self, name: &'n str) -> Path<'n> {
        Path { above: Some(self), step: Step::Member(name) }
    }

    pub(crate) fn at(&self, element: usize) -> Path<'_> {
        Path { above: Some(self), step: Step::Element(element) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}.")?;
        }
        match self.step {
            Step::Member(name) => f.write_str(name),
            Step::Element(at) => write!(f, "{at}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_its_steps_from_the_request_down() {
        let messages = Path::root("messages");
        let (first, third) = (messages.at(0), messages.at(3));
        assert_eq!(third.member("content").at(12).to_string(), "messages.3.content.12");
        assert_eq!(first.to_string(), "messages.0");
    }
}
