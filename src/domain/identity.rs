//! How a row is known again in a later run: by its id and its request, or by its request and how many equal ones
//! came before it. Never by its place.

use std::fmt;

use super::RowId;

/// A 128-bit hash of what a request asks for: endpoint and parameters, not base URL, key or pace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestHash(pub [u8; 16]);

/// The name of a row in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey(pub [u8; 16]);

impl RequestHash {
    /// The key of a row that has this id and this request.
    #[must_use]
    pub fn key_with_id(&self, id: &RowId) -> RowKey {
        let mut hasher = IdentityHasher::new("id");
        hasher.field("id", id.to_string().as_bytes());
        hasher.field("request", &self.0);
        RowKey(hasher.finish())
    }

    /// The key of a row without an id: the `occurrence`th (from 0) with this request.
    #[must_use]
    pub fn key_with_occurrence(&self, occurrence: u64) -> RowKey {
        let mut hasher = IdentityHasher::new("occurrence");
        hasher.field("occurrence", &occurrence.to_le_bytes());
        hasher.field("request", &self.0);
        RowKey(hasher.finish())
    }
}

/// All the names of a row that became a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// By its id and its request, or by its request and how many equal ones came before.
    pub key: RowKey,
    /// What it asks for.
    pub request: RequestHash,
    /// By its id, or by its input: the same whatever the job's model, template or parameters are.
    pub source: RowKey,
}

impl RowKey {
    /// The name of a row whatever is made of it: by its id.
    #[must_use]
    pub fn source_with_id(id: &RowId) -> Self {
        let mut hasher = IdentityHasher::new("source id");
        hasher.field("id", id.to_string().as_bytes());
        Self(hasher.finish())
    }

    /// The name of a row without an id, whatever is made of it: by its text and how many equal ones came before.
    #[must_use]
    pub fn source_with_input(input: &str, occurrence: u64) -> Self {
        let mut hasher = IdentityHasher::new("source input");
        hasher.field("input", input.as_bytes());
        hasher.field("occurrence", &occurrence.to_le_bytes());
        Self(hasher.finish())
    }
}

/// Hashes named fields without ambiguity (each with its length): BLAKE3, cut to 128 bits.
#[derive(Clone, Debug)]
pub struct IdentityHasher(blake3::Hasher);

impl IdentityHasher {
    /// Starts a hash of one kind of thing; hashes of different kinds never meet.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.field("kind", kind.as_bytes());
        hasher
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// The hash of all fields so far.
    #[must_use]
    pub fn finish(&self) -> [u8; 16] {
        let mut short = [0; 16];
        self.0.finalize_xof().fill(&mut short);
        short
    }
}

fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:032x}", u128::from_be_bytes(*bytes))
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)).flatten()
}

macro_rules! shown_in_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl $name {
            /// Reads back what `Display` wrote: 32 hexadecimal digits.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }
        }
    };
}

shown_in_hex!(RequestHash);
shown_in_hex!(RowKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_differ_by_id_request_and_occurrence() {
        let one = RequestHash(IdentityHasher::new("request").finish());
        let mut hasher = IdentityHasher::new("request");
        hasher.field("model", b"m");
        let other = RequestHash(hasher.finish());
        let id = RowId::Text("a".into());
        let keys = [
            one.key_with_id(&id),
            other.key_with_id(&id),
            one.key_with_occurrence(0),
            one.key_with_occurrence(1),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().enumerate().all(|(j, b)| i == j || a != b));
            assert_eq!(RowKey::parse(&a.to_string()), Some(*a));
        }
    }
}
