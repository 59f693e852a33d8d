//! Server-sent events: encoding, and decoding that keeps the original bytes.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

/// What ends a stream of OpenAI's.
pub const DONE: &[u8] = b"[DONE]";

/// `content-type` of a stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// Longest event that a decoder holds back by default.
pub const DEFAULT_MAX_EVENT: usize = 1 << 20;

/// One `data:` event that holds `value` as JSON.
///
/// # Errors
/// When the value cannot be serialized.
pub fn encode<T: Serialize>(value: &T) -> serde_json::Result<Bytes> {
    let mut writer = BytesMut::with_capacity(256).writer();
    writer.get_mut().extend_from_slice(b"data: ");
    serde_json::to_writer(&mut writer, value)?;
    let mut bytes = writer.into_inner();
    bytes.extend_from_slice(b"\n\n");
    Ok(bytes.freeze())
}

/// The event that ends a stream.
pub fn encode_done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// A comment, which clients ignore; keeps idle connections open.
pub fn encode_comment(text: &'static str) -> Bytes {
    Bytes::from(format!(": {text}\n\n"))
}

/// One event with the bytes that it came in.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// All bytes, blank line included, as received.
    pub raw: Bytes,
    /// The `data` lines joined by newlines; absent when the event had none (a comment, say).
    pub data: Option<Bytes>,
    /// The `event` field.
    pub name: Option<Bytes>,
}

crate::redacted_debug!(Event);

impl Event {
    /// Whether this is the event that ends the stream.
    pub fn is_done(&self) -> bool {
        self.data
            .as_deref()
            .is_some_and(|data| data.trim_ascii() == DONE)
    }
}

/// An event grew over the decoder's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event is longer than {limit} bytes")]
pub struct EventTooLong {
    /// The bound.
    pub limit: usize,
}

/// Finds events in bytes that arrive in any pieces. Line ends may be LF, CRLF or CR.
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes of `buffer` that were looked at.
    scanned: usize,
    line_is_empty: bool,
    event_is_empty: bool,
    after_cr: bool,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_EVENT)
    }
}

impl Decoder {
    /// A decoder that holds back at most `limit` bytes of an unfinished event.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            line_is_empty: true,
            event_is_empty: true,
            after_cr: false,
            limit,
        }
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, if there is one.
    ///
    /// # Errors
    /// When an unfinished event is over the bound; [`Self::take_rest`] still gives its bytes.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLong> {
        if let Some(end) = self.find_end() {
            let raw = self.buffer.split_to(end).freeze();
            self.scanned = 0;
            return Ok(Some(parse(raw)));
        }
        if self.buffer.len() > self.limit {
            return Err(EventTooLong { limit: self.limit });
        }
        Ok(None)
    }

    /// Bytes of an unfinished event, which the decoder forgets.
    pub fn take_rest(&mut self) -> Bytes {
        self.scanned = 0;
        self.line_is_empty = true;
        self.event_is_empty = true;
        self.after_cr = false;
        self.buffer.split().freeze()
    }

    /// Whether bytes of an unfinished event are held.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn find_end(&mut self) -> Option<usize> {
        while self.scanned < self.buffer.len() {
            let rest = &self.buffer[self.scanned..];
            if self.after_cr {
                self.after_cr = false;
                if rest[0] == b'\n' {
                    self.scanned += 1;
                    continue;
                }
            }
            let Some(offset) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.line_is_empty = false;
                self.scanned = self.buffer.len();
                return None;
            };
            let end = self.scanned + offset + 1;
            let blank = self.line_is_empty && offset == 0;
            self.after_cr = rest[offset] == b'\r';
            self.scanned = end;
            self.line_is_empty = true;
            if !blank {
                self.event_is_empty = false;
            } else if !self.event_is_empty {
                self.event_is_empty = true;
                return Some(self.with_line_feed(end));
            }
        }
        None
    }

    /// Takes the LF of a CRLF that ends an event into the event when it is already here.
    fn with_line_feed(&mut self, end: usize) -> usize {
        if self.after_cr && self.buffer.get(end) == Some(&b'\n') {
            self.after_cr = false;
            return end + 1;
        }
        end
    }
}

fn parse(raw: Bytes) -> Event {
    let mut data: Option<Bytes> = None;
    let mut joined: Option<BytesMut> = None;
    let mut name = None;
    for line in raw.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => match (&data, &mut joined) {
                (None, _) => data = Some(raw.slice_ref(value)),
                (Some(_), Some(joined)) => {
                    joined.put_u8(b'\n');
                    joined.extend_from_slice(value);
                }
                (Some(first), None) => {
                    let mut bytes = BytesMut::from(&first[..]);
                    bytes.put_u8(b'\n');
                    bytes.extend_from_slice(value);
                    joined = Some(bytes);
                }
            },
            b"event" => name = Some(raw.slice_ref(value)),
            _ => {}
        }
    }
    if let Some(joined) = joined {
        data = Some(joined.freeze());
    }
    Event { raw, data, name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_in_pieces(stream: &[u8], cuts: &[usize]) -> (Vec<Event>, Vec<u8>) {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([stream.len()]) {
            decoder.push(&stream[start..end]);
            start = end;
            while let Some(event) = decoder.next_event().expect("within the bound") {
                events.push(event);
            }
        }
        (events, decoder.take_rest().to_vec())
    }

    fn data(events: &[Event]) -> Vec<Option<String>> {
        events
            .iter()
            .map(|event| {
                event
                    .data
                    .as_ref()
                    .map(|data| String::from_utf8_lossy(data).into_owned())
            })
            .collect()
    }

    #[test]
    fn an_encoded_value_decodes_to_the_same_data() {
        let bytes = encode(&serde_json::json!({"a": "line\nbreak"})).expect("encodes");
        let (events, rest) = decode_in_pieces(&bytes, &[]);
        assert_eq!(data(&events), [Some(r#"{"a":"line\nbreak"}"#.to_owned())]);
        assert!(rest.is_empty());
    }

    #[test]
    fn done_comments_names_and_several_data_lines_are_read() {
        let stream =
            b": hello\n\nevent: x\r\ndata: a\r\ndata:b\r\n\r\ndata\n\ndata: [DONE]\n\ndata: cut";
        let (events, rest) = decode_in_pieces(stream, &[]);
        assert_eq!(
            data(&events),
            [
                None,
                Some("a\nb".into()),
                Some(String::new()),
                Some("[DONE]".into())
            ]
        );
        assert_eq!(events[1].name.as_deref(), Some(&b"x"[..]));
        assert!(events[3].is_done());
        assert_eq!(rest, b"data: cut");
    }

    #[test]
    fn an_event_without_end_is_refused_at_the_bound() {
        let mut decoder = Decoder::new(16);
        decoder.push(b"data: 0123456789abcdef");
        assert_eq!(decoder.next_event(), Err(EventTooLong { limit: 16 }));
    }

    proptest! {
        #[test]
        fn cuts_anywhere_change_neither_events_nor_bytes(
            payloads in prop::collection::vec("[a-zä\u{1F600}:{}\" ]{0,12}", 1..6),
            ends in prop::collection::vec(0usize..3, 6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = Vec::new();
            for (payload, end) in payloads.iter().zip(&ends) {
                let end = ["\n", "\r\n", "\r"][*end];
                stream.extend_from_slice(format!("data: {payload}{end}{end}").as_bytes());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let (whole, rest_whole) = decode_in_pieces(&stream, &[]);
            let (pieces, rest_pieces) = decode_in_pieces(&stream, &cuts);
            prop_assert_eq!(data(&whole), data(&pieces));
            prop_assert_eq!(whole.len(), payloads.len());
            for (events, rest) in [(whole, rest_whole), (pieces, rest_pieces)] {
                let mut bytes: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
                bytes.extend(rest);
                prop_assert_eq!(&bytes, &stream);
            }
        }
    }
}
