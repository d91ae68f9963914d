//! The endpoint's models: `GET /models` and `GET /models/{id}`.

use bytes::Bytes;
use serde::Deserialize;

use super::errors::{ErrorBody, Pace, classify, no_answer, unanswered};
use super::http::describe;
use super::openai::OpenAi;
use crate::domain::{Advice, AttemptFailure, FailureKind, Usage};

/// A model as the endpoint describes it. Servers add fields of their own; some give no more than the id.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Model {
    /// The name to ask for.
    pub id: String,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub created: Option<f64>,
    /// Who owns it.
    #[serde(default)]
    pub owned_by: Option<String>,
    /// The day on which it will be shut down, as `YYYY-MM-DD`.
    #[serde(default)]
    pub shutdown_date: Option<String>,
    /// The context window in tokens, as vLLM names it.
    #[serde(default, alias = "context_length")]
    pub max_model_len: Option<u64>,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

impl OpenAi {
    /// All models, and the server's own JSON.
    ///
    /// # Errors
    /// What the server said instead, or why it could not be reached.
    pub async fn models(&self) -> Result<(Vec<Model>, Bytes), AttemptFailure> {
        let (status, body) = self.get("/models").await?;
        // Some servers send the bare list.
        let models = serde_json::from_slice::<List>(&body)
            .map(|list| list.data)
            .or_else(|_| serde_json::from_slice::<Vec<Model>>(&body))
            .map_err(|error| {
                no_answer(status, format!("the list of models cannot be read: {error}"), Usage::default())
            })?;
        Ok((models, body))
    }

    /// One model, and the server's own JSON.
    ///
    /// # Errors
    /// What the server said instead, or why it could not be reached.
    pub async fn model(&self, id: &str) -> Result<(Model, Bytes), AttemptFailure> {
        let (status, body) = self.get(&format!("/models/{id}")).await?;
        let model = serde_json::from_slice(&body).map_err(|error| {
            no_answer(status, format!("the model cannot be read: {error}"), Usage::default())
        })?;
        Ok((model, body))
    }

    async fn get(&self, path: &str) -> Result<(u16, Bytes), AttemptFailure> {
        let broken = |error: &reqwest::Error| {
            let message = format!("cannot reach {}: {}", self.base, describe(error));
            unanswered(FailureKind::Connection, message, Advice::Down)
        };
        let sent = self.client.get(format!("{}{path}", self.base)).send().await;
        let response = sent.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        let body = self.clean(&self.read_body(response).await?).into_owned();
        if status == 200 {
            Ok((status, body.into()))
        } else {
            Err(classify(status, ErrorBody::parse(&body), Pace::default()))
        }
    }
}
