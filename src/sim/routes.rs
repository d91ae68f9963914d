//! Which request goes where, and the answers that need no prompt: the models, the account, the errors of the path.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::Notify;

use super::exchange::{Service, header, refused, respond};
use super::refusal::Refusal;
use super::reply::Reply;
use super::wire::CREATED;
use crate::domain::Endpoint;

/// The version of OpenAI's API that this is the likeness of.
const VERSION: &str = "2020-10-01";

/// Answers any request. `cut` resets its connection.
pub(super) async fn answer(service: &Service, request: Request<Incoming>, cut: &Notify) -> Response<Reply> {
    let endpoint = Endpoint::ALL.into_iter().find(|endpoint| {
        request.uri().path().strip_prefix("/v1") == Some(endpoint.path()) && *request.method() == Method::POST
    });
    let mut response = match endpoint {
        Some(endpoint) => service.exchange(endpoint, request, cut).await,
        None => answer_other(service, &request).unwrap_or_else(|refusal| refused(&refusal)),
    };
    let headers = response.headers_mut();
    headers.insert("x-request-id", header(&format!("req_{:032x}", service.next_number())));
    headers.insert("openai-version", http::HeaderValue::from_static(VERSION));
    headers.insert("openai-organization", http::HeaderValue::from_static("promptmill-sim"));
    response
}

fn answer_other(service: &Service, request: &Request<Incoming>) -> Result<Response<Reply>, Refusal> {
    let (method, path) = (request.method(), request.uri().path());
    match (method.as_str(), path) {
        ("GET", "/sim/stats") => Ok(json(&service.account.snapshot())),
        ("POST", "/sim/reset") => {
            service.account.reset();
            Ok(json(&service.account.snapshot()))
        }
        ("GET", "/v1/models") => {
            service.check_key(request.headers())?;
            let data = service.settings.models.iter().map(|id| Model::new(id)).collect();
            Ok(json(&Models { object: "list", data }))
        }
        ("GET", path) if path.starts_with("/v1/models/") => {
            service.check_key(request.headers())?;
            let id = path.trim_start_matches("/v1/models/");
            service.check_model(id)?;
            Ok(json(&Model::new(id)))
        }
        _ => Err(Refusal::unknown_path(method, path)),
    }
}

fn json(value: &impl Serialize) -> Response<Reply> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    respond(StatusCode::OK, "application/json", body.into())
}

#[derive(Serialize)]
struct Models<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl<'a> Model<'a> {
    fn new(id: &'a str) -> Self {
        Self { id, object: "model", created: CREATED, owned_by: "promptmill" }
    }
}
