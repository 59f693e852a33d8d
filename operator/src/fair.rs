//! Lines of things that wait for one counter, a line for each namespace: each line has its turn, however long others are.

use std::collections::{HashMap, VecDeque};

/// What waits, by namespace.
pub(crate) struct Fair<T> {
    lines: HashMap<String, VecDeque<T>>,
    turns: VecDeque<String>,
    len: usize,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Fair<T> {
    /// Puts something at the end of a namespace's line.
    pub fn push(&mut self, namespace: &str, item: T) {
        self.len += 1;
        if let Some(line) = self.lines.get_mut(namespace) {
            line.push_back(item);
            return;
        }
        self.turns.push_back(namespace.to_owned());
        self.lines
            .insert(namespace.to_owned(), VecDeque::from([item]));
    }

    /// The first in the line whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let namespace = self.turns.pop_front()?;
        let line = self.lines.get_mut(&namespace)?;
        let item = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.len -= 1;
        item
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first of every line.
    pub fn fronts(&self) -> impl Iterator<Item = &T> {
        self.lines.values().filter_map(VecDeque::front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_many_waits_as_long_as_one_with_few() {
        let mut fair = Fair::default();
        for at in 0..100 {
            fair.push("many", at);
        }
        fair.push("few", 1_000);
        fair.push("few", 1_001);
        let first: Vec<i32> = std::iter::from_fn(|| fair.pop()).take(5).collect();
        assert_eq!(first, [0, 1_000, 1, 1_001, 2]);
        assert_eq!(fair.len(), 97);
        assert_eq!(fair.fronts().collect::<Vec<_>>(), [&3]);
        assert_eq!(std::iter::from_fn(|| fair.pop()).count(), 97);
        assert_eq!((fair.len(), fair.pop()), (0, None));
    }
}
