//! The endpoints of a run: where each is, with which key, and how much it takes.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::str::FromStr;

use super::args::{ConnectionArgs, PaceArgs};
use super::connection;
use super::errors::CliError;
use super::screen::Screen;
use crate::pace::{GivenLimits, InFlight, LaneSettings};
use crate::provider::ConnectionSettings;

/// A `--base-url` as typed: a URL, and what holds for this endpoint alone behind semicolons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EndpointOption {
    pub(super) url: String,
    pub(super) api_key_env: Option<String>,
    weight: Option<NonZeroU32>,
    concurrency: Option<NonZeroUsize>,
    rpm: Option<NonZeroU64>,
    tpm: Option<NonZeroU64>,
    rpd: Option<NonZeroU64>,
}

const KNOWN: &str = "known are weight, concurrency, rpm, tpm, rpd and api-key-env";

impl FromStr for EndpointOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts: Vec<&str> = text.split(';').collect();
        let mut endpoint = Self::default();
        // A semicolon may be part of a URL; `name=value` behind one is ours.
        while parts.len() > 1
            && let Some((name, value)) = parts[parts.len() - 1].split_once('=')
        {
            parts.pop();
            endpoint.set(name.trim(), value.trim())?;
        }
        endpoint.url = parts.join(";");
        Ok(endpoint)
    }
}

impl EndpointOption {
    /// Reads a `--base-url`. What is wrong is said without the URL, which may hold what is secret.
    pub(super) fn read(text: &str) -> Result<Self, CliError> {
        text.parse().map_err(|what| CliError::usage(format!("--base-url: {what}")))
    }

    /// A URL of which nothing else is said.
    pub(super) fn at(url: String) -> Self {
        Self { url, ..Self::default() }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        fn number<T: FromStr>(name: &str, value: &str) -> Result<Option<T>, String> {
            value.parse().map(Some).map_err(|_| format!("{name}={value}: not a whole number from 1 on"))
        }
        match name {
            "weight" => self.weight = number(name, value)?,
            "concurrency" => self.concurrency = number(name, value)?,
            "rpm" => self.rpm = number(name, value)?,
            "tpm" => self.tpm = number(name, value)?,
            "rpd" => self.rpd = number(name, value)?,
            "api-key-env" => self.api_key_env = Some(value.to_owned()),
            _ => return Err(format!("{name}=…: no option of an endpoint; {KNOWN}")),
        }
        Ok(())
    }

    fn limits(&self, all: &PaceArgs) -> GivenLimits {
        let first = |own: Option<NonZeroU64>, all: Option<NonZeroU64>| own.or(all).map(NonZeroU64::get);
        GivenLimits {
            requests_per_minute: first(self.rpm, all.rpm),
            tokens_per_minute: first(self.tpm, all.tpm),
            requests_per_day: first(self.rpd, all.rpd),
        }
    }
}

/// An endpoint with all that is known of it before the run.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) connection: ConnectionSettings,
    pub(super) lane: LaneSettings,
}

/// The endpoints as the options and the environment have them; `most` requests may be in flight over all of them.
pub(super) fn real(
    connection: &ConnectionArgs,
    pace: &PaceArgs,
    most: usize,
    screen: &Screen,
) -> Result<Vec<Endpoint>, CliError> {
    let options = match connection.base_url.as_slice() {
        [] => vec![EndpointOption::at(connection::usual_url())],
        given => given.iter().map(|text| EndpointOption::read(text)).collect::<Result<_, _>>()?,
    };
    check_twice(&options)?;
    let mut endpoints = Vec::new();
    for option in &options {
        let connection = connection::real(connection, option, most, screen)?;
        endpoints.push(with_lane(connection, option, pace, most));
    }
    check_shared_key(&options, &endpoints, connection.share_key)?;
    Ok(endpoints)
}

/// The one endpoint of a run against the simulator inside this process.
pub(super) fn simulated(
    connection: &ConnectionArgs,
    pace: &PaceArgs,
    base_url: &str,
    most: usize,
) -> Vec<Endpoint> {
    let connection = connection::simulated(connection, base_url, most);
    vec![with_lane(connection, &EndpointOption::default(), pace, most)]
}

fn with_lane(
    connection: ConnectionSettings,
    option: &EndpointOption,
    pace: &PaceArgs,
    most: usize,
) -> Endpoint {
    let concurrency = match (option.concurrency, pace.concurrency) {
        (Some(own), _) => InFlight::Fixed(own.get().min(most)),
        (None, Some(_)) => InFlight::Fixed(most),
        (None, None) => InFlight::Found { most },
    };
    let lane = LaneSettings {
        base_url: connection.name(),
        concurrency,
        weight: option.weight.map_or(1, NonZeroU32::get),
        limits: option.limits(pace),
    };
    Endpoint { connection, lane }
}

/// An endpoint that is given twice is a slip of the pen, unless it is used with two keys.
fn check_twice(options: &[EndpointOption]) -> Result<(), CliError> {
    for (at, option) in options.iter().enumerate() {
        let same =
            |other: &EndpointOption| other.url == option.url && other.api_key_env == option.api_key_env;
        if options[..at].iter().any(same) {
            let message = format!("--base-url {}: given twice", option.url);
            return Err(
                CliError::usage(message).hint("leave one away, or give each its own ;api-key-env=NAME")
            );
        }
    }
    Ok(())
}

/// A key is for whom it was made: it goes to several hosts only if that is said.
fn check_shared_key(
    options: &[EndpointOption],
    endpoints: &[Endpoint],
    may_be_shared: bool,
) -> Result<(), CliError> {
    let common: BTreeSet<String> = options
        .iter()
        .zip(endpoints)
        .filter(|(option, endpoint)| {
            let own_key = option.api_key_env.is_some();
            endpoint.connection.has_secret_header() || (!own_key && endpoint.connection.api_key.is_some())
        })
        .map(|(_, endpoint)| endpoint.connection.host())
        .collect();
    if common.len() < 2 || may_be_shared {
        return Ok(());
    }
    let hosts = common.into_iter().collect::<Vec<_>>().join(", ");
    Err(CliError::usage(format!("one key would go to several hosts: {hosts}")).hint(
        "name each endpoint's key, as in --base-url 'https://host/v1;api-key-env=NAME', or add --share-key if they \
         may all have it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_behind_semicolons_and_other_semicolons_are_the_url_s() {
        let endpoint: EndpointOption =
            "http://a/v1;weight=2; rpm=600 ;tpm=9;rpd=7;concurrency=3;api-key-env=K".parse().unwrap();
        assert_eq!(endpoint.url, "http://a/v1");
        assert_eq!(endpoint.api_key_env.as_deref(), Some("K"));
        assert_eq!((endpoint.weight, endpoint.rpm), (NonZeroU32::new(2), NonZeroU64::new(600)));
        assert_eq!("http://a/v1;x/y".parse::<EndpointOption>().unwrap().url, "http://a/v1;x/y");
        for (wrong, says) in
            [("http://a;wieght=2", "wieght=…: no option"), ("http://a;rpm=0", "rpm=0: not a whole number")]
        {
            let error = wrong.parse::<EndpointOption>().unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
