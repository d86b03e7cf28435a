//! Names of members that hold secrets.

/// Names of members that hold secrets, in lower case and without separators. Others may stand before and after.
const SECRETS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "accesstoken",
    "authtoken",
    "refreshtoken",
    "sessiontoken",
    "idtoken",
];

/// The same for ends of names.
const ENDS: [&str; 9] = [
    "token",
    "secret",
    "credential",
    "credentials",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "accountkey",
    "sharedkey",
];
/// Names that end like that and are those of measures: `input_cost_per_token`, `time_to_first_token`.
const MEASURES: [&str; 4] = ["per_token", "pertoken", "first_token", "firsttoken"];

/// Whether this is the name of a secret.
pub(super) fn is_telling(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let ends = |ends: &[&str]| ends.iter().any(|end| plain.ends_with(end));
    SECRETS.iter().any(|secret| plain.contains(secret))
        || (ends(&ENDS) && !MEASURES.iter().any(|measure| ends_with_word(name, measure)))
        || plain == "authorization"
        || has_secret(name)
        || ["pass", "pwd"].iter().any(|word| ends_with_word(name, word))
        // A variable of the environment: other names that end so are of caches, rows and documents.
        || name.ends_with("_KEY")
}

/// Whether the last word of the name is this one: `db_pass`, `dbPass`, but not `compass`.
fn ends_with_word(name: &str, word: &str) -> bool {
    let Some((before, last)) = name.len().checked_sub(word.len()).and_then(|at| name.split_at_checked(at)) else {
        return false;
    };
    let is_hump =
        last.starts_with(|c: char| c.is_ascii_uppercase()) && last.ends_with(|c: char| c.is_ascii_lowercase());
    last.eq_ignore_ascii_case(word) && (is_hump || !before.ends_with(char::is_alphanumeric))
}

/// Whether one word of the name is "secret": `secret_id`, `secretValue`, but not `secretary`.
fn has_secret(name: &str) -> bool {
    name.match_indices(['s', 'S']).any(|(at, _)| {
        let (before, rest) = name.split_at(at);
        let is_word = rest.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("secret"));
        let behind = rest.get(6..).unwrap_or_default();
        let behind = behind.strip_prefix(['s', 'S']).unwrap_or(behind);
        let begins = !before.ends_with(char::is_alphanumeric) || rest.starts_with("Se");
        is_word && begins && !behind.starts_with(|next: char| next.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::is_telling;

    #[test]
    fn names_of_secrets_are_told_from_those_that_only_look_like_them() {
        for name in [
            "password",
            "DB_PASSWORD_PROD",
            "dbPassword",
            "client-secret",
            "clientSecret",
            "apiKey",
            "x-api-key",
            "Authorization",
            "AWS_SECRET_ACCESS_KEY",
            "SecretAccessKey",
            "auth_token",
            "sessionToken",
            "token",
            "secret_id",
            "secretValue",
            "mySecretId",
            "SECRET_TOKEN",
            "secrets",
            "NPM_TOKEN",
            "botToken",
            "developer_token",
            "superToken",
            "pass",
            "DB_PASS",
            "dbPass",
            "PWD",
            "credential",
            "aws_credentials",
            "STRIPE_KEY",
            "signingKey",
        ] {
            assert!(is_telling(name), "{name}");
        }
        for name in [
            "secretary",
            "text",
            "max_tokens",
            "tokens",
            "token_count",
            "tokenizer",
            "input_cost_per_token",
            "costPerToken",
            "time_to_first_token",
            "key",
            "prompt_cache_key",
            "keyboard",
            "passed",
            "compass",
            "ass",
        ] {
            assert!(!is_telling(name), "{name}");
        }
    }
}
