//! Serialized identifiers: the text that `Display` prints and `FromStr` parses, in every format.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    AddressBlock, ChannelId, Network, Policy, Priority, ProxyId, ServiceKey, StreamKey, UserChannelId,
};

/// Parses the text of an identifier without copying it first.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text of an identifier")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Serializes the text of a value.
pub(crate) fn serialize<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Parses a value from its text.
pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

/// Implements `Serialize` as `Display`.
macro_rules! serialize_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize(self, serializer)
            }
        }
    };
}

/// Implements `Serialize` as `Display`, and `Deserialize` as `FromStr`.
macro_rules! serde_as_text {
    ($($name:ty),*) => {
        $(
            serialize_as_text!($name);

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserialize(deserializer)
                }
            }
        )*
    };
}

serde_as_text!(AddressBlock, ChannelId, Network, ProxyId, ServiceKey, StreamKey, UserChannelId);

/// Implements `Serialize` as `Display`, and `Deserialize` as `FromStr`, for one of several words: a later version may
/// have more of them, which is the same error as for any enum.
macro_rules! serde_as_word {
    ($($name:ty),*) => {
        $(
            serialize_as_text!($name);

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let word = String::deserialize(deserializer)?;
                    word.parse().map_err(|_| de::Error::unknown_variant(&word, &[]))
                }
            }
        )*
    };
}

serde_as_word!(Policy, Priority);
