//! What goes wrong on purpose, and for whom.

use super::prose::short_hash;
use crate::domain::IdentityHasher;

/// How large a share of the requests, from 0 to 1, meets each fault. Together they are at most 1. A request with a
/// fault is not billed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Refused with 429 and a short `retry-after-ms`.
    pub too_many_requests: f64,
    /// Answered with 500.
    pub server_error: f64,
    /// The connection is reset before the first byte of an answer.
    pub reset: f64,
    /// The connection is closed in the middle of the answer.
    pub truncate: f64,
    /// Never answered: the request hangs until the client leaves.
    pub hang: f64,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooManyRequests,
    ServerError,
    Reset,
    Truncate,
    Hang,
}

impl Faults {
    fn shares(&self) -> [(f64, Fault); 5] {
        [
            (self.too_many_requests, Fault::TooManyRequests),
            (self.server_error, Fault::ServerError),
            (self.reset, Fault::Reset),
            (self.truncate, Fault::Truncate),
            (self.hang, Fault::Hang),
        ]
    }

    /// Whether the shares can be.
    pub(super) fn check(&self) -> Result<(), String> {
        let shares = self.shares();
        if let Some((share, _)) = shares.iter().find(|(share, _)| !(0.0..=1.0).contains(share)) {
            return Err(format!("a share of faults is from 0 to 1, not {share}"));
        }
        let sum: f64 = shares.iter().map(|(share, _)| share).sum();
        // Shares like 0.1 are not exact: five times 0.2 may come out a little over 1.
        if sum > 1.0 + 1e-9 {
            return Err(format!("all shares of faults together are at most 1, not {sum}"));
        }
        Ok(())
    }

    /// What happens to the request with this ticket, which every attempt has anew.
    pub(super) fn draw(&self, seed: u64, ticket: &[u8]) -> Option<Fault> {
        if *self == Self::default() {
            return None;
        }
        let mut hasher = IdentityHasher::new("simulated fault");
        hasher.field("seed", &seed.to_le_bytes());
        hasher.field("ticket", ticket);
        let drawn = u32::try_from(short_hash(&hasher) >> 32).unwrap_or(0);
        let mut place = f64::from(drawn) / (f64::from(u32::MAX) + 1.0);
        self.shares().into_iter().find_map(|(share, fault)| {
            let hit = place < share;
            place -= share;
            hit.then_some(fault)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_hits_its_share() {
        let faults = Faults { too_many_requests: 0.1, server_error: 0.2, hang: 0.3, ..Faults::default() };
        let mut hits = [0_u32; 5];
        for ticket in 0..10_000_u32 {
            if let Some(fault) = faults.draw(7, &ticket.to_le_bytes()) {
                assert_eq!(faults.draw(7, &ticket.to_le_bytes()), Some(fault));
                hits[fault as usize] += 1;
            }
        }
        for (hits, share) in hits.into_iter().zip([0.1, 0.2, 0.0, 0.0, 0.3]) {
            assert!((f64::from(hits) - 10_000.0 * share).abs() < 200.0, "{hits} hits of {share}");
        }
        assert_ne!(
            (0..64_u8).map(|ticket| faults.draw(7, &[ticket])).collect::<Vec<_>>(),
            (0..64_u8).map(|ticket| faults.draw(8, &[ticket])).collect::<Vec<_>>()
        );
    }

    #[test]
    fn shares_over_the_whole_are_refused() {
        assert!(Faults { reset: 1.0, ..Faults::default() }.check().is_ok());
        assert!(Faults { reset: 0.6, hang: 0.6, ..Faults::default() }.check().is_err());
        assert!(Faults { reset: -0.1, ..Faults::default() }.check().is_err());
        assert!(Faults { reset: f64::NAN, ..Faults::default() }.check().is_err());
    }
}
