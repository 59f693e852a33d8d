//! The keys that open a workload: the present one, and those before it for a while.

use subtle::ConstantTimeEq;

/// SHA-256 of a client key.
pub type KeyHash = [u8; 32];

/// The keys that open a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The present one.
    pub(crate) current: Option<KeyHash>,
    /// Those before it, each with the moment at which it opens nothing any more, in Unix seconds.
    pub(crate) former: Vec<(KeyHash, i64)>,
}

impl Keys {
    /// One key that is valid for good.
    pub fn only(key: KeyHash) -> Self {
        Self {
            current: Some(key),
            former: Vec::new(),
        }
    }

    /// Every key, those whose time is over among them.
    pub fn all(&self) -> impl Iterator<Item = KeyHash> {
        let former = self.former.iter().map(|(key, _)| *key);
        self.current.into_iter().chain(former)
    }

    /// Whether a key opens the workload at this moment, in Unix seconds. What is compared does not show in the time.
    pub fn accepts(&self, key: &KeyHash, now: i64) -> bool {
        let current = self.current.iter().map(|held| (held, true));
        let former = self.former.iter().map(|(held, until)| (held, now < *until));
        current
            .chain(former)
            .fold(false, |accepted, (held, valid)| {
                accepted | (bool::from(held.ct_eq(key)) & valid)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_key_opens_until_its_time_is_over_and_the_present_one_always() {
        let keys = Keys {
            current: Some([2; 32]),
            former: vec![([1; 32], 100)],
        };
        assert!(keys.accepts(&[1; 32], 99) && keys.accepts(&[2; 32], 99));
        assert!(!keys.accepts(&[1; 32], 100) && keys.accepts(&[2; 32], 100));
        assert!(!keys.accepts(&[3; 32], 99));
        assert!(!Keys::default().accepts(&[0; 32], 0));
    }
}
