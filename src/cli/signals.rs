//! Ctrl-C and SIGTERM: the first finishes what is in flight, the second stops now.

use std::time::Duration;

use super::screen::Screen;
use crate::pipeline::Controls;

/// Waits for signals for as long as it is polled.
pub(super) async fn watch(controls: Controls, screen: Screen, timeout: Duration) {
    wait_for_one().await;
    let in_flight = controls.in_flight();
    controls.drain.cancel();
    let at_most = humantime::format_duration(timeout);
    screen.say(&format!(
        "interrupted: finishing {in_flight} requests in flight (at most {at_most}); interrupt again to stop now"
    ));
    wait_for_one().await;
    controls.abort.cancel();
    std::future::pending::<()>().await;
}

#[cfg(unix)]
async fn wait_for_one() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn wait_for_one() {
    let _ = tokio::signal::ctrl_c().await;
}
