use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};

use jiff::tz::TimeZone;

/// A time zone of the IANA database: the machine's copy if it has one, otherwise the one compiled in.
///
/// Each zone is loaded once and kept for ever, so that a window is as cheap to copy as a number. There are some six
/// hundred.
#[derive(Clone, Copy)]
pub struct Zone(&'static Kept);

struct Kept {
    name: &'static str,
    rules: TimeZone,
}

static UTC: Kept = Kept { name: "UTC", rules: TimeZone::UTC };
static KEPT: LazyLock<Mutex<HashMap<&'static str, &'static Kept>>> = LazyLock::new(Mutex::default);

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone(&UTC);

    /// Finds a zone by its name, in upper or lower case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let rules = TimeZone::get(name).ok()?;
        let name = rules.iana_name()?;
        if matches!(name, "UTC" | "Etc/UTC") {
            return Some(Zone::UTC);
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = kept.get(name) {
            return Some(Zone(zone));
        }
        // Bounded: only names of the database get here, in the database's spelling.
        let name: &'static str = Box::leak(name.into());
        let zone: &'static Kept = Box::leak(Box::new(Kept { name, rules }));
        kept.insert(name, zone);
        Some(Zone(zone))
    }

    /// The name, as the database spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    pub(super) fn rules(self) -> &'static TimeZone {
        &self.0.rules
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name()).finish()
    }
}
