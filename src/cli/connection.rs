//! Where requests go and as whom: flags before environment before defaults.

use std::env;
use std::fs;
use std::path::Path;

use super::args::ConnectionArgs;
use super::endpoints::EndpointOption;
use super::errors::CliError;
use super::screen::Screen;
use super::settings::read_text;
use crate::domain::Secret;
use crate::provider::ConnectionSettings;

const OPENAI: &str = "https://api.openai.com/v1";
const OPENAI_HOST: &str = "://api.openai.com";
const KEY_VARIABLE: &str = "OPENAI_API_KEY";
const BASE_VARIABLE: &str = "OPENAI_BASE_URL";

/// Where requests go if nothing else is said.
pub(super) fn usual_url() -> String {
    let from_environment = env::var(BASE_VARIABLE).ok().filter(|url| !url.trim().is_empty());
    from_environment.unwrap_or_else(|| OPENAI.to_owned())
}

/// The connection to an endpoint as the options and the environment have it.
pub(super) fn real(
    args: &ConnectionArgs,
    endpoint: &EndpointOption,
    idle_connections: usize,
    screen: &Screen,
) -> Result<ConnectionSettings, CliError> {
    check_proxy(args.proxy.as_deref())?;
    let settings = ConnectionSettings {
        api_key: api_key(args, endpoint, screen)?,
        base_url: endpoint.url.clone(),
        headers: headers(&args.header)?,
        organization: args.organization.clone(),
        project: args.project.clone(),
        proxy: args.proxy.clone(),
        direct: false,
        timeout: args.timeout,
        idle_timeout: args.idle_timeout,
        connect_timeout: args.connect_timeout,
        http2: args.http2,
        idle_connections,
    };
    if is_openai(&settings) && settings.api_key.is_none() && settings.headers.is_empty() {
        let error = CliError::failed(format!("no API key: {KEY_VARIABLE} is not set"));
        return Err(
            error.hint("set it, name another variable with --api-key-env, give --api-key-file, or try --sim")
        );
    }
    Ok(settings)
}

/// Whether this is OpenAI's own host.
pub(super) fn is_openai(connection: &ConnectionSettings) -> bool {
    connection.base_url.contains(OPENAI_HOST)
}

/// The connection to the simulator inside this process.
pub(super) fn simulated(
    args: &ConnectionArgs,
    base_url: &str,
    idle_connections: usize,
) -> ConnectionSettings {
    ConnectionSettings {
        base_url: base_url.to_owned(),
        api_key: None,
        headers: Vec::new(),
        organization: None,
        project: None,
        proxy: None,
        // The simulator is in this process; a proxy could not reach it.
        direct: true,
        timeout: args.timeout,
        idle_timeout: args.idle_timeout,
        connect_timeout: args.connect_timeout,
        http2: false,
        idle_connections,
    }
}

/// A proxy of a kind that is not known would be passed by in silence. Its URL is not shown: it may hold a password.
fn check_proxy(url: Option<&str>) -> Result<(), CliError> {
    let scheme = url.and_then(|url| url.split_once("://")).map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        None | Some("http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h") => Ok(()),
        Some(other) => Err(CliError::usage(format!(
            "--proxy: {other}:// is no kind of proxy; known are http, https, socks5 and socks5h"
        ))),
    }
}

fn api_key(
    args: &ConnectionArgs,
    endpoint: &EndpointOption,
    screen: &Screen,
) -> Result<Option<Secret>, CliError> {
    if let Some(variable) = &endpoint.api_key_env {
        return match key_in(variable) {
            Some(key) => Ok(Some(key)),
            None => Err(CliError::failed(format!(
                "--base-url {}: api-key-env={variable}: the variable is not set",
                endpoint.url
            ))),
        };
    }
    if let Some(path) = &args.api_key_file {
        warn_of_readable_key(path, screen);
        let key = read_text(path, "--api-key-file")?;
        let key = key.trim();
        if key.is_empty() {
            return Err(CliError::failed(format!("--api-key-file {}: the file is empty", path.display())));
        }
        return Ok(Some(Secret::new(key.to_owned())));
    }
    let variable = args.api_key_env.as_deref().unwrap_or(KEY_VARIABLE);
    match key_in(variable) {
        Some(key) => Ok(Some(key)),
        None if args.api_key_env.is_some() => {
            Err(CliError::failed(format!("--api-key-env {variable}: the variable is not set")))
        }
        None => Ok(None),
    }
}

fn key_in(variable: &str) -> Option<Secret> {
    let key = env::var(variable).ok()?.trim().to_owned();
    (!key.is_empty()).then(|| Secret::new(key))
}

#[cfg(unix)]
fn warn_of_readable_key(path: &Path, screen: &Screen) {
    use std::os::unix::fs::PermissionsExt as _;
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        screen.say(&format!("warning: {} can be read by others; chmod 600 it", path.display()));
    }
}

#[cfg(not(unix))]
fn warn_of_readable_key(_: &Path, _: &Screen) {}

fn headers(given: &[(String, String)]) -> Result<Vec<(String, Secret)>, CliError> {
    given.iter().map(|(name, value)| Ok((name.clone(), Secret::new(expand(name, value)?)))).collect()
}

/// Replaces `${NAME}` from the environment, so that keys need not stand in the command line.
fn expand(header: &str, value: &str) -> Result<String, CliError> {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        let found = env::var(name)
            .map_err(|_| CliError::failed(format!("--header {header}: the variable {name} is not set")))?;
        expanded.push_str(before);
        expanded.push_str(&found);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}
