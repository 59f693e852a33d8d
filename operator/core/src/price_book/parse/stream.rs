//! Documents are read as they stream by: each row is handed on and dropped, so that a document takes no more memory than
//! what is made of its rows, whatever is in it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use weir_crds::text;

use super::ParseError;

/// Longest text in a row that is kept whole; no price and no name is longer.
const MAX_TEXT: usize = 300;
/// Most fields of an object, and items of a list, that are looked at in a row.
const MAX_ITEMS: usize = 128;
/// How deep rows are looked into.
const MAX_DEPTH: usize = 6;

/// What takes rows: the name, which is empty for the rows of a list, and the row.
pub(super) type Take<'a> = dyn FnMut(&str, Value) -> Result<(), ParseError> + 'a;

/// An object whose fields are rows, or a list of rows in one field of it.
pub(super) struct Rows<'a, 'b> {
    /// The field with the list; `None`: the object's own fields are the rows.
    pub(super) list: Option<&'static str>,
    pub(super) take: &'a mut Take<'b>,
    /// Why no more rows are taken.
    pub(super) failure: &'a mut Option<ParseError>,
}

impl Rows<'_, '_> {
    fn hand_on<E: Error>(&mut self, name: &str, row: Value) -> Result<(), E> {
        (self.take)(name, row).map_err(|failure| {
            let said = E::custom(&failure);
            *self.failure = Some(failure);
            said
        })
    }
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list {
            Some(field) => write!(f, "an object with a list {field:?}"),
            None => f.write_str("an object with a row for each model"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(name) = map.next_key::<String>()? {
            match self.list {
                None => {
                    let row = map.next_value_seed(Small(MAX_DEPTH))?;
                    self.hand_on(&name, row)?;
                }
                Some(field) if field == name => {
                    found = true;
                    map.next_value_seed(List(&mut self))?;
                }
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match self.list {
            Some(field) if !found => Err(A::Error::missing_field(field)),
            _ => Ok(()),
        }
    }
}

/// The list of rows.
struct List<'a, 'b, 'c>(&'a mut Rows<'b, 'c>);

impl<'de> DeserializeSeed<'de> for List<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(row) = list.next_element_seed(Small(MAX_DEPTH))? {
            self.0.hand_on("", row)?;
        }
        Ok(())
    }
}

/// A value of a row, without what is too long, too many or too deep to be part of a price.
struct Small(usize);

impl<'de> DeserializeSeed<'de> for Small {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.0 {
            0 => deserializer
                .deserialize_ignored_any(IgnoredAny)
                .map(|_| Value::Null),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Small {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // What JSON has no number for stays readable in a reason.
        let number = serde_json::Number::from_f64(value).map(Value::Number);
        Ok(number.unwrap_or_else(|| value.to_string().into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        let most = value.floor_char_boundary(MAX_TEXT + 1);
        Ok(text::bounded_to(MAX_TEXT, &value[..most]).into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX_ITEMS {
            match list.next_element_seed(Small(self.0 - 1))? {
                Some(item) => items.push(item),
                None => return Ok(items.into()),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.len() < MAX_ITEMS && name.len() <= MAX_TEXT {
                fields.insert(name, map.next_value_seed(Small(self.0 - 1))?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields.into())
    }
}

/// Hands on the rows of a JSON document.
pub(super) fn json(
    format: &'static str,
    text: &str,
    list: Option<&'static str>,
    take: &mut Take<'_>,
) -> Result<(), ParseError> {
    let mut failure = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let rows = Rows {
        list,
        take,
        failure: &mut failure,
    };
    let read = rows.deserialize(&mut json).and_then(|()| json.end());
    outcome(format, read, failure)
}

/// Hands on the rows of a YAML document. Aliases, nesting and nodes are bounded: what exceeds them is no price list.
pub(super) fn yaml(
    format: &'static str,
    text: &str,
    list: Option<&'static str>,
    take: &mut Take<'_>,
) -> Result<(), ParseError> {
    let mut failure = None;
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    let budget = options.budget.get_or_insert_default();
    // Fifty thousand rows of twenty fields.
    budget.max_events = 3_000_000;
    budget.max_nodes = 2_500_000;
    budget.max_depth = 16;
    budget.flow_nesting_limit = 16;
    budget.max_aliases = 1_000;
    budget.max_anchors = 1_000;
    budget.max_recorded_anchor_events = 100_000;
    budget.max_recorded_anchor_bytes = 1 << 20;
    budget.max_total_scalar_bytes = 16 << 20;
    budget.max_documents = 1;
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        let rows = Rows {
            list,
            take,
            failure: &mut failure,
        };
        rows.deserialize(yaml)
    });
    outcome(format, read, failure)
}

fn outcome<E: fmt::Display>(
    format: &'static str,
    read: Result<(), E>,
    failure: Option<ParseError>,
) -> Result<(), ParseError> {
    read.map_err(|error| {
        let syntax = || ParseError::Syntax {
            format,
            reason: text::bounded_to(MAX_TEXT, error.to_string()),
        };
        failure.unwrap_or_else(syntax)
    })
}
