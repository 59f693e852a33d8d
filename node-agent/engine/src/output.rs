//! The text of an answer as it grows: whole characters only, cut at stop sequences.

use crate::tok::TextStream;

/// What a token added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Text that is final.
    pub text: String,
    /// Whether a stop sequence ended the answer; it and what follows are left out.
    pub stopped: bool,
}

/// Text of one answer.
#[derive(Debug, Default)]
pub struct OutputText {
    stream: TextStream,
    held: String,
    stops: Vec<String>,
}

impl OutputText {
    /// An answer that ends at the first of these sequences (empty ones are ignored).
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|s| !s.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// Adds a token's bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Piece {
        let text = self.stream.push(bytes);
        self.add(&text)
    }

    fn add(&mut self, text: &str) -> Piece {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|s| self.held.find(s)).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return Piece {
                text: std::mem::take(&mut self.held),
                stopped: true,
            };
        }
        let keep = self.held.len() - self.may_become_stop();
        let rest = self.held.split_off(keep);
        Piece {
            text: std::mem::replace(&mut self.held, rest),
            stopped: false,
        }
    }

    /// Bytes at the end that are the beginning of a stop sequence.
    fn may_become_stop(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        (from..self.held.len())
            .filter(|at| self.held.is_char_boundary(*at))
            .find(|at| {
                let tail = &self.held[*at..];
                self.stops.iter().any(|stop| stop.starts_with(tail))
            })
            .map_or(0, |at| self.held.len() - at)
    }

    /// What was held back, when the answer ends for another reason.
    pub fn finish(&mut self) -> String {
        let text = self.stream.finish();
        let piece = self.add(&text);
        let mut all = piece.text;
        if !piece.stopped {
            all.push_str(&std::mem::take(&mut self.held));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut output = OutputText::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut texts = Vec::new();
        for piece in pieces {
            let piece = output.push(piece.as_bytes());
            texts.push(piece.text);
            if piece.stopped {
                return (texts, true);
            }
        }
        texts.push(output.finish());
        (texts, false)
    }

    #[test]
    fn a_stop_sequence_over_several_tokens_is_never_shown() {
        let (texts, stopped) = run(&["\n\n"], &["one\n", "\ntwo"]);
        assert_eq!((texts.concat(), stopped), ("one".to_owned(), true));
    }

    #[test]
    fn what_only_looked_like_a_stop_comes_later() {
        let (texts, stopped) = run(&["</end>"], &["a</e", "m>"]);
        assert_eq!(texts, ["a", "</em>", ""]);
        assert!(!stopped);
    }

    #[test]
    fn the_earliest_stop_counts() {
        let (texts, _) = run(&["d", "b"], &["abcd"]);
        assert_eq!(texts.concat(), "a");
    }

    proptest! {
        #[test]
        fn cutting_pieces_differently_changes_nothing(
            text in "[ab\u{e9}]{0,30}",
            stops in prop::collection::vec("[ab\u{e9}]{1,4}", 0..3),
            cuts in prop::collection::vec(1usize..4, 0..30),
        ) {
            let mut output = OutputText::new(stops.clone());
            let mut got = String::new();
            let mut rest = text.as_bytes();
            let mut stopped = false;
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() && !stopped {
                let (piece, after) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                let piece = output.push(piece);
                got.push_str(&piece.text);
                stopped = piece.stopped;
                rest = after;
            }
            if !stopped {
                got.push_str(&output.finish());
            }
            let cut = stops.iter().filter_map(|s| text.find(s)).min();
            // A shorter stop that ends earlier can win over a longer one that begins earlier.
            let longest = cut.map_or(text.len(), |at| at + 4).min(text.len());
            prop_assert!(text.starts_with(&got) && got.len() <= longest);
            prop_assert_eq!(stopped, cut.is_some());
        }
    }
}
