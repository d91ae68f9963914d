//! The listener and its connections: HTTP/1.1 with keep-alive, one thread. It knows nothing of prompts.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

use super::exchange::Service;
use super::routes;

/// Connections that may wait to be accepted: as many as clients open at once.
const BACKLOG: i32 = 4096;

/// How long nothing is accepted after the system had no socket left.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(10);

/// Listens on 127.0.0.1.
pub(super) fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // A simulator started again on its port shall not wait for the connections of the one before.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts connections until it is told to stop, or nobody is left to tell it.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>, stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    service.account.connected();
                    tokio::spawn(connection(stream, Arc::clone(&service)));
                }
                Err(_) => tokio::time::sleep(AFTER_FAILED_ACCEPT).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stopped => {}
    }
}

async fn connection(stream: TcpStream, service: Arc<Service>) {
    // Without it answers wait for the acknowledgement of the ones before; if it fails, they only come later.
    let _ = stream.set_nodelay(true);
    let cut = Arc::new(Notify::new());
    let cutting = Arc::clone(&cut);
    let answer = service_fn(move |request| {
        let (service, cut) = (Arc::clone(&service), Arc::clone(&cutting));
        async move { Ok::<_, Infallible>(routes::answer(&service, request, &cut).await) }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        // Errors are the client's: it has left, or does not speak HTTP.
        _ = &mut connection => {}
        () = cut.notified() => reset(connection.into_parts().io.into_inner()),
    }
}

/// Closes a connection so that the client sees a reset and not an end.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
