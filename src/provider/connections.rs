//! Which connections have carried an answer before. A request that dies on such a connection before a byte came back
//! was most likely never read: servers close idle connections without a word. `reqwest` does not say whether a
//! connection was reused, so connections are known by their local port.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper_util::client::legacy::Error as ClientError;
use hyper_util::client::legacy::connect::HttpInfo;

const PORTS: usize = 1 << 16;

/// The connection that a response comes by, as far as it is known.
#[derive(Debug)]
pub(super) struct Connection(Option<HttpInfo>);

impl Connection {
    pub(super) fn of(response: &reqwest::Response) -> Self {
        Self(response.extensions().get::<HttpInfo>().cloned())
    }
}

#[derive(Debug)]
pub(super) struct UsedConnections {
    ports: Box<[AtomicU64]>,
}

impl UsedConnections {
    pub(super) fn new() -> Self {
        Self { ports: (0..PORTS / 64).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes that this connection has carried an answer.
    pub(super) fn answered(&self, connection: Connection) {
        if let Connection(Some(info)) = connection {
            let (word, bit) = self.place(&info);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Whether the connection that broke had carried an answer before. Forgets it: the port may come back fresh.
    pub(super) fn was_used(&self, error: &reqwest::Error) -> bool {
        let Some(info) = broken_connection(error) else { return false };
        let (word, bit) = self.place(&info);
        word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    fn place(&self, info: &HttpInfo) -> (&AtomicU64, u64) {
        let port = usize::from(info.local_addr().port());
        (&self.ports[port / 64], 1 << (port % 64))
    }
}

fn broken_connection(error: &reqwest::Error) -> Option<HttpInfo> {
    let mut extensions = http::Extensions::new();
    causes(error)
        .find_map(|cause| cause.downcast_ref::<ClientError>())?
        .connect_info()?
        .get_extras(&mut extensions);
    extensions.remove()
}

/// An error and what caused it, outermost first.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
