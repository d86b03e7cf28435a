//! How much to think, in the form that each of Anthropic's models accepts.

use crate::dialect::canon::conversation::{BlockKind, Conversation, Role, Thinking, ThinkingKind, ToolChoice};
use crate::dialect::canon::needs::Aim;
use crate::dialect::canon::warning::Warnings;
use crate::domain::catalog::{Effort, Efforts};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out, Raw};

/// The smallest budget that the API accepts.
const LEAST: u64 = 1024;
/// The tokens for the answer, if the client set no limit for both.
const ANSWER: u64 = 8192;

/// The resulting members of the request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// `thinking`, spelled.
    pub(super) thinking: Option<String>,
    /// `output_config.effort`.
    pub(super) effort: Option<Effort>,
    /// Thinking has a token budget, and no tool may be forced.
    pub(super) by_budget: bool,
    /// The model thinks, and accepts no sampling parameters.
    pub(super) is_on: bool,
    /// The smallest `max_tokens` that leaves room for it.
    pub(super) wants: Option<u64>,
}

/// The limits on the length of the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The limit that was set.
    pub(super) asked: Option<u64>,
    /// The most that there is.
    pub(super) most: u64,
}

impl Plan {
    pub(super) fn of(
        conversation: &Conversation<'_>,
        aim: &Aim<'_>,
        room: Room,
        warnings: &mut Warnings,
    ) -> Result<Plan, Rejection> {
        let abilities = &aim.abilities;
        let plan = match (&conversation.thinking, conversation.effort) {
            // A client that uses Anthropic's own members gets what it asked for.
            (Some(thinking), effort) => {
                let said = Plan::said(thinking, room, warnings)?;
                let kind = if said.is_on { thinking.kind } else { ThinkingKind::Disabled };
                Plan { effort: effort_beside(kind, effort, abilities.efforts, warnings)?, ..said }
            }
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
                // Newer models show their thinking only if asked.
                let plan = Plan::thinking(r#"{"type":"adaptive","display":"summarized"}"#, nearest);
                Plan { is_on: true, ..plan }
            }
            // A model with token budgets may accept effort levels too; they do not make it think.
            (None, effort) if conversation.is_own_effort && abilities.efforts != Efforts::default() => {
                let effort = effort_beside(ThinkingKind::Disabled, effort, abilities.efforts, warnings)?;
                Plan { effort, ..Plan::default() }
            }
            (None, Some(effort)) => Plan::budget(effort, room, warnings)?,
        };
        plan.kept(conversation, aim, warnings)
    }

    fn thinking(spelled: &str, effort: Option<Effort>) -> Plan {
        Plan { thinking: Some(spelled.to_owned()), effort, ..Plan::default() }
    }

    /// Keeps the client's setting, except for a budget that leaves no room for an answer.
    fn said(thinking: &Thinking<'_>, room: Room, warnings: &mut Warnings) -> Result<Plan, Rejection> {
        let said = Plan {
            thinking: Some(thinking.raw.as_str().to_owned()),
            is_on: thinking.kind != ThinkingKind::Disabled,
            ..Plan::default()
        };
        let ThinkingKind::Enabled { budget } = thinking.kind else { return Ok(said) };
        let Some(fits) = room.for_budget(budget) else {
            warnings.dropped("thinking")?;
            return Ok(Plan::default());
        };
        let spelled = match fits == budget {
            true => said.thinking,
            false => {
                warnings.adapted(format!("thinking.budget_tokens:{budget}>{fits}"))?;
                Some(with_budget(thinking.raw, fits))
            }
        };
        Ok(Plan { thinking: spelled, by_budget: true, wants: room.wants(fits), ..said })
    }

    /// For models with token budgets.
    fn budget(effort: Effort, room: Room, warnings: &mut Warnings) -> Result<Plan, Rejection> {
        let wanted = match effort {
            Effort::None | Effort::Minimal => LEAST,
            Effort::Low => 2048,
            Effort::Medium => 8192,
            Effort::High => 16_384,
            Effort::XHigh => 24_576,
            _ => 31_999,
        };
        let Some(budget) = room.for_budget(wanted) else {
            warnings.dropped("reasoning_effort")?;
            return Ok(Plan::default());
        };
        if budget != wanted {
            warnings.adapted(format!("reasoning_effort:budget>{budget}"))?;
        }
        Ok(Plan {
            thinking: Some(format!(r#"{{"type":"enabled","budget_tokens":{budget}}}"#)),
            effort: None,
            by_budget: true,
            is_on: true,
            wants: room.wants(budget),
        })
    }

    /// Removes thinking if the API would refuse it: with a forced tool, unless the model thinks adaptively and may; and
    /// after a turn whose thinking the client has lost.
    fn kept(self, conversation: &Conversation<'_>, aim: &Aim<'_>, warnings: &mut Warnings) -> Result<Plan, Rejection> {
        let forced = matches!(conversation.choice, Some(ToolChoice::Any | ToolChoice::Named(_)));
        let modes = aim.abilities.thinking;
        let forbids = self.is_on && forced && (self.by_budget || !modes.forced);
        if forbids || (self.by_budget && !modes.adaptive && lost_thinking(conversation)) {
            warnings.dropped("thinking")?;
            let effort = effort_beside(ThinkingKind::Disabled, self.effort, aim.abilities.efforts, warnings)?;
            return Ok(Plan { effort, ..Plan::default() });
        }
        Ok(self)
    }
}

impl Room {
    /// As much of a budget as stays below the limit. `None` if there is no room for thinking and an answer.
    fn for_budget(self, wanted: u64) -> Option<u64> {
        let limit = self.asked.unwrap_or(self.most);
        if limit <= LEAST { None } else { Some(wanted.min(limit - 1)) }
    }

    /// The length to allow for the answer, if there is no limit.
    fn wants(self, budget: u64) -> Option<u64> {
        if self.asked.is_none() { Some(budget.saturating_add(ANSWER)) } else { None }
    }
}

/// The effort beside Anthropic's own `thinking` member, which decides whether there is any thinking.
fn effort_beside(
    kind: ThinkingKind,
    effort: Option<Effort>,
    efforts: Efforts,
    warnings: &mut Warnings,
) -> Result<Option<Effort>, Rejection> {
    let Some(asked) = effort else { return Ok(None) };
    // Without thinking, or with thinking only between tools, the highest levels are refused.
    let is_little = matches!(kind, ThinkingKind::Disabled | ThinkingKind::BetweenTools);
    let most = if is_little { Effort::High } else { Effort::Max };
    let taken = if asked == Effort::None { None } else { efforts.nearest(asked.clamp(Effort::Low, most)) };
    match taken {
        None => warnings.dropped("reasoning_effort")?,
        Some(taken) if taken != asked => {
            warnings.adapted(format!("reasoning_effort:{}>{}", asked.name(), taken.name()))?;
        }
        Some(_) => {}
    }
    Ok(taken)
}

/// The same with another budget.
fn with_budget(thinking: Raw<'_>, budget: u64) -> String {
    let mut out = Out::default();
    out.open('{');
    for (key, value) in thinking.members() {
        out.key(Escaped::new(&key).as_str());
        match &*key {
            "budget_tokens" => _ = out.number(budget),
            _ => _ = out.raw(value.as_str()),
        }
    }
    out.close('}');
    out.finish()
}

/// Whether the assistant's last turn is a call, or the beginning of the answer, without the thinking that led to it.
fn lost_thinking(conversation: &Conversation<'_>) -> bool {
    let goes_on = conversation.turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    let last = conversation.turns.iter().rev().find(|turn| turn.role == Role::Assistant);
    let is_answered = conversation.turns.last().is_some_and(|turn| {
        turn.role == Role::User && turn.blocks.iter().any(|b| matches!(b.kind, BlockKind::ToolResult { .. }))
    });
    let calls = |kind: &BlockKind<'_>| matches!(kind, BlockKind::ToolUse { .. });
    let thinks = |kind: &BlockKind<'_>| matches!(kind, BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. });
    last.is_some_and(|turn| {
        (goes_on || (is_answered && turn.blocks.iter().any(|block| calls(&block.kind))))
            && !turn.blocks.first().is_some_and(|block| thinks(&block.kind))
    })
}
