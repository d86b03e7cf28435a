/// How much a model should think, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Effort {
    /// No thinking.
    None,
    /// The least possible.
    Minimal,
    /// Little.
    Low,
    /// The usual amount.
    Medium,
    /// Much.
    High,
    /// More than high.
    XHigh,
    /// The most possible.
    Max,
}

const EFFORTS: [(&str, Effort); 7] = [
    ("none", Effort::None),
    ("minimal", Effort::Minimal),
    ("low", Effort::Low),
    ("medium", Effort::Medium),
    ("high", Effort::High),
    ("xhigh", Effort::XHigh),
    ("max", Effort::Max),
];

impl Effort {
    /// Finds a level by its name on the wire.
    pub(crate) fn named(name: &str) -> Option<Self> {
        EFFORTS.iter().find(|(known, _)| *known == name).map(|(_, effort)| *effort)
    }

    pub(crate) fn name(self) -> &'static str {
        EFFORTS[self as usize].0
    }
}

/// A set of effort levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Efforts(u8);

impl Efforts {
    pub(super) const NONE: Efforts = Efforts(0);

    /// The set of these levels.
    #[must_use]
    pub fn of(efforts: impl IntoIterator<Item = Effort>) -> Self {
        Efforts(efforts.into_iter().fold(0, |set, effort| set | 1 << effort as u8))
    }

    pub(super) const fn between(least: Effort, most: Effort) -> Self {
        Efforts((2 << most as u8) - (1 << least as u8))
    }

    pub(super) const fn and(self, other: Effort) -> Self {
        Efforts(self.0 | 1 << other as u8)
    }

    /// Whether the level is in the set.
    #[must_use]
    pub fn has(self, effort: Effort) -> bool {
        self.0 & 1 << effort as u8 != 0
    }

    /// The level itself or the next lower one in the set; if there is none, the lowest. `None` for an empty set.
    #[must_use]
    pub fn nearest(self, effort: Effort) -> Option<Effort> {
        let levels = || EFFORTS.iter().map(|(_, level)| *level).filter(|level| self.has(*level));
        levels().take_while(|level| *level <= effort).last().or_else(|| levels().next())
    }
}
