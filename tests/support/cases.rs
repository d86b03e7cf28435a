//! How many cases a property is tried with.

use proptest::test_runner::Config;

/// So many, or as many as `PROPTEST_CASES` says: a number in the code would be stronger than it.
pub(crate) fn cases(usual: u32) -> Config {
    let said = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { said } else { Config { cases: usual, ..said } }
}
