/// Fewer entries than this are not worth a sweep.
const LEAST: usize = 4_096;

/// The place of an entry that was forgotten.
const GONE: usize = usize::MAX;

/// Decides when to look for entries to forget: whenever there are twice as many as the last sweep left. The cost per
/// new entry is then constant, however many there are.
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

    /// Forgets the entries of `kept` that nothing points at and that are `idle`, and returns where the others have
    /// moved.
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

/// Where each entry has moved.
pub(super) struct Moved {
    places: Vec<usize>,
    /// How many entries there are at the next sweep.
    pub(super) due: usize,
}

impl Moved {
    /// Updates a place. Returns whether its entry is still there.
    pub(super) fn follow(&self, at: &mut usize) -> bool {
        *at = self.places[*at];
        *at != GONE
    }
}
