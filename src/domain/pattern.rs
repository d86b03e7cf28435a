//! Patterns in lists of models: a name, or a prefix that ends in `*`.

/// Whether `pattern` covers `name`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}
