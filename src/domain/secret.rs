//! Values that must never be shown, and the sieve that keeps them out of what a server sends back.

use std::borrow::Cow;
use std::fmt;

/// What stands in place of a secret wherever it would have been shown.
const MASK: &str = "****";

/// Shorter secrets are not searched for: masking every `ab` of an answer would destroy it and protect nothing.
const SHORTEST_SEARCHED: usize = 8;

/// An API key or another value that must not be printed. Its `Debug` writes `****`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes charge of a secret.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Masks the run's secrets in text and bytes that came from outside: servers echo keys in their errors.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    secrets: Vec<Secret>,
}

impl Redactor {
    /// A redactor of these secrets; those under eight characters are left out.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut secrets: Vec<Secret> =
            secrets.into_iter().filter(|secret| secret.0.len() >= SHORTEST_SEARCHED).collect();
        // Longest first, so that a secret that contains another one leaves nothing of itself behind.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
        Self { secrets }
    }

    /// The text with every secret in it masked.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut clean = Cow::Borrowed(text);
        for secret in &self.secrets {
            if memchr::memmem::find(clean.as_bytes(), secret.0.as_bytes()).is_some() {
                clean = Cow::Owned(clean.replace(&secret.0, MASK));
            }
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_wherever_it_stands() {
        let redactor = Redactor::new([Secret::new("sk-12345678".into()), Secret::new("short".into())]);
        assert_eq!(redactor.redact("key sk-12345678, short"), "key ****, short");
        assert!(matches!(redactor.redact("nothing"), Cow::Borrowed(_)));
        assert_eq!(format!("{redactor:?}"), "Redactor { secrets: [****] }");
    }
}
