//! Places where a crash would hurt most, for the crash test to die at. Compiled to nothing unless the feature
//! `fault-points` is on, which no release has.

/// A place of this name is passed. With the feature, `PROMPTMILL_DIE_AT=NAME:N` ends the process at its Nth passing as
/// a power cut would: nothing is flushed, and what was not brought to the disk is lost.
#[cfg(feature = "fault-points")]
pub(super) fn point(name: &str, ledger: &std::fs::File) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Ok(at) = std::env::var("PROMPTMILL_DIE_AT") else { return };
    let Some((at, nth)) = at.split_once(':') else { return };
    if at != name || PASSED.fetch_add(1, Ordering::SeqCst) + 1 != nth.parse().unwrap_or(1) {
        return;
    }
    if std::env::var_os("PROMPTMILL_LOSE_UNSYNCED").is_some() {
        let _ = ledger.set_len(SYNCED.load(Ordering::SeqCst));
    }
    std::process::abort();
}

#[cfg(not(feature = "fault-points"))]
pub(super) fn point(_: &str, _: &std::fs::File) {}

/// How much of the ledger is known to be on the disk.
#[cfg(feature = "fault-points")]
static SYNCED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

#[cfg(feature = "fault-points")]
pub(super) fn synced(length: u64) {
    SYNCED.fetch_max(length, std::sync::atomic::Ordering::SeqCst);
}

#[cfg(not(feature = "fault-points"))]
pub(super) fn synced(_: u64) {}
