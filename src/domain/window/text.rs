use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::{Calendar, Window};
use crate::domain::short::{SHOWN, shortened};

/// The text is not a window, or the length is out of range, or there is no such time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAWindow {
    /// The unknown time zone, if that is what is wrong.
    zone: Option<Box<str>>,
}

impl NotAWindow {
    /// For everything else that can be wrong.
    pub(super) const ELSE: NotAWindow = NotAWindow { zone: None };

    pub(super) fn in_zone(name: &str) -> Self {
        NotAWindow { zone: Some(shortened(name, SHOWN).into()) }
    }
}

const FORMS: &str = "a window is `day`, `week` or `month`, optionally in a time zone, as in `day (Europe/Berlin)`; a length \
                     from one minute to 100 years, as in `5h` or `14d from 2026-11-02T00:00:00Z`; a rolling length, as in \
                     `rolling 24h`; or `total`";

impl fmt::Display for NotAWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            None => f.write_str(FORMS),
            Some(zone) => {
                write!(f, "unknown time zone `{zone}`: use a name of the IANA database, such as `Europe/Berlin`")
            }
        }
    }
}

impl std::error::Error for NotAWindow {}

impl Calendar {
    fn as_str(self) -> &'static str {
        match self {
            Calendar::Day => "day",
            Calendar::Week => "week",
            Calendar::Month => "month",
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Day => f.write_str(Calendar::Day.as_str()),
            Window::Week => f.write_str(Calendar::Week.as_str()),
            Window::Month => f.write_str(Calendar::Month.as_str()),
            Window::Total => f.write_str("total"),
            Window::Local(calendar, zone) => write!(f, "{} ({})", calendar.as_str(), zone.name()),
            Window::Every(length, from) if *from == Timestamp::UNIX_EPOCH => write!(f, "{length}"),
            Window::Every(length, from) => write!(f, "{length} from {from}"),
            Window::Rolling(length) => write!(f, "rolling {length}"),
        }
    }
}

impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        match text {
            "day" => return Ok(Window::Day),
            "week" => return Ok(Window::Week),
            "month" => return Ok(Window::Month),
            "total" => return Ok(Window::Total),
            _ => {}
        }
        if let Some((calendar, zone)) = text.strip_suffix(')').and_then(|text| text.split_once(" (")) {
            return calendar.parse::<Window>()?.in_zone(zone);
        }
        if let Some(length) = text.strip_prefix("rolling ") {
            return Ok(Window::Rolling(length.parse()?));
        }
        let (length, from) = match text.split_once(" from ") {
            None => (text, Timestamp::UNIX_EPOCH),
            Some((length, from)) => (length, from.parse().map_err(|_| NotAWindow::ELSE)?),
        };
        Ok(Window::Every(length.parse()?, Timestamp::from_second(from.as_second()).map_err(|_| NotAWindow::ELSE)?))
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a window")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Window, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("day", "day"),
            ("total", "total"),
            ("month (europe/BERLIN)", "month (Europe/Berlin)"),
            ("week (UTC)", "week"),
            ("day (Etc/UTC)", "day"),
            ("300m", "5h"),
            ("90m", "90m"),
            ("61s", "61s"),
            ("1209600s from 2026-11-02T00:00:00Z", "14d from 2026-11-02T00:00:00Z"),
            ("1d from 2026-11-02T01:00:00+01:00", "1d from 2026-11-02T00:00:00Z"),
            ("rolling 24h", "rolling 1d"),
        ] {
            let window: Window = text.parse().expect(text);
            assert_eq!(window.to_string(), shown);
            let json = serde_json::to_string(&window).expect("JSON");
            assert_eq!(serde_json::from_str::<Window>(&json).expect("a window"), window, "{json}");
        }
    }

    #[test]
    fn a_zone_that_is_not_there_is_named_with_an_example_of_one_that_is() {
        let unknown = "unknown time zone `Berlin`: use a name of the IANA database, such as `Europe/Berlin`";
        let wrong = [Window::Day.in_zone("Berlin"), "day (Berlin)".parse()];
        for wrong in wrong {
            assert_eq!(wrong.map_err(|error| error.to_string()), Err(unknown.to_owned()));
        }
        let long = "day (".to_owned() + &"a".repeat(1 << 20) + ")";
        let error = long.parse::<Window>().expect_err("no zone").to_string();
        assert!(error.len() < 1_000 && error.contains("aaa"), "{error:.2000}");
        // A zone does not make a calendar of what goes by none.
        let total = Window::Total.in_zone("Europe/Berlin").expect_err("no calendar").to_string();
        assert!(!total.contains("unknown time zone"), "{total}");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "Day",
            "day ",
            "year",
            "day (Europe/Atlantis)",
            "day ()",
            "day (UTC",
            "total (Europe/Berlin)",
            "5h (Europe/Berlin)",
            "rolling day",
            "rolling ",
            "59s",
            "0d",
            "-5h",
            "+5h",
            "5",
            "h",
            "1.5h",
            "999999999999999999d",
            "36526d",
            "5h from yesterday",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text:?}");
        }
    }
}
