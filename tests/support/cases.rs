//! The number of cases for a property test.

use proptest::test_runner::Config;

/// Returns a configuration with `usual` cases, or with the number in `PROPTEST_CASES`. A number that is set in code
/// would override that variable.
pub(crate) fn cases(usual: u32) -> Config {
    let said = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { said } else { Config { cases: usual, ..said } }
}
