use memchr::memmem;

/// The tokens of a document of a few pages.
pub(super) const LIKELY_DOCUMENT: u64 = 3_000;

/// Families of models that count text and images alike, known by the model's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Claude from 4.7 on: a newer tokenizer, larger images.
    Claude,
    /// Claude before 4.7.
    OlderClaude,
    /// GPT-4o mini, which counts images at thirty times the others' tokens.
    Gpt4oMini,
    /// OpenAI's other models.
    OpenAi,
    /// Not known.
    Other,
}

impl Family {
    pub(super) fn of(model: &str) -> Self {
        if let Some(at) = memmem::find(model.as_bytes(), b"claude-") {
            let version = &model[at + "claude-".len()..];
            // `claude-opus-4-7`, `claude-3-5-sonnet-20241022`: a number of one or two digits, and a second one.
            let parts = version.split(|c: char| !c.is_ascii_alphanumeric());
            let mut numbers = parts.filter_map(|part| part.parse().ok().filter(|n: &u64| *n < 100));
            // A name without a number counts as the newest.
            let Some(major) = numbers.next() else { return Family::Claude };
            return match (major, numbers.next().unwrap_or(0)) < (4, 7) {
                true => Family::OlderClaude,
                false => Family::Claude,
            };
        }
        if memmem::find(model.as_bytes(), b"gpt-4o-mini").is_some() {
            return Family::Gpt4oMini;
        }
        let name = model.strip_prefix("ft:").unwrap_or(model);
        let openai = ["gpt-", "chatgpt-", "o1", "o3", "o4", "computer-use-", "daybreak-", "chat-latest"];
        if openai.iter().any(|prefix| name.starts_with(prefix)) { Family::OpenAi } else { Family::Other }
    }

    /// The most tokens of one image, however large.
    ///
    /// Claude scales an image to 4,784 tokens, before 4.7 to 1,600
    /// (platform.claude.com/docs/en/build-with-claude/vision). GPT-4o mini counts 2,833 tokens and 5,667 for each of up
    /// to eight tiles; the others up to 10,000 patches, of which the smallest models count 2.46 tokens each
    /// (developers.openai.com/api/docs/guides/images-vision). Of what is not known, the most that any does.
    pub(super) fn image_tokens(self) -> u64 {
        match self {
            Family::Claude => 4_784,
            Family::OlderClaude => 1_600,
            Family::OpenAi => 24_600,
            Family::Gpt4oMini | Family::Other => 48_169,
        }
    }

    /// Tenths of a byte of text that make a token: 2.6 for newer Claude models (measured), 3.3 for older, 4 for others.
    pub(super) fn tenths_of_bytes(self) -> u64 {
        match self {
            Family::Claude => 26,
            Family::OlderClaude => 33,
            Family::OpenAi | Family::Gpt4oMini | Family::Other => 40,
        }
    }

    /// An image of a common size: about a megapixel.
    pub(super) fn likely_image_tokens(self) -> u64 {
        match self {
            Family::Claude | Family::OlderClaude => 1_500,
            Family::Gpt4oMini => 25_500,
            Family::OpenAi | Family::Other => 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn a_family_is_told_by_the_version() {
        for (model, family) in [
            ("claude-opus-4-7", Family::Claude),
            ("claude-opus-4-7@20260416", Family::Claude),
            ("claude-opus-4-7-20260416", Family::Claude),
            ("claude-sonnet-5", Family::Claude),
            ("claude-fable-5-1", Family::Claude),
            ("claude-mythos-preview", Family::Claude),
            ("us.anthropic.claude-opus-4-8-v1:0", Family::Claude),
            ("claude-opus-4-6", Family::OlderClaude),
            ("claude-sonnet-4-0", Family::OlderClaude),
            ("claude-sonnet-4-20250514", Family::OlderClaude),
            ("claude-3-5-sonnet-20241022", Family::OlderClaude),
            ("claude-3-opus-latest", Family::OlderClaude),
            ("gpt-4o-mini-2024-07-18", Family::Gpt4oMini),
            ("ft:gpt-4o-mini-2024-07-18", Family::Gpt4oMini),
            ("gpt-6-sol", Family::OpenAi),
            ("ft:gpt-4.1-2025-04-14", Family::OpenAi),
            ("o3", Family::OpenAi),
            ("llama-4", Family::Other),
            ("", Family::Other),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }
}
