//! Metadata values and typed access to them.

use super::cursor::Cursor;
use super::error::GgufError;
use std::collections::BTreeMap;

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Any float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// Text; invalid UTF-8 is replaced.
    String(String),
    /// An array of unsigned integers.
    Unsigneds(Vec<u64>),
    /// An array of signed integers.
    Signeds(Vec<i64>),
    /// An array of floats.
    Floats(Vec<f64>),
    /// An array of booleans.
    Bools(Vec<bool>),
    /// An array of strings, as bytes made text.
    Strings(Vec<String>),
}

/// Bytes that one element of a type takes in the file at least.
fn least_size(type_id: u32) -> Option<usize> {
    Some(match type_id {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        _ => return None,
    })
}

fn unsigned(cursor: &mut Cursor<'_>, type_id: u32) -> Result<u64, GgufError> {
    const WHAT: &str = "an unsigned integer";
    Ok(match type_id {
        0 => u64::from(u8::from_le_bytes(cursor.array(WHAT)?)),
        2 => u64::from(u16::from_le_bytes(cursor.array(WHAT)?)),
        4 => u64::from(cursor.u32(WHAT)?),
        _ => cursor.u64(WHAT)?,
    })
}

fn signed(cursor: &mut Cursor<'_>, type_id: u32) -> Result<i64, GgufError> {
    const WHAT: &str = "a signed integer";
    Ok(match type_id {
        1 => i64::from(i8::from_le_bytes(cursor.array(WHAT)?)),
        3 => i64::from(i16::from_le_bytes(cursor.array(WHAT)?)),
        5 => i64::from(i32::from_le_bytes(cursor.array(WHAT)?)),
        _ => i64::from_le_bytes(cursor.array(WHAT)?),
    })
}

fn float(cursor: &mut Cursor<'_>, type_id: u32) -> Result<f64, GgufError> {
    const WHAT: &str = "a float";
    Ok(match type_id {
        6 => f64::from(f32::from_le_bytes(cursor.array(WHAT)?)),
        _ => f64::from_le_bytes(cursor.array(WHAT)?),
    })
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, GgufError> {
    Ok(cursor.array::<1>("a boolean")?[0] != 0)
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, GgufError> {
    Ok(String::from_utf8_lossy(cursor.bytes("a string")?).into_owned())
}

fn many<T>(
    count: usize,
    mut one: impl FnMut() -> Result<T, GgufError>,
) -> Result<Vec<T>, GgufError> {
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(one()?);
    }
    Ok(values)
}

/// Reads a value of the given type.
pub(super) fn read(cursor: &mut Cursor<'_>, type_id: u32) -> Result<Value, GgufError> {
    Ok(match type_id {
        0 | 2 | 4 | 10 => Value::Unsigned(unsigned(cursor, type_id)?),
        1 | 3 | 5 | 11 => Value::Signed(signed(cursor, type_id)?),
        6 | 12 => Value::Float(float(cursor, type_id)?),
        7 => Value::Bool(boolean(cursor)?),
        8 => Value::String(text(cursor)?),
        9 => return read_array(cursor),
        other => return Err(GgufError::ValueType(other)),
    })
}

fn read_array(cursor: &mut Cursor<'_>) -> Result<Value, GgufError> {
    let element = cursor.u32("an array's type")?;
    // An array of arrays is legal in the format, but no model that this engine runs has one.
    let each = least_size(element).ok_or(GgufError::ValueType(element))?;
    let count = cursor.count(each, "an array's length")?;
    Ok(match element {
        0 | 2 | 4 | 10 => Value::Unsigneds(many(count, || unsigned(cursor, element))?),
        1 | 3 | 5 | 11 => Value::Signeds(many(count, || signed(cursor, element))?),
        6 | 12 => Value::Floats(many(count, || float(cursor, element))?),
        7 => Value::Bools(many(count, || boolean(cursor))?),
        _ => Value::Strings(many(count, || text(cursor))?),
    })
}

/// The metadata of a file, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub(super) BTreeMap<String, Value>);

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A non-negative integer of any width.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Unsigned(value) => Some(*value),
            Value::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A float, or an integer as one.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(value) => Some(*value),
            Value::Unsigned(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// A boolean.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(value) => Some(value),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Strings(values) => Some(values),
            _ => None,
        }
    }

    /// An array of integers.
    pub fn integers(&self, key: &str) -> Option<Vec<i64>> {
        match self.get(key)? {
            Value::Signeds(values) => Some(values.clone()),
            Value::Unsigneds(values) => values.iter().map(|v| i64::try_from(*v).ok()).collect(),
            _ => None,
        }
    }

    /// A non-negative integer that must be there and fit.
    pub fn required_size(&self, key: &str) -> Result<usize, GgufError> {
        self.unsigned(key)
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| GgufError::Key(key.to_owned()))
    }
}
