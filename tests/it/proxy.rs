//! A small forward proxy on loopback that remembers what it was asked for. It forwards to loopback only.

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::server::LIMIT;
use crate::wire::{self, Message};

/// The proxy. Its threads end with the test program.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let recorded = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&recorded);
                thread::spawn(move || serve(stream.unwrap(), &seen));
            }
        });
        Self { address, seen }
    }

    /// What `--proxy` takes.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The request lines that came, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut client = BufReader::new(stream);
    while let Some(request) = Message::read(&mut client) {
        seen.lock().unwrap().push(request.first_line.clone());
        let mut words = request.first_line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let served = if method == "CONNECT" {
            return drop(tunnel(client.into_inner(), target));
        } else {
            forward(client.get_mut(), &request, method, target)
        };
        if served.is_err() {
            return;
        }
    }
}

/// Sends one request on in origin form, on a connection of its own.
fn forward(client: &mut TcpStream, request: &Message, method: &str, target: &str) -> io::Result<()> {
    let (host, path) = target.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut server = loopback(host)?;
    server.write_all(&bytes(&format!("{method} /{path} HTTP/1.1"), request))?;
    let response = Message::read(&mut BufReader::new(server)).ok_or(io::ErrorKind::UnexpectedEof)?;
    client.write_all(&bytes(&response.first_line, &response))
}

fn tunnel(mut client: TcpStream, target: &str) -> io::Result<()> {
    let mut server = loopback(target)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || io::copy(&mut from_server, &mut to_client));
    io::copy(&mut client, &mut server).map(drop)
}

/// Connects to the port of this host, but on loopback, whatever the host is called.
fn loopback(host: &str) -> io::Result<TcpStream> {
    let port = host.rsplit_once(':').map_or(80, |(_, port)| port.parse().unwrap());
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
}

fn bytes(first_line: &str, message: &Message) -> Vec<u8> {
    [wire::head(first_line, &message.headers), message.body.clone()].concat()
}
