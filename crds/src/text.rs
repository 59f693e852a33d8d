//! Text of a bounded length, as statuses hold it.

/// Most characters that a string of a status has where its field says nothing else.
pub const MOST: usize = 1_024;

/// The text, its end cut off where it is longer than [`MOST`] bytes.
pub fn bounded(text: impl Into<String>) -> String {
    bounded_to(MOST, text)
}

/// The text, its end cut off where it is longer than so many bytes, which are never fewer than its characters.
pub fn bounded_to(most: usize, text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > most {
        let mark = "…";
        let end = most.saturating_sub(mark.len());
        let end = (0..=end).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(mark);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_fits_is_left_alone() {
        assert_eq!(bounded("ü".repeat(MOST / 2)), "ü".repeat(MOST / 2));
    }

    proptest! {
        #[test]
        fn a_long_text_is_cut_at_a_character_and_says_so(text in "[aü€😀]{0,40}", most in 3usize..60) {
            let cut = bounded_to(most, text.clone());
            prop_assert!(cut.len() <= most);
            if text.len() > most {
                prop_assert!(text.starts_with(cut.strip_suffix('…').expect("says that it was cut")));
            } else {
                prop_assert_eq!(cut, text);
            }
        }
    }
}
