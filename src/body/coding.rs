use http::header::{self, HeaderMap, HeaderValue};

/// Whether the client accepts gzip (RFC 9110 section 12.5.3: named or matched by `*`, and not with weight zero).
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    // The usual value of SDKs.
    if headers.get(header::ACCEPT_ENCODING).is_some_and(|value| value.as_bytes().starts_with(b"gzip, ")) {
        return true;
    }
    let mut star = false;
    for coding in headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let refused = parts.any(|p| {
            p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")).is_some_and(|q| q.trim_matches(['0', '.']).is_empty())
        });
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return !refused;
        }
        star |= name == "*" && !refused;
    }
    star
}

/// Whether an answer's bytes are as they are meant to be read. Some servers name a coding only to keep compressors off
/// (`none`), or write the charset there; clients take all of these for plain bytes.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    const PLAIN: [&[u8]; 4] = [b"", b"identity", b"none", b"utf-8"];
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.all(|coding| PLAIN.iter().any(|plain| coding.trim_ascii().eq_ignore_ascii_case(plain)))
}

/// Asks for no coding but those that are read here: usage in any other would not be counted, and a client chooses what
/// it accepts.
pub(crate) fn accept_what_is_read(headers: &mut HeaderMap) {
    if headers.contains_key(header::ACCEPT_ENCODING) {
        let codings = if accepts_gzip(headers) { "gzip, identity" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(codings: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(codings))])
    }

    #[test]
    fn gzip_is_accepted_where_it_is_named_and_not_refused() {
        for (value, yes) in [
            ("gzip, deflate, br", true),
            ("GZIP", true),
            ("br, *", true),
            ("gzip;q=0, *", false),
            ("gzip;q=0.5", true),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("gzip;Q=0", false),
            ("*;q=0", false),
        ] {
            assert_eq!(accepts_gzip(&headers(value)), yes, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_names_no_coding_is_plain_whatever_it_says() {
        let named = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            is_plain(&headers)
        };
        for plain in [&[][..], &[""], &["None"], &["UTF-8"], &["identity, identity"], &["identity", "none"]] {
            assert!(named(plain), "{plain:?}");
        }
        for coded in [&["gzip"][..], &["identity, br"], &["identity", "gzip"], &["nonesuch"]] {
            assert!(!named(coded), "{coded:?}");
        }
    }

    #[test]
    fn nothing_else_is_asked_for() {
        for (value, codings) in [("br, gzip, zstd", "gzip, identity"), ("br", "identity"), ("", "identity")] {
            let mut headers = headers(value);
            accept_what_is_read(&mut headers);
            assert_eq!(headers[header::ACCEPT_ENCODING], codings);
        }
        let mut none = HeaderMap::new();
        accept_what_is_read(&mut none);
        assert!(none.is_empty());
    }
}
