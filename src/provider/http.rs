//! The connection to an endpoint: where it is, how it is reached, what every request carries.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::client::legacy::Error as ClientError;
use reqwest::{Client, Proxy, Url};

use crate::domain::{Redactor, Secret};

/// How an endpoint is reached.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// The base URL, with the version: `https://api.openai.com/v1`.
    pub base_url: String,
    /// The key, sent as a bearer token.
    pub api_key: Option<Secret>,
    /// Further headers; each value is treated as a secret.
    pub headers: Vec<(String, Secret)>,
    /// Sent as `OpenAI-Organization`.
    pub organization: Option<String>,
    /// Sent as `OpenAI-Project`.
    pub project: Option<String>,
    /// A proxy for everything, before the environment's.
    pub proxy: Option<String>,
    /// Whether no proxy is used at all, whatever the environment says.
    pub direct: bool,
    /// The most a request may take, from connecting to the last byte.
    pub timeout: Duration,
    /// The longest that nothing comes once an answer has begun.
    pub idle_timeout: Duration,
    /// The most connecting may take.
    pub connect_timeout: Duration,
    /// Whether HTTP/2 may be used.
    pub http2: bool,
    /// Connections kept open: as many as requests may be in flight.
    pub idle_connections: usize,
}

/// Why a connection cannot be set up. Never holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The base URL cannot be used.
    #[error("--base-url {url}: {message}")]
    BaseUrl {
        /// The URL, without a user or password.
        url: String,
        /// What is wrong with it.
        message: String,
    },
    /// A header cannot be sent.
    #[error("{0}")]
    Header(String),
    /// The proxy cannot be used.
    #[error("--proxy: {0}")]
    Proxy(String),
    /// The client cannot be built, for example because no system certificates are found.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

/// Headers whose values are keys more often than not.
const KEY_HEADERS: [&str; 5] = ["key", "token", "authorization", "secret", "cookie"];

impl ConnectionSettings {
    /// What must never be shown: the key, the values of headers that look like keys, passwords in URLs.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        let tokens = self.secret_headers().flat_map(|(_, value)| {
            let bare = value.expose().strip_prefix("Bearer ").map(|bare| Secret::new(bare.to_owned()));
            [Some(value.clone()), bare].into_iter().flatten()
        });
        let passwords = [Some(self.base_url.as_str()), self.proxy.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(|url| Some(Secret::new(Url::parse(url).ok()?.password()?.to_owned())));
        Redactor::new(self.api_key.clone().into_iter().chain(tokens).chain(passwords))
    }

    /// What the endpoint is called: its base URL without what may be secret in it.
    #[must_use]
    pub fn name(&self) -> String {
        let public = self.base_url.split(['?', '#']).next().unwrap_or_default();
        self.redactor().redact(public).into_owned()
    }

    /// The host that requests go to; this machine, under whatever name, is one.
    #[must_use]
    pub fn host(&self) -> String {
        let Ok(url) = Url::parse(&self.base_url) else { return String::new() };
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let address: Result<std::net::IpAddr, _> = host.trim_matches(['[', ']']).parse();
        let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        if here { "localhost".to_owned() } else { host }
    }

    fn secret_headers(&self) -> impl Iterator<Item = &(String, Secret)> {
        self.headers.iter().filter(|(name, _)| {
            let name = name.to_ascii_lowercase();
            KEY_HEADERS.iter().any(|word| name.contains(word))
        })
    }

    /// Whether a header carries a key.
    #[must_use]
    pub fn has_secret_header(&self) -> bool {
        self.secret_headers().next().is_some()
    }

    pub(super) fn url(&self) -> Result<Url, ConnectionError> {
        let bad = |message: &str| ConnectionError::BaseUrl {
            url: self.redactor().redact(&self.base_url).into_owned(),
            message: message.to_owned(),
        };
        if !["http://", "https://"].iter().any(|scheme| self.base_url.starts_with(scheme)) {
            return Err(bad("must start with http:// or https://"));
        }
        let url = Url::parse(&self.base_url).map_err(|error| bad(&error.to_string()))?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err(bad("holds a user or a password; give the key by --api-key-env or --api-key-file"));
        }
        Ok(url)
    }

    pub(super) fn client(&self) -> Result<Client, ConnectionError> {
        // A second run in one process finds the provider installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("promptmill/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.default_headers()?)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Every attempt is ours: counted, limited and logged.
            .retry(reqwest::retry::never())
            .timeout(self.timeout)
            // Before the request's own limit, which would not tell that nothing was sent.
            .connect_timeout(self.connect_timeout.min(self.timeout.mul_f64(0.9)))
            .pool_max_idle_per_host(self.idle_connections)
            .tcp_nodelay(true);
        if !self.http2 {
            builder = builder.http1_only();
        }
        if self.direct {
            builder = builder.no_proxy();
        }
        if let Some(proxy) = &self.proxy {
            let proxy = Proxy::all(proxy).map_err(|error| ConnectionError::Proxy(self.describe(&error)))?;
            // A proxy given for this run is meant, whatever NO_PROXY says.
            builder = builder.no_proxy().proxy(proxy);
        }
        builder.build().map_err(|error| ConnectionError::Client(self.describe(&error)))
    }

    /// An error with its causes, without secrets.
    fn describe(&self, error: &reqwest::Error) -> String {
        self.redactor().redact(&describe(error)).into_owned()
    }

    fn default_headers(&self) -> Result<HeaderMap, ConnectionError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.api_key {
            let bearer = Secret::new(format!("Bearer {}", key.expose()));
            headers.insert(http::header::AUTHORIZATION, secret_value("the API key", &bearer)?);
        }
        let own = [("OpenAI-Organization", &self.organization), ("OpenAI-Project", &self.project)];
        for (name, value) in own {
            if let Some(value) = value {
                headers.insert(header_name(name)?, plain_value(name, value)?);
            }
        }
        for (name, value) in &self.headers {
            headers.insert(header_name(name)?, secret_value(&format!("the value of header {name}"), value)?);
        }
        Ok(headers)
    }
}

fn header_name(name: &str) -> Result<HeaderName, ConnectionError> {
    HeaderName::try_from(name).map_err(|_| ConnectionError::Header(format!("{name:?} is no header's name")))
}

fn plain_value(name: &str, value: &str) -> Result<HeaderValue, ConnectionError> {
    HeaderValue::from_str(value).map_err(|_| {
        ConnectionError::Header(format!("the value of header {name} has characters that cannot be sent"))
    })
}

fn secret_value(what: &str, value: &Secret) -> Result<HeaderValue, ConnectionError> {
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
        ConnectionError::Header(format!("{what} has characters that cannot be sent, such as a line break"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error's message with those of its causes, without the URL (which may hold a password).
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = String::new();
    // The client's own layer only says at which step it was.
    let causes = super::connections::causes(error).skip(1).filter(|cause| !cause.is::<ClientError>());
    for cause in causes {
        let part = cause.to_string();
        if !text.ends_with(&part) {
            let separator = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{part}");
        }
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// Makes an id for every request, for the provider's log: OpenAI takes up to 512 ASCII characters.
#[derive(Debug)]
pub(super) struct RequestIds {
    /// What all of a run begin with.
    run: String,
    next: std::sync::atomic::AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Arc<Self> {
        use std::hash::{BuildHasher as _, Hasher as _, RandomState};
        let run = format!("promptmill-{:016x}-", RandomState::new().build_hasher().finish());
        Arc::new(Self { run, next: 0.into() })
    }

    /// The next id, as a header's value.
    pub(super) fn next(&self) -> HeaderValue {
        const MOST_DIGITS: usize = 20;
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut id = String::with_capacity(self.run.len() + MOST_DIGITS);
        let _ = write!(id, "{}{number}", self.run);
        // Letters, digits and hyphens can be sent.
        HeaderValue::from_maybe_shared(Bytes::from(id)).unwrap_or(HeaderValue::from_static("promptmill"))
    }
}
