/// As few as this are not worth a look.
const LEAST: usize = 4_096;

/// Where something is that was forgotten.
const GONE: usize = usize::MAX;

/// When to look for what can be forgotten: whenever there is twice as much as the last look left, so that a look costs each
/// newcomer the same, however many there are.
pub(super) struct Sweep {
    due: usize,
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep { due: LEAST }
    }
}

impl Sweep {
    pub(super) fn is_due(&self, len: usize) -> bool {
        len >= self.due
    }

    /// Forgets those of `kept` that nothing points at and that are `idle`, and says where the others have gone.
    pub(super) fn run<T>(
        &mut self,
        kept: &mut Vec<T>,
        pointed_at: impl Iterator<Item = usize>,
        mut is_idle: impl FnMut(&mut T) -> bool,
    ) -> Moved {
        let mut places = vec![GONE; kept.len()];
        pointed_at.for_each(|at| places[at] = 0);
        let (mut seen, mut stay) = (places.iter_mut(), 0);
        kept.retain_mut(|one| {
            let Some(place) = seen.next() else { return true };
            let stays = *place != GONE || !is_idle(one);
            if stays {
                (*place, stay) = (stay, stay + 1);
            }
            stays
        });
        self.due = LEAST.max(kept.len().saturating_mul(2));
        kept.shrink_to(self.due);
        Moved { places, due: self.due }
    }
}

/// Where each was put.
pub(super) struct Moved {
    places: Vec<usize>,
    /// As many as there will be before the next look.
    pub(super) due: usize,
}

impl Moved {
    /// Follows one; whether it is still there.
    pub(super) fn follow(&self, at: &mut usize) -> bool {
        *at = self.places[*at];
        *at != GONE
    }
}
