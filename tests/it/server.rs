//! A scripted OpenAI-compatible server on loopback. It remembers what it was asked, counts what it had in flight and
//! what it billed, and answers as a test tells it. It shares no code with the product's own simulator.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::answer::{Usage, answer, head, prompts_of};
use crate::wire::{self, Message};

/// No wait in the tests is longer than this.
pub const LIMIT: Duration = Duration::from_mins(2);

/// A request as the server saw it.
#[derive(Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When the last byte of it was read.
    pub at: Instant,
    /// How many requests this connection has brought, this one included.
    pub nth_on_connection: usize,
}

impl Received {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::find(&self.headers, name)
    }

    /// The body as JSON; null for a request without one.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The text asked about: the last message, or the prompt.
    pub fn prompt(&self) -> String {
        prompts_of(&self.json()).remove(0)
    }
}

/// What the server does with a request.
#[derive(Clone)]
pub enum Reply {
    /// The answer `echo: PROMPT`, in the shape the endpoint has, streamed where that was asked for.
    Answer,
    /// This status, these headers, this body (JSON unless the headers name another type).
    Status(u16, Vec<(String, String)>, String),
    /// Another reply, but later.
    Delay(Duration, Box<Reply>),
    /// The connection is reset before a byte is sent.
    Reset,
    /// The connection is closed in good order before a byte is sent.
    Close,
    /// Half of the answer, then the connection closes.
    Truncate,
    /// Nothing, until the client goes away.
    Hang,
    /// These bytes, then the connection closes.
    RawBytes(Vec<u8>),
    /// These bytes, then another reply.
    First(Vec<u8>, Box<Reply>),
    /// These bytes again and again, with a pause before each time, until the client goes away.
    Endless(Vec<u8>, Duration),
    /// Nothing more: the connection waits for the next request.
    Keep,
}

impl Reply {
    /// An error in OpenAI's shape.
    pub fn error(status: u16, kind: &str, code: &str, message: &str) -> Self {
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        Self::Status(status, Vec::new(), body.to_string())
    }

    /// An error of the server's own making.
    pub fn broken() -> Self {
        Self::error(500, "server_error", "internal", "the server had an error")
    }

    /// A refusal of the request as wrong.
    pub fn bad_request() -> Self {
        Self::error(400, "invalid_request_error", "invalid_value", "this prompt is not wanted")
    }

    /// The same reply with one more header.
    pub fn with_header(self, name: &str, value: &str) -> Self {
        let Self::Status(status, mut headers, body) = self else { panic!("only a status has headers") };
        headers.push((name.to_owned(), value.to_owned()));
        Self::Status(status, headers, body)
    }

    /// An answer with this body, whatever it is.
    pub fn ok(body: impl Into<String>) -> Self {
        Self::Status(200, Vec::new(), body.into())
    }

    /// This head and this much of a body, then another reply.
    pub fn begun(head: &str, body: &str, then: Self) -> Self {
        Self::First(format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes(), Box::new(then))
    }

    /// The same reply, but later.
    pub fn after(self, wait: Duration) -> Self {
        Self::Delay(wait, Box::new(self))
    }
}

/// The server. It ends with its owner, as a process does that is killed: its connections break.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&Received, usize) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    state: Mutex<State>,
    arrived: Condvar,
    /// The connections by their other ends, to break them when the server ends.
    open: Mutex<HashMap<SocketAddr, TcpStream>>,
    stopped: Mutex<bool>,
    stop: Condvar,
}

#[derive(Default)]
struct State {
    received: Vec<Arc<Received>>,
    attempts: HashMap<Vec<u8>, usize>,
    in_flight: usize,
    max_in_flight: usize,
    billed: Usage,
}

impl Server {
    /// A server that answers every request.
    pub fn echo() -> Self {
        Self::start(|_, _| Reply::Answer)
    }

    /// A server that asks the script what to do with a request that it sees for the n-th time (from 1).
    pub fn start(script: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    /// The same at a certain address, where another one may have been before.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            state: Mutex::default(),
            arrived: Condvar::new(),
            open: Mutex::default(),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if *accepting.stopped.lock().unwrap() {
                    break;
                }
                let (shared, stream) = (Arc::clone(&accepting), stream.unwrap());
                thread::spawn(move || shared.connection(stream));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `--base-url` takes.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All requests so far, in the order of their arrival.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.shared.state.lock().unwrap().received.clone()
    }

    /// The one request that was sent.
    pub fn only(&self) -> Arc<Received> {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        Arc::clone(&received[0])
    }

    /// How many requests arrived.
    pub fn count(&self) -> usize {
        self.shared.state.lock().unwrap().received.len()
    }

    /// How often each prompt arrived.
    pub fn prompts(&self) -> HashMap<String, usize> {
        let mut prompts = HashMap::new();
        for received in self.received() {
            *prompts.entry(received.prompt()).or_default() += 1;
        }
        prompts
    }

    /// The most requests that were in flight at once.
    pub fn max_in_flight(&self) -> usize {
        self.shared.state.lock().unwrap().max_in_flight
    }

    /// The usage in all answers.
    pub fn billed(&self) -> Usage {
        self.shared.state.lock().unwrap().billed
    }

    /// Waits until so many requests have arrived.
    pub fn wait_for(&self, requests: usize) {
        let state = self.shared.state.lock().unwrap();
        let fewer = |state: &mut State| state.received.len() < requests;
        let (_state, waited) = self.shared.arrived.wait_timeout_while(state, LIMIT, fewer).unwrap();
        assert!(!waited.timed_out(), "{requests} requests did not arrive in time");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap() = true;
        self.shared.stop.notify_all();
        // Wakes the accepting thread; it sees that it is to stop.
        drop(TcpStream::connect(self.address));
        for (_, connection) in self.shared.open.lock().unwrap().drain() {
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

impl Shared {
    fn connection(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // A client that has gone by now has no address.
        let Ok(peer) = stream.peer_addr() else { return };
        self.open.lock().unwrap().extend(stream.try_clone().map(|copy| (peer, copy)));
        let mut stream = BufReader::new(stream);
        self.serve(&mut stream);
        // The connection closes when nobody holds it any more.
        self.open.lock().unwrap().remove(&peer);
    }

    fn serve(&self, mut stream: &mut BufReader<TcpStream>) {
        for nth_on_connection in 1.. {
            let Some(message) = Message::read(&mut stream) else {
                return;
            };
            let (received, attempt) = self.take(message, nth_on_connection);
            let reply = (self.script)(&received, attempt);
            if !self.carry_out(reply, &received, stream.get_mut()) {
                return;
            }
        }
    }

    fn take(&self, message: Message, nth_on_connection: usize) -> (Arc<Received>, usize) {
        let mut words = message.first_line.split(' ').map(str::to_owned);
        let received = Arc::new(Received {
            method: words.next().unwrap(),
            path: words.next().unwrap(),
            headers: message.headers,
            body: message.body,
            at: Instant::now(),
            nth_on_connection,
        });
        let mut state = self.state.lock().unwrap();
        state.received.push(Arc::clone(&received));
        state.in_flight += 1;
        state.max_in_flight = state.max_in_flight.max(state.in_flight);
        let attempts = state.attempts.entry(received.body.clone()).or_default();
        *attempts += 1;
        let attempt = *attempts;
        drop(state);
        self.arrived.notify_all();
        (received, attempt)
    }

    /// A request is no longer in flight just before its reply goes out: once the client has the reply, its next
    /// request may be here before this thread goes on.
    fn leave(&self, billed: Usage) {
        let mut state = self.state.lock().unwrap();
        state.in_flight -= 1;
        state.billed = [state.billed, billed].into_iter().sum();
    }

    /// Waits, and says whether the server is to stop.
    fn pause(&self, wait: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap();
        *self.stop.wait_timeout_while(stopped, wait, |stopped| !*stopped).unwrap().0
    }

    /// Does it, and says whether the connection stays open.
    fn carry_out(&self, reply: Reply, received: &Received, stream: &mut TcpStream) -> bool {
        match reply {
            Reply::Delay(wait, then) => {
                self.pause(wait);
                return self.carry_out(*then, received, stream);
            }
            Reply::Answer => {
                let (head, body, usage) = answer(received);
                self.leave(usage);
                return stream.write_all(&[head, body].concat()).is_ok();
            }
            Reply::Status(status, headers, body) => {
                self.leave(Usage::default());
                return stream.write_all(&[head(status, &headers, body.len()), body.into()].concat()).is_ok();
            }
            Reply::Truncate => {
                let (head, body, _) = answer(received);
                self.leave(Usage::default());
                drop(stream.write_all(&[&head, &body[..body.len() / 2]].concat()));
            }
            Reply::RawBytes(bytes) => {
                self.leave(Usage::default());
                drop(stream.write_all(&bytes));
            }
            Reply::First(bytes, then) => {
                drop(stream.write_all(&bytes));
                return self.carry_out(*then, received, stream);
            }
            Reply::Endless(bytes, pause) => {
                while !self.pause(pause) && stream.write_all(&bytes).is_ok() {}
                self.leave(Usage::default());
            }
            Reply::Keep => {
                self.leave(Usage::default());
                return true;
            }
            Reply::Close => self.leave(Usage::default()),
            Reply::Reset => {
                self.leave(Usage::default());
                socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            Reply::Hang => {
                drop(stream.read(&mut [0]));
                self.leave(Usage::default());
            }
        }
        false
    }
}
