//! `promptmill sim`.

use std::env;
use std::io::{Write as _, stdout};

use super::args::SimArgs;
use super::errors::{self, CliError};
use crate::domain::Secret;
use crate::sim::{Faults, Settings, Simulator};

pub(super) fn sim(args: &SimArgs) -> Result<u8, CliError> {
    let api_key = match &args.api_key_env {
        None => None,
        Some(name) => Some(Secret::new(
            env::var(name)
                .map_err(|_| CliError::failed(format!("--api-key-env {name}: the variable is not set")))?,
        )),
    };
    let models = match args.model.as_slice() {
        [] => Settings::default().models,
        models if models.iter().any(|model| model == "*") => Vec::new(),
        models => models.to_vec(),
    };
    let simulator = Simulator::start(Settings {
        port: args.port,
        latency: args.latency,
        latency_per_token: args.latency_per_token,
        rpm: args.rpm,
        tpm: args.tpm,
        max_inflight: args.max_inflight,
        slots: args.slots,
        tells_limits: !args.no_limit_headers,
        faults: Faults {
            too_many_requests: args.fault_429,
            server_error: args.fault_500,
            reset: args.fault_reset,
            truncate: args.fault_truncate,
            hang: args.fault_hang,
        },
        seed: args.seed,
        api_key,
        models,
    })
    .map_err(|error| {
        CliError::failed(format!("the simulator cannot start on port {}: {error}", args.port))
    })?;
    let mut out = stdout().lock();
    // Whoever starts it as a child waits for this line.
    let _ = writeln!(out, "{}", simulator.base_url()).and_then(|()| out.flush());
    drop(out);
    simulator.wait();
    Ok(errors::OK)
}
