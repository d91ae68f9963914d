//! What is sent for a row, fixed once.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::RequestHash;

/// The API that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
}

impl Endpoint {
    /// All of them, in the order in which they are listed for people.
    pub const ALL: [Self; 2] = [Self::Chat, Self::Completions];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
        }
    }

    /// The path below the base URL.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request, ready to be sent. After the plan nothing about it is decided.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which API it is for.
    pub endpoint: Endpoint,
    /// The JSON body, shared by all attempts.
    pub body: Bytes,
    /// The model asked for; empty where the row leaves the choice to the server.
    pub model: String,
    /// Whether the answer comes as a stream of server-sent events.
    pub stream: bool,
    /// How many answers come back: prompts in the request times `n`.
    pub answers: u64,
    /// The most completion tokens that all of them may have together, where the request bounds them.
    pub max_completion_tokens: Option<u64>,
    /// What the request is, apart from how and where it is sent.
    pub hash: RequestHash,
}
