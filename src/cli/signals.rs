//! Ctrl-C, SIGTERM, and SIGHUP of a closed terminal: the first finishes what is in flight, the second stops now, the
//! third does not wait for anything. They are heard on a thread of their own, whatever the others are busy with.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::errors::{CliError, INTERRUPTED};
use super::screen::Screen;
use crate::input::Inputs;
use crate::pipeline::Controls;

/// Obeys signals from now on until the program ends.
pub(super) fn watch(
    controls: Controls,
    inputs: Inputs,
    screen: Screen,
    timeout: Duration,
) -> Result<(), CliError> {
    let cannot = |error: io::Error| CliError::failed(format!("cannot listen to signals: {error}"));
    let runtime = Builder::new_current_thread().enable_io().build().map_err(cannot)?;
    let signals = {
        let _inside = runtime.enter();
        Signals::listen().map_err(cannot)?
    };
    let obey = move || obey(&runtime, signals, &controls, &inputs, &screen, timeout);
    std::thread::Builder::new().name("signals".into()).spawn(obey).map_err(cannot)?;
    Ok(())
}

fn obey(
    runtime: &Runtime,
    mut signals: Signals,
    controls: &Controls,
    inputs: &Inputs,
    screen: &Screen,
    timeout: Duration,
) {
    runtime.block_on(signals.next());
    let in_flight = controls.gauge.in_flight();
    // In this order: a reader that is told to stop looks for the reason in the controls.
    controls.drain.cancel();
    inputs.stop();
    screen.say(&match in_flight {
        0 => "interrupted: stopping; nothing is in flight".to_owned(),
        _ => format!(
            "interrupted: finishing {in_flight} {} in flight (at most {}); interrupt again to stop now",
            if in_flight == 1 { "request" } else { "requests" },
            humantime::format_duration(timeout)
        ),
    });
    runtime.block_on(signals.next());
    let in_flight = controls.gauge.in_flight();
    controls.abort.cancel();
    if in_flight > 0 {
        screen.say(&format!("interrupted again: stopping now; {in_flight} in flight will be sent again"));
    }
    runtime.block_on(signals.next());
    end_at_once();
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "whoever asks three times wants it gone; what was paid for is in the ledger, and no writer is waited for"
)]
fn end_at_once() {
    std::process::exit(i32::from(INTERRUPTED));
}

#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !ignores_hangup() {
            kinds.push(SignalKind::hangup());
        }
        // Heard and not obeyed, so that a write over the limit of file sizes fails as one on a full disk does.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        kinds.into_iter().map(signal).collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let heard = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if heard { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// Whether whoever started the program wants it to outlive its terminal, as `nohup` does.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    const HANGUP: u64 = 1 << 0;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP != 0)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
