//! Changes to a request's JSON by byte range: everything that is not changed stays byte for byte.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;

/// The request is not a JSON object of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not JSON, not an object, or a field came twice.
    #[error("the body is not a JSON object, or names a field twice")]
    NotAnObject,
    /// `model` is not a string.
    #[error("`model` must be a string")]
    ModelNotAString,
    /// `stream` is not a boolean.
    #[error("`stream` must be true or false")]
    StreamNotABool,
    /// `stream_options` is not an object.
    #[error("`stream_options` must be an object")]
    StreamOptionsNotAnObject,
}

/// The parts of a request that a proxy acts on, with the places where they stand.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// `model`.
    pub model: Option<String>,
    /// `stream`; absent and null are false.
    pub stream: bool,
    /// Whether the client asked for a usage chunk.
    pub wants_usage: bool,
    /// How many answers are asked for at most in tokens, where the request says it.
    pub token_limit: Option<u64>,
    model_at: Option<Range<usize>>,
    options_at: Option<Range<usize>>,
    include_usage_at: Option<Range<usize>>,
    options_empty: bool,
    open_at: usize,
    object_empty: bool,
}

impl std::fmt::Debug for RequestHead {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RequestHead")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "keep")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "keep")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "keep")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "keep")]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "keep")]
    max_completion_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Options<'a> {
    #[serde(borrow, default, deserialize_with = "keep")]
    include_usage: Option<&'a RawValue>,
}

/// Keeps `null` as a value with a place; an `Option` would drop it.
fn keep<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// Reads the head of a request body.
///
/// # Errors
/// When the body is no JSON object, names one of these fields twice, or has one of the wrong type.
pub fn head(body: &[u8]) -> Result<RequestHead, HeadError> {
    let open_at = body
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .ok_or(HeadError::NotAnObject)?;
    if body[open_at] != b'{' {
        return Err(HeadError::NotAnObject);
    }
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(|_| HeadError::NotAnObject)?;
    let model = present(fields.model);
    let options = present(fields.stream_options);
    let parsed: Option<Options<'_>> = options
        .map(|raw| match raw.get().as_bytes().first() {
            Some(b'{') => {
                serde_json::from_str(raw.get()).map_err(|_| HeadError::StreamOptionsNotAnObject)
            }
            _ => Err(HeadError::StreamOptionsNotAnObject),
        })
        .transpose()?;
    let include_usage = parsed.as_ref().and_then(|options| options.include_usage);
    let stream = match present(fields.stream).map(RawValue::get) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(HeadError::StreamNotABool),
    };
    Ok(RequestHead {
        model: model
            .map(|raw| {
                serde_json::from_str::<String>(raw.get()).map_err(|_| HeadError::ModelNotAString)
            })
            .transpose()?,
        stream,
        wants_usage: include_usage.is_some_and(|raw| raw.get() == "true"),
        token_limit: present(fields.max_completion_tokens)
            .or(present(fields.max_tokens))
            .and_then(|raw| raw.get().parse().ok()),
        model_at: model.map(|raw| range_in(body, raw)),
        options_at: fields.stream_options.map(|raw| range_in(body, raw)),
        include_usage_at: include_usage.map(|raw| range_in(body, raw)),
        options_empty: options.is_none_or(|raw| is_empty_object(raw.get().as_bytes())),
        open_at,
        object_empty: is_empty_object(&body[open_at..]),
    })
}

/// The request for another model name and, if it streams, with the usage chunk asked for.
pub fn rewrite(body: &Bytes, head: &RequestHead, model: Option<&str>, ask_usage: bool) -> Bytes {
    let mut edits: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    if let (Some(model), Some(at)) = (model, &head.model_at)
        && head.model.as_deref() != Some(model)
    {
        edits.push((at.clone(), serde_json::to_vec(model).unwrap_or_default()));
    }
    if ask_usage && head.stream && !head.wants_usage {
        edits.push(usage_edit(head));
    }
    if edits.is_empty() {
        return body.clone();
    }
    edits.sort_by_key(|(range, _)| range.start);
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = BytesMut::with_capacity(body.len() + added);
    let mut from = 0;
    for (range, text) in edits {
        out.extend_from_slice(&body[from..range.start]);
        out.extend_from_slice(&text);
        from = range.end;
    }
    out.extend_from_slice(&body[from..]);
    out.freeze()
}

fn usage_edit(head: &RequestHead) -> (Range<usize>, Vec<u8>) {
    if let Some(at) = &head.include_usage_at {
        return (at.clone(), b"true".to_vec());
    }
    if let Some(at) = &head.options_at {
        if head.options_empty {
            return (at.clone(), br#"{"include_usage":true}"#.to_vec());
        }
        return (
            at.start + 1..at.start + 1,
            br#""include_usage":true,"#.to_vec(),
        );
    }
    let comma = if head.object_empty { "" } else { "," };
    let after_brace = head.open_at + 1;
    (
        after_brace..after_brace,
        format!(r#""stream_options":{{"include_usage":true}}{comma}"#).into_bytes(),
    )
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn range_in(body: &[u8], raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

fn is_empty_object(json: &[u8]) -> bool {
    json.strip_prefix(b"{")
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn rewritten(body: &str, model: Option<&str>) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let head = head(&body).expect("a request");
        String::from_utf8(rewrite(&body, &head, model, true).to_vec()).expect("utf-8")
    }

    #[test]
    fn only_the_model_changes() {
        let body = r#" { "x": 1.0e5, "model" : "a" , "seed": 12345678901234567890, "m": {"model": "keep"} }"#;
        assert_eq!(
            rewritten(body, Some("b\"c")),
            body.replacen(r#""a""#, r#""b\"c""#, 1)
        );
        assert_eq!(rewritten(body, Some("a")), body);
        assert_eq!(rewritten(body, None), body);
    }

    #[rstest]
    #[case::absent(
        r#"{"stream":true}"#,
        r#"{"stream_options":{"include_usage":true},"stream":true}"#
    )]
    #[case::null(
        r#"{"stream":true,"stream_options":null}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#
    )]
    #[case::empty(
        r#"{"stream":true,"stream_options":{ }}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#
    )]
    #[case::others(
        r#"{"stream":true,"stream_options":{"a":1}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true,"a":1}}"#
    )]
    #[case::refused(
        r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#
    )]
    #[case::null_inside(
        r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#
    )]
    #[case::asked(
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#
    )]
    #[case::no_stream(r#"{"stream":false}"#, r#"{"stream":false}"#)]
    #[case::nothing("{}", "{}")]
    fn a_stream_is_asked_for_its_usage(#[case] body: &str, #[case] expected: &str) {
        assert_eq!(rewritten(body, None), expected);
    }

    #[rstest]
    #[case("", HeadError::NotAnObject)]
    #[case("[]", HeadError::NotAnObject)]
    #[case(r#"{"model":"a","model":"b"}"#, HeadError::NotAnObject)]
    #[case(r#"{"model":"a"} x"#, HeadError::NotAnObject)]
    #[case(r#"{"model":1}"#, HeadError::ModelNotAString)]
    #[case(r#"{"stream":"yes"}"#, HeadError::StreamNotABool)]
    #[case(r#"{"stream_options":[]}"#, HeadError::StreamOptionsNotAnObject)]
    fn a_request_of_the_wrong_form_is_refused(#[case] body: &str, #[case] expected: HeadError) {
        assert_eq!(head(body.as_bytes()), Err(expected));
    }

    #[test]
    fn an_escaped_name_is_the_same_field() {
        let read = head(br#"{"mod\u0065l":"a","stream":null}"#).expect("a request");
        assert_eq!((read.model.as_deref(), read.stream), (Some("a"), false));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\ä{}:,]{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_rewrite_changes_model_and_usage_and_nothing_else(
            before in prop::collection::btree_map("[a-f]{1,4}", json_value(), 0..4),
            after in prop::collection::btree_map("[g-k]{1,4}", json_value(), 0..4),
            model in "[a-z\"\\\\ä]{0,8}",
            new_model in "[a-z\"\\\\ä]{0,8}",
            options in prop::option::of(prop::collection::btree_map("[a-z]{1,4}", any::<i32>(), 0..3)),
        ) {
            let mut object = serde_json::Map::new();
            object.extend(before);
            object.insert("model".into(), model.into());
            object.insert("stream".into(), true.into());
            if let Some(options) = &options {
                object.insert("stream_options".into(), json!(options));
            }
            object.extend(after);
            let mut expected = object.clone();
            expected.insert("model".into(), new_model.clone().into());
            let mut wanted = options.map(|options| json!(options)).unwrap_or(json!({}));
            wanted["include_usage"] = true.into();
            expected.insert("stream_options".into(), wanted);
            let text = rewritten(&Value::Object(object).to_string(), Some(&new_model));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("still JSON"), Value::Object(expected));
        }
    }
}
