use super::walk::initial;
use super::{Names, Path};

/// What [`survey`](super::survey) looks for; made once, when compiling.
#[derive(Debug)]
pub struct Plan<const N: usize, const M: usize> {
    pub(super) paths: [Path; N],
    pub(super) more: [Path; M],
    pub(super) names: Names,
    /// Which paths begin with a letter: a bit for each of `paths` and then of `more`.
    pub(super) initials: [u64; 32],
    /// Which paths begin with a name of a length, counted up to 32 and over again.
    pub(super) lengths: [u64; 32],
    /// The paths that are not the empty one.
    pub(super) inward: u64,
    /// The paths for which it does not matter how another parser reads them.
    pub(super) lax: u64,
}

impl<const N: usize, const M: usize> Plan<N, M> {
    /// Finds `paths`, reports `more`, and looks for `names`. More than 64 paths do not compile.
    #[must_use]
    pub const fn new(paths: [Path; N], more: [Path; M], names: Names) -> Self {
        const { assert!(N + M <= u64::BITS as usize, "at most 64 paths") };

        let (mut initials, mut lengths, mut inward, mut bit) = ([0; 32], [0; 32], 0, 0);
        while bit < N + M {
            let path = if bit < N { paths[bit] } else { more[bit - N] };
            if let [name, ..] = path {
                initials[initial(name) as usize] |= 1 << bit;
                lengths[name.len() % 32] |= 1 << bit;
                inward |= 1 << bit;
            }
            bit += 1;
        }
        Plan { paths, more, names, initials, lengths, inward, lax: 0 }
    }

    /// Makes the last `last` paths of `more` lax: a duplicate key is reported each time, and a key in another spelling
    /// does not count. Nothing may be decided by these paths.
    #[must_use]
    pub const fn lax(mut self, last: usize) -> Self {
        let mut bit = N + M.saturating_sub(last);
        while bit < N + M {
            self.lax |= 1 << bit;
            bit += 1;
        }
        self
    }
}
