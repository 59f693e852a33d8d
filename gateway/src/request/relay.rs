//! Passes an answer on unchanged while reading what must be known of it.

use crate::request::exchange::Output;
use crate::upstream::answer_format::AnswerFormat;
use bytes::{Bytes, BytesMut};
use weir_openai::Usage;
use weir_openai::sse::Decoder;

/// Bytes of a stream that are held at most while no content has come.
const HELD_EVENTS: usize = 64 * 1024;
/// Bytes of a document that are held, so that a break in it can still be answered properly.
const HELD_WHOLE: usize = 256 * 1024;
/// Bytes at the end of a long whole answer in which its usage is looked for.
const TAIL: usize = 8 * 1024;

/// What a piece of an answer brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Something that the client sees as an answer.
    pub(crate) content: bool,
    /// An error in place of an answer.
    pub error: bool,
}

/// Reads an answer on its way.
pub(crate) enum Relay {
    /// A stream of events.
    Events(EventRelay),
    /// One document.
    Whole(WholeRelay),
}

impl Relay {
    /// Takes received bytes and gives those to pass on.
    pub(crate) fn push(&mut self, bytes: Bytes) -> (Bytes, Seen) {
        match self {
            Self::Events(relay) => relay.push(&bytes),
            Self::Whole(relay) => (relay.push(bytes), Seen::default()),
        }
    }

    /// The upstream ended cleanly: the last bytes, and whether the answer is whole.
    pub(crate) fn end(&mut self) -> (Bytes, bool) {
        match self {
            Self::Events(relay) => relay.end(),
            Self::Whole(relay) => {
                relay.find_usage();
                (Bytes::new(), true)
            }
        }
    }

    /// Bytes that are held at most before the answer is passed on.
    pub(crate) fn max_held(&self) -> usize {
        match self {
            Self::Events(_) => HELD_EVENTS,
            Self::Whole(_) => HELD_WHOLE,
        }
    }

    /// The usage that was seen last.
    pub(crate) fn usage(&self) -> Option<&Usage> {
        match self {
            Self::Events(relay) => relay.usage.as_ref(),
            Self::Whole(relay) => relay.usage.as_ref(),
        }
    }

    /// How much was seen.
    pub(crate) fn output(&self) -> Output {
        match self {
            Self::Events(relay) => Output::Pieces(relay.pieces),
            Self::Whole(relay) => Output::Bytes(relay.length),
        }
    }
}

/// Reads a stream of events. Whole events are passed on as they came, so that a break always falls between two.
pub(crate) struct EventRelay {
    format: &'static dyn AnswerFormat,
    decoder: Decoder,
    strip_usage: bool,
    /// An event was too long to be read: bytes pass unread from then on.
    blind: bool,
    ended: bool,
    usage: Option<Usage>,
    pieces: u64,
}

impl EventRelay {
    /// `strip_usage` leaves the usage chunk out, for a client that did not ask for it.
    pub(crate) fn new(format: &'static dyn AnswerFormat, strip_usage: bool) -> Self {
        Self {
            format,
            decoder: Decoder::default(),
            strip_usage,
            blind: false,
            ended: false,
            usage: None,
            pieces: 0,
        }
    }

    fn push(&mut self, bytes: &Bytes) -> (Bytes, Seen) {
        let mut seen = Seen::default();
        if self.blind {
            return (
                bytes.clone(),
                Seen {
                    content: true,
                    error: false,
                },
            );
        }
        self.decoder.push(bytes);
        let mut first: Option<Bytes> = None;
        let mut more = BytesMut::new();
        loop {
            let event = match self.decoder.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => {
                    self.blind = true;
                    seen.content = true;
                    pass(self.decoder.take_rest(), &mut first, &mut more);
                    break;
                }
            };
            let facts = self.format.event(&event);
            seen.content |= facts.content;
            seen.error |= facts.error;
            self.ended |= facts.finished || facts.error;
            self.pieces += facts.pieces;
            self.usage = facts.usage.or(self.usage.take());
            if facts.usage_only && self.strip_usage {
                continue;
            }
            pass(event.raw, &mut first, &mut more);
        }
        match first {
            None => (Bytes::new(), seen),
            Some(first) if more.is_empty() => (first, seen),
            Some(first) => ([first, more.freeze()].concat().into(), seen),
        }
    }

    fn end(&mut self) -> (Bytes, bool) {
        // A last event without its blank line still counts.
        let rest = self.decoder.take_rest();
        if rest.is_empty() || self.blind {
            return (rest, self.ended || self.blind);
        }
        let (mut out, _) = self.push(&Bytes::from([&rest[..], b"\n\n"].concat()));
        if !self.decoder.is_empty() {
            out = [out, self.decoder.take_rest()].concat().into();
        }
        (out, self.ended)
    }
}

fn pass(raw: Bytes, first: &mut Option<Bytes>, more: &mut BytesMut) {
    match first {
        None => *first = Some(raw),
        Some(_) => more.extend_from_slice(&raw),
    }
}

/// Reads one document.
pub(crate) struct WholeRelay {
    format: &'static dyn AnswerFormat,
    tail: BytesMut,
    length: u64,
    whole: bool,
    usage: Option<Usage>,
}

impl WholeRelay {
    /// Nothing seen yet.
    pub(crate) fn new(format: &'static dyn AnswerFormat) -> Self {
        Self {
            format,
            tail: BytesMut::new(),
            length: 0,
            whole: true,
            usage: None,
        }
    }

    fn push(&mut self, bytes: Bytes) -> Bytes {
        self.length += bytes.len() as u64;
        self.tail.extend_from_slice(&bytes);
        if self.tail.len() > 2 * TAIL.max(HELD_WHOLE) {
            let cut = self.tail.len() - TAIL;
            let _ = self.tail.split_to(cut);
            self.whole = false;
        }
        bytes
    }

    fn find_usage(&mut self) {
        self.usage = if self.whole {
            self.format.usage(&self.tail)
        } else {
            self.format.usage_in_tail(&self.tail)
        };
        self.tail = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::answer_format::EngineAnswers;
    use proptest::prelude::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n",
        ": comment\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Grüße\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    );

    fn relay_in_pieces(strip: bool, cuts: &[usize]) -> (String, Relay, bool) {
        let mut relay = Relay::Events(EventRelay::new(&EngineAnswers, strip));
        let mut out = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([STREAM.len()]) {
            out.extend_from_slice(&relay.push(Bytes::from(&STREAM.as_bytes()[start..end])).0);
            start = end;
        }
        let (last, whole) = relay.end();
        out.extend_from_slice(&last);
        (String::from_utf8(out).expect("utf-8"), relay, whole)
    }

    proptest! {
        #[test]
        fn a_stream_passes_unchanged_wherever_it_is_cut(
            cuts in prop::collection::vec(0..=STREAM.len(), 0..20), strip in any::<bool>(),
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (out, relay, whole) = relay_in_pieces(strip, &cuts);
            let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\n";
            let expected = if strip { STREAM.replace(usage, "") } else { STREAM.to_owned() };
            prop_assert_eq!(out, expected);
            prop_assert!(whole);
            prop_assert_eq!(relay.usage().map(|usage| usage.completion_tokens), Some(7));
            prop_assert!(matches!(relay.output(), Output::Pieces(1)));
        }
    }

    #[test]
    fn a_stream_without_an_end_is_not_whole() {
        let mut relay = Relay::Events(EventRelay::new(&EngineAnswers, false));
        relay.push(Bytes::from_static(
            b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        ));
        assert!(!relay.end().1);
    }

    #[test]
    fn a_role_is_no_content_and_an_error_is_seen() {
        let mut relay = Relay::Events(EventRelay::new(&EngineAnswers, false));
        let role = Bytes::from_static(
            b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        );
        assert_eq!(relay.push(role).1, Seen::default());
        let error = Bytes::from_static(b"data: {\"error\":{\"message\":\"x\"}}\n\n");
        assert_eq!(
            relay.push(error).1,
            Seen {
                content: false,
                error: true
            }
        );
    }

    #[test]
    fn the_usage_of_a_long_document_is_found_at_its_end() {
        let mut relay = Relay::Whole(WholeRelay::new(&EngineAnswers));
        for _ in 0..2000 {
            relay.push(Bytes::from_static(&[b' '; 1024]));
        }
        relay.push(Bytes::from_static(b"],\"usage\": {\"prompt_tokens\": 3}}"));
        relay.end();
        assert_eq!(relay.usage().map(|usage| usage.prompt_tokens), Some(3));
    }
}
