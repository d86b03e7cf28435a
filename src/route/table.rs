use std::collections::HashMap;
use std::sync::Arc;

use super::Route;
use crate::call::Call;
use crate::dialect::head::Head;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::Rejection;
use crate::domain::target::Target;

/// A [`Route`] by model name. It tries aliases first, then patterns in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct ModelTable {
    patterns: Vec<Pattern>,
    aliases: HashMap<Arc<str>, Vec<Arc<str>>>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Without the `*`.
    start: Arc<str>,
    is_prefix: bool,
    upstream: Arc<str>,
    dialect: Dialect,
}

impl ModelTable {
    /// Creates a table that serves nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends models that match to `upstream`. A pattern is a name, or a prefix followed by `*`.
    #[must_use]
    pub fn pattern(mut self, pattern: &str, upstream: impl Into<Arc<str>>, dialect: Dialect) -> Self {
        let (start, is_prefix) = pattern.strip_suffix('*').map_or((pattern, false), |start| (start, true));
        self.patterns.push(Pattern { start: start.into(), is_prefix, upstream: upstream.into(), dialect });
        self
    }

    /// Makes `name` an alias for these models, tried in this order. The next model is tried if the previous one could
    /// not be reached, or cannot be asked for this request.
    ///
    /// Aliases are not resolved again: an alias that names another alias treats it as a model name.
    #[must_use]
    pub fn alias<M: Into<Arc<str>>>(mut self, name: impl Into<Arc<str>>, models: impl IntoIterator<Item = M>) -> Self {
        self.aliases.insert(name.into(), models.into_iter().map(Into::into).collect());
        self
    }

    /// Moves `*` after all other patterns.
    pub(crate) fn catch_alls_last(mut self) -> Self {
        self.patterns.sort_by_key(|p| p.is_prefix && p.start.is_empty());
        self
    }

    /// The first mistake in the table: a pattern or alias that can never be used.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.patterns.is_empty() {
            return Some("no upstream is configured".to_owned());
        }
        let covers = |one: &Pattern, other: &Pattern| match one.is_prefix {
            true => other.start.starts_with(&*one.start),
            false => !other.is_prefix && other.start == one.start,
        };
        let is_covered = |(at, one): &(usize, &Pattern)| self.patterns[..*at].iter().any(|before| covers(before, one));
        if let Some((_, pattern)) = self.patterns.iter().enumerate().find(is_covered) {
            return Some(format!(
                "upstream `{}` is never used: an earlier pattern matches all of its models",
                pattern.upstream
            ));
        }
        // One missing model among several is a mistake too: its turn would never come.
        let wrong = |(name, models): (&Arc<str>, &Vec<Arc<str>>)| match models.iter().find(|m| self.target(m).is_none())
        {
            Some(model) => Some(format!("the alias `{name}` stands for `{model}`, which no upstream serves")),
            None => models.is_empty().then(|| format!("the alias `{name}` has no models")),
        };
        self.aliases.iter().filter_map(wrong).min()
    }

    fn target(&self, model: &Arc<str>) -> Option<Arc<Target>> {
        let pattern = self.patterns.iter().find(|p| match p.is_prefix {
            true => model.starts_with(&*p.start),
            false => *model == p.start,
        })?;
        Some(Arc::new(Target::new(pattern.upstream.clone(), pattern.dialect, model.clone())))
    }
}

impl Route for ModelTable {
    fn route(&self, call: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        let model = call.model().unwrap_or(head.shared_model());
        Ok(match self.aliases.get(model) {
            Some(models) => models.iter().filter_map(|model| self.target(model)).collect(),
            None => self.target(model).into_iter().collect(),
        })
    }

    /// The aliases of which at least one model is served, sorted by name.
    fn aliases(&self) -> Vec<(Arc<str>, Dialect)> {
        let served = |models: &[Arc<str>]| models.iter().find_map(|model| Some(self.target(model)?.dialect));
        let mut aliases: Vec<_> =
            self.aliases.iter().filter_map(|(name, models)| Some((name.clone(), served(models)?))).collect();
        aliases.sort_by(|(one, _), (other, _)| one.cmp(other));
        aliases
    }
}
