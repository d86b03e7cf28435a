//! How hard to think, as each of Anthropic's models wants to be told.

use crate::dialect::canon::conversation::{BlockKind, Conversation, Role, ThinkingKind, ToolChoice};
use crate::dialect::canon::needs::Aim;
use crate::dialect::canon::warning::Warnings;
use crate::domain::catalog::Effort;
use crate::domain::rejection::Rejection;

/// The least budget that the API takes.
const LEAST: u64 = 1024;
/// What is left for the answer, where the client set no limit to both.
const ANSWER: u64 = 8192;

/// What goes into the request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// `thinking`, spelled.
    pub(super) thinking: Option<String>,
    /// `output_config.effort`.
    pub(super) effort: Option<Effort>,
    /// The request says so much of it that other parameters are refused.
    pub(super) by_budget: bool,
    /// The least `max_tokens` that has room for it.
    pub(super) wants: Option<u64>,
}

impl Plan {
    /// `max_tokens` is the most that the answer can have; `asked`, whether the client set it.
    pub(super) fn of(
        conversation: &Conversation<'_>,
        aim: &Aim<'_>,
        max_tokens: Option<u64>,
        warnings: &mut Warnings,
    ) -> Result<Plan, Rejection> {
        let abilities = &aim.abilities;
        let plan = match (&conversation.thinking, conversation.effort) {
            // Who speaks Anthropic's own words is taken by them.
            (Some(thinking), effort) => Plan {
                thinking: Some(thinking.raw.as_str().to_owned()),
                effort,
                by_budget: matches!(thinking.kind, ThinkingKind::Enabled { .. }),
                wants: None,
            },
            (None, None) => Plan::default(),
            (None, Some(Effort::None)) => {
                let (disabled, between) = (abilities.thinking.disabled, abilities.thinking.between_tools);
                match (disabled, between) {
                    _ if !abilities.thinking.adaptive => Plan::default(),
                    (true, _) => Plan::thinking(r#"{"type":"disabled"}"#, None),
                    (_, true) => Plan::thinking(r#"{"type":"between_tools"}"#, None),
                    _ => {
                        warnings.adapted("reasoning_effort:none>low")?;
                        Plan { effort: abilities.efforts.nearest(Effort::Low), ..Plan::default() }
                    }
                }
            }
            (None, Some(effort)) if abilities.thinking.adaptive => {
                let nearest = abilities.efforts.nearest(effort.max(Effort::Low));
                if nearest != Some(effort) {
                    let taken = nearest.map_or("none", Effort::name);
                    warnings.adapted(format!("reasoning_effort:{}>{taken}", effort.name()))?;
                }
                // Newer models show no thinking unless they are asked to.
                Plan::thinking(r#"{"type":"adaptive","display":"summarized"}"#, nearest)
            }
            (None, Some(effort)) => Plan::budget(effort, max_tokens, warnings)?,
        };
        plan.kept(conversation, aim, warnings)
    }

    fn thinking(spelled: &str, effort: Option<Effort>) -> Plan {
        Plan { thinking: Some(spelled.to_owned()), effort, ..Plan::default() }
    }

    /// For models that are told in tokens.
    fn budget(effort: Effort, max_tokens: Option<u64>, warnings: &mut Warnings) -> Result<Plan, Rejection> {
        let wanted = match effort {
            Effort::None | Effort::Minimal => LEAST,
            Effort::Low => 2048,
            Effort::Medium => 8192,
            Effort::High => 16_384,
            Effort::XHigh => 24_576,
            _ => 31_999,
        };
        let budget = match max_tokens {
            // No room for thinking and an answer.
            Some(most) if most <= LEAST => {
                warnings.dropped("reasoning_effort")?;
                return Ok(Plan::default());
            }
            Some(most) if most <= wanted => {
                warnings.adapted(format!("reasoning_effort:budget>{}", most - 1))?;
                most - 1
            }
            _ => wanted,
        };
        Ok(Plan {
            thinking: Some(format!(r#"{{"type":"enabled","budget_tokens":{budget}}}"#)),
            effort: None,
            by_budget: true,
            wants: max_tokens.is_none().then_some(budget + ANSWER),
        })
    }

    /// Without thinking, where the API would refuse it: with a tool that must be called (manual thinking only), and behind a
    /// call whose thinking the client has lost.
    fn kept(self, conversation: &Conversation<'_>, aim: &Aim<'_>, warnings: &mut Warnings) -> Result<Plan, Rejection> {
        let forced = matches!(conversation.choice, Some(ToolChoice::Any | ToolChoice::Named(_)));
        if self.by_budget && (forced || (!aim.abilities.thinking.adaptive && lost_thinking(conversation))) {
            warnings.dropped("thinking")?;
            return Ok(Plan { effort: self.effort, ..Plan::default() });
        }
        Ok(self)
    }
}

/// Whether the last thing that the assistant did is a call without the thinking that led to it.
fn lost_thinking(conversation: &Conversation<'_>) -> bool {
    let last = conversation.turns.iter().rev().find(|turn| turn.role == Role::Assistant);
    let is_answered = conversation.turns.last().is_some_and(|turn| {
        turn.role == Role::User && turn.blocks.iter().any(|b| matches!(b.kind, BlockKind::ToolResult { .. }))
    });
    let calls = |kind: &BlockKind<'_>| matches!(kind, BlockKind::ToolUse { .. });
    let thinks = |kind: &BlockKind<'_>| matches!(kind, BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. });
    is_answered
        && last.is_some_and(|turn| {
            turn.blocks.iter().any(|block| calls(&block.kind))
                && !turn.blocks.first().is_some_and(|block| thinks(&block.kind))
        })
}
