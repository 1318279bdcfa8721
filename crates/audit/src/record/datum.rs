//! How the types of fields are written and read, and the macro that makes a struct of a list of fields.

use crate::canonical::Value;
use crate::commitment::Commitment;
use crate::leaf::Leaf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// The data of a record does not have the form of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("field {0:?} is missing or malformed")]
pub struct ReadError(pub String);

/// A 64-bit number, written as decimal digits in a string, because it may lie above 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(pub u64);

/// Bytes of a fixed meaning (keys, signatures, roots), written as standard base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

/// A type of field.
pub(crate) trait Datum: Sized {
    fn to_datum(&self) -> Value;
    fn from_datum(value: &Value) -> Option<Self>;
}

impl Datum for String {
    fn to_datum(&self) -> Value {
        Value::from(self.as_str())
    }

    fn from_datum(value: &Value) -> Option<Self> {
        value.as_text().map(str::to_owned)
    }
}

impl Datum for bool {
    fn to_datum(&self) -> Value {
        Value::Bool(*self)
    }

    fn from_datum(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(bool) => Some(*bool),
            Value::Null | Value::Int(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Counts that never come near 2^53 are integers; should one, the last that fits is written.
impl Datum for u64 {
    fn to_datum(&self) -> Value {
        Value::Int(i64::try_from(*self).unwrap_or(i64::MAX).min(crate::canonical::MAX_INT - 1))
    }

    fn from_datum(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Datum for i64 {
    fn to_datum(&self) -> Value {
        let most = crate::canonical::MAX_INT - 1;
        Value::Int((*self).clamp(-most, most))
    }

    fn from_datum(value: &Value) -> Option<Self> {
        match value {
            Value::Int(int) => Some(*int),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        }
    }
}

impl Datum for u32 {
    fn to_datum(&self) -> Value {
        Value::from(*self)
    }

    fn from_datum(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Datum for i32 {
    fn to_datum(&self) -> Value {
        Value::Int(i64::from(*self))
    }

    fn from_datum(value: &Value) -> Option<Self> {
        i64::from_datum(value)?.try_into().ok()
    }
}

impl Datum for Decimal {
    fn to_datum(&self) -> Value {
        Value::from(self.0.to_string())
    }

    fn from_datum(value: &Value) -> Option<Self> {
        crate::note::decimal(value.as_text()?).map(Self)
    }
}

impl Datum for Base64 {
    fn to_datum(&self) -> Value {
        Value::from(STANDARD.encode(&self.0))
    }

    fn from_datum(value: &Value) -> Option<Self> {
        STANDARD.decode(value.as_text()?).ok().map(Self)
    }
}

impl Datum for Leaf {
    fn to_datum(&self) -> Value {
        Value::from(self.to_string())
    }

    fn from_datum(value: &Value) -> Option<Self> {
        Self::parse(value.as_text()?)
    }
}

impl Datum for Commitment {
    fn to_datum(&self) -> Value {
        self.to_value()
    }

    fn from_datum(value: &Value) -> Option<Self> {
        Self::from_value(value)
    }
}

impl<T: Datum> Datum for Option<T> {
    fn to_datum(&self) -> Value {
        self.as_ref().map_or(Value::Null, Datum::to_datum)
    }

    fn from_datum(value: &Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { T::from_datum(value).map(Some) }
    }
}

impl<T: Datum> Datum for Vec<T> {
    fn to_datum(&self) -> Value {
        Value::List(self.iter().map(Datum::to_datum).collect())
    }

    fn from_datum(value: &Value) -> Option<Self> {
        match value {
            Value::List(list) => list.iter().map(T::from_datum).collect(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::Map(_) => None,
        }
    }
}

/// Makes a struct whose fields are the members of a map: `name: Type = "key"`.
macro_rules! data {
    ($(
        $(#[$meta:meta])*
        $name:ident { $( $(#[$doc:meta])* $field:ident: $type:ty = $key:literal, )* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $( $(#[$doc])* pub $field: $type, )* }

        impl $name {
            /// The data as it is written.
            #[must_use]
            pub fn to_value(&self) -> $crate::canonical::Value {
                $crate::canonical::Value::map([
                    $(($key, $crate::record::datum::Datum::to_datum(&self.$field)),)*
                ])
            }

            /// Reads the data; fields that are not known are ignored.
            ///
            /// # Errors
            /// A field is missing or has another type.
            pub fn read(
                value: &$crate::canonical::Value,
            ) -> Result<Self, $crate::record::ReadError> {
                Ok(Self {
                    $($field: $crate::record::datum::field(value, $key)?,)*
                })
            }
        }

        impl $crate::record::datum::Datum for $name {
            fn to_datum(&self) -> $crate::canonical::Value {
                self.to_value()
            }

            fn from_datum(value: &$crate::canonical::Value) -> Option<Self> {
                Self::read(value).ok()
            }
        }
    )*};
}
pub(crate) use data;

pub(crate) fn field<T: Datum>(value: &Value, key: &str) -> Result<T, ReadError> {
    value.get(key).and_then(T::from_datum).ok_or_else(|| ReadError(key.to_owned()))
}

/// Makes an enum of words: `Variant = "word"`.
macro_rules! words {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])* $variant:ident = $word:literal, )* } )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $( $(#[$doc])* $variant, )* }

        impl $name {
            /// The word that is written.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl $crate::record::datum::Datum for $name {
            fn to_datum(&self) -> $crate::canonical::Value {
                $crate::canonical::Value::from(self.word())
            }

            fn from_datum(value: &$crate::canonical::Value) -> Option<Self> {
                Self::parse(value.as_text()?)
            }
        }
    )*};
}
pub(crate) use words;
