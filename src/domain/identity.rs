//! How a row is known again in a later run: by its id, or by its text and how many equal ones came before it, and
//! by what its request asks for. Never by its place.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::RowId;

/// A 128-bit hash of what a request asks for: endpoint and parameters, not base URL, key or pace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestHash(pub [u8; 16]);

/// A 128-bit hash of a row as it came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextHash(pub [u8; 16]);

/// The name of a row whatever is made of it: the same for every model, template and parameters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowSource(pub [u8; 16]);

/// The name of a row in the ledger: which row, and what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Which row.
    pub source: RowSource,
    /// What it asks for.
    pub request: RequestHash,
}

/// A hash of a job's settings: equal rows of equal jobs make equal requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobHash(pub [u8; 16]);

/// The bit of a source that says that the row brings an id.
const BRINGS_ID: u8 = 1;

impl RowSource {
    /// The name of a row that brings an id.
    #[must_use]
    pub fn of_id(id: &RowId) -> Self {
        let mut hasher = IdentityHasher::new("id");
        hasher.field("id", id.as_str().as_bytes());
        let mut hash = hasher.finish();
        hash[15] |= BRINGS_ID;
        Self(hash)
    }

    /// The name of a row without an id: the `occurrence`th (from 0) with this text.
    #[must_use]
    pub fn of_text(text: TextHash, occurrence: u64) -> Self {
        let mut hash = text.0;
        if occurrence > 0 {
            let mut hasher = IdentityHasher::new("occurrence");
            hasher.field("text", &text.0);
            hasher.field("occurrence", &occurrence.to_le_bytes());
            hash = hasher.finish();
        }
        hash[15] &= !BRINGS_ID;
        Self(hash)
    }

    /// Whether the row brings an id.
    #[must_use]
    pub fn brings_id(self) -> bool {
        self.0[15] & BRINGS_ID != 0
    }
}

impl TextHash {
    /// A shorter hash of the same: enough to tell whether one row was edited.
    #[must_use]
    pub fn short(self) -> u64 {
        self.0.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

impl JobHash {
    /// The hash of settings by name.
    #[must_use]
    pub fn of<'a>(settings: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut hasher = IdentityHasher::new("job");
        for (name, value) in settings {
            hasher.field(name, value.as_bytes());
        }
        Self(hasher.finish())
    }

    /// Reads back what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 16];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut hash).ok()?;
        (length == hash.len()).then_some(Self(hash))
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
        short.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        short
    }
}

impl fmt::Display for Identity {
    /// 43 characters: source and request, one after the other, in base64 for URLs without padding (RFC 4648).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut both = [0; 32];
        both[..16].copy_from_slice(&self.source.0);
        both[16..].copy_from_slice(&self.request.0);
        f.write_str(&URL_SAFE_NO_PAD.encode(both))
    }
}

impl Identity {
    /// Reads back what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut both = [0; 32];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut both).ok()?;
        let (source, request) = both.split_at(16);
        (length == both.len()).then_some(Self {
            source: RowSource(source.try_into().ok()?),
            request: RequestHash(request.try_into().ok()?),
        })
    }
}

macro_rules! shown_in_base64 {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

shown_in_base64!(RequestHash);
shown_in_base64!(RowSource);
shown_in_base64!(TextHash);
shown_in_base64!(JobHash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_differ_by_id_text_occurrence_and_request() {
        let text = TextHash(IdentityHasher::new("text").finish());
        let id = RowId::Text("a".into());
        let sources = [
            RowSource::of_id(&id),
            RowSource::of_id(&RowId::Text("b".into())),
            RowSource::of_text(text, 0),
            RowSource::of_text(text, 1),
            RowSource::of_text(text, 2),
        ];
        let requests = [RequestHash([1; 16]), RequestHash([2; 16])];
        let mut all = std::collections::HashSet::new();
        for source in sources {
            for request in requests {
                let identity = Identity { source, request };
                assert!(all.insert(identity));
                assert_eq!(identity.to_string().len(), 43);
                assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
            }
        }
        assert!(sources[0].brings_id() && !sources[2].brings_id() && !sources[3].brings_id());
    }

    #[test]
    fn what_is_no_name_is_not_read() {
        let whole = Identity { source: RowSource([7; 16]), request: RequestHash([9; 16]) }.to_string();
        assert_eq!(Identity::parse(&whole[..42]), None);
        assert_eq!(Identity::parse(&format!("{whole}A")), None);
        assert_eq!(Identity::parse(&whole.replace('B', "=")), None);
        assert_eq!(Identity::parse(""), None);
    }
}
