//! How lists of models name them: a name, or the start of names and a `*`.

/// Whether `name` is meant by `pattern`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}
