//! What another server says of a request that does not fit into the model's context, in the words that Claude Code acts
//! on.

use std::borrow::Cow;

/// The message in Anthropic's words, with the server's own behind them.
///
/// If the prompt itself is too long, Claude Code compacts the conversation, with the figures by how much. If the prompt
/// fits and only leaves less room than `max_tokens`, compacting would not help: Claude Code then asks for less.
pub(super) fn told(message: &str) -> Cow<'_, str> {
    let words = message.to_ascii_lowercase();
    if words.contains(PROMPT) || words.contains(BOTH) {
        return Cow::Borrowed(message);
    }
    Cow::Owned(match (overflow(&words), tokens(&words)) {
        (Some((prompt, answer, most)), _) => {
            format!(
                "{BOTH}: {prompt} + {answer} > {most}, decrease input length or `max_tokens` and try again. {message}"
            )
        }
        (None, Some((has, most))) => format!("{PROMPT}: {has} tokens > {most} maximum. {message}"),
        (None, None) => format!("{PROMPT}: {message}"),
    })
}

const PROMPT: &str = "prompt is too long";
/// Claude Code 2.1.330 reads the three figures behind it, and asks again for what is left less 1,000 tokens.
const BOTH: &str = "input length and `max_tokens` exceed context limit";

/// What stands in front of the size of the context.
const MOST_IS: [&str; 5] = [
    "maximum context length",
    "available context size",
    "maximum number of tokens allowed",
    "model's context length",
    "maximum prompt length",
];
/// What stands behind the tokens of the prompt, where those of the answer are counted too: vLLM's words, OpenAI's and
/// OpenRouter's.
const OF_THE_PROMPT: [&str; 3] = [" input tokens", " in the messages", " of text input"];
/// What stands behind the tokens of the answer.
const OF_THE_ANSWER: [&str; 3] = [" output tokens", " in the completion", " in the output"];
/// What stands in front of them.
const IS_TOO_LARGE: &str = "is too large:";

/// The tokens of a prompt that fits, those asked for the answer, and the size of the context, which both together
/// exceed.
fn overflow(words: &str) -> Option<(u64, u64, u64)> {
    // New versions of vLLM do not count a prompt to its end.
    if words.contains(" at least ") {
        return None;
    }
    let behind = |word: &str| numbers(words.split_once(word)?.1)?.first().copied();
    let before = |word: &&str| numbers(words.split_once(*word)?.0)?.last().copied();
    let most = MOST_IS.iter().find_map(|word| behind(word))?;
    let prompt = OF_THE_PROMPT.iter().find_map(before)?;
    let answer = behind(IS_TOO_LARGE).or_else(|| OF_THE_ANSWER.iter().find_map(before))?;
    (prompt < most && prompt.saturating_add(answer) > most).then_some((prompt, answer, most))
}

/// The tokens of the prompt and the maximum, if the message has both.
fn tokens(words: &str) -> Option<(u64, u64)> {
    // If the answer is counted too, it is unclear which figure is the prompt's alone.
    if ["completion", "output", "max_tokens"].iter().any(|word| words.contains(word)) {
        return None;
    }
    let (_, behind) = MOST_IS.iter().find_map(|word| words.split_once(word))?;
    let most = *numbers(behind)?.first()?;
    numbers(words)?.into_iter().find(|has| *has > most).map(|has| (has, most))
}

/// The numbers in a text. One within a name does not count. `None` if one has commas, since it could be read in two ways.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let is_of_a_word = |char: char| char.is_alphanumeric() || matches!(char, '-' | '_' | '.' | ',');
    let is_number = |word: &&str| !word.is_empty() && word.chars().all(|char| char.is_ascii_digit() || char == ',');
    let words = text.split(|char| !is_of_a_word(char)).map(|word| word.trim_end_matches(['.', ',']));
    words.filter(is_number).map(|word| word.parse().ok()).collect()
}
