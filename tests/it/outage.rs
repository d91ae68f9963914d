//! An endpoint that goes away for a while: the run waits for it with one probe at a time, and goes on by itself.

use std::io::{BufReader, Read, Write, copy};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{Cli, Finished, MODEL};
use crate::server::{LIMIT, Reply, Server};

/// A way to the server that can be closed: a SOCKS5 proxy (RFC 1928) sees every connection that is asked for.
struct Way {
    address: SocketAddr,
    gate: Arc<WayGate>,
}

#[derive(Default)]
struct WayGate {
    closed: AtomicBool,
    refused: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Way {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(WayGate::default());
        let serving = Arc::clone(&gate);
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming() {
                let gate = Arc::clone(&serving);
                thread::spawn(move || gate.serve(client.unwrap()));
            }
        });
        Self { address, gate }
    }

    /// From now on connections are refused; those that are open break.
    fn close(&self) {
        let mut open = self.gate.open.lock().unwrap();
        self.gate.closed.store(true, Ordering::SeqCst);
        for connection in open.drain(..) {
            drop(connection.shutdown(std::net::Shutdown::Both));
        }
    }

    fn reopen(&self) {
        self.gate.closed.store(false, Ordering::SeqCst);
    }

    fn refused(&self) -> usize {
        self.gate.refused.load(Ordering::SeqCst)
    }
}

impl WayGate {
    fn serve(&self, mut client: TcpStream) -> Option<()> {
        const REFUSED: u8 = 5;
        client.read_exact(&mut [0; 3]).ok()?;
        client.write_all(&[5, 0]).ok()?;
        // To an IPv4 address, as a host name is not asked for.
        let mut request = [0; 10];
        client.read_exact(&mut request).ok()?;
        let to = SocketAddr::from((
            [request[4], request[5], request[6], request[7]],
            u16::from_be_bytes([request[8], request[9]]),
        ));
        let is_open = {
            let mut open = self.open.lock().unwrap();
            let is_open = !self.closed.load(Ordering::SeqCst);
            open.extend(client.try_clone().ok().filter(|_| is_open));
            is_open
        };
        if !is_open {
            self.refused.fetch_add(1, Ordering::SeqCst);
            client.write_all(&[5, REFUSED, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
            return None;
        }
        let server = TcpStream::connect(to).ok()?;
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
        let (mut back, mut to_client) = (server.try_clone().ok()?, client.try_clone().ok()?);
        thread::spawn(move || {
            drop(copy(&mut back, &mut to_client));
            drop(to_client.shutdown(std::net::Shutdown::Write));
        });
        drop(copy(&mut BufReader::new(client), &mut &server));
        drop(server.shutdown(std::net::Shutdown::Both));
        Some(())
    }
}

/// Asserts that the outage was said once, and its end.
fn said_once(finished: &Finished) {
    for said in ["warning: cannot connect to", "the endpoint answers again"] {
        assert_eq!(finished.stderr.matches(said).count(), 1, "{said}: {}", finished.stderr);
    }
}

/// Five hundred rows of which the endpoint is away for so long after the first hundred; probes are half a second to
/// five seconds apart.
fn outage(away: Duration) {
    let server = Server::start(|_, _| Reply::Answer.after(Duration::from_millis(5)));
    let way = Way::open();
    let cli = Cli::with_prompts(500);
    let proxy = format!("socks5://{}", way.address);
    let url = server.base_url();
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", &url, "--proxy", &proxy];
    let mut running =
        cli.start(&[&job[..], &["-c", "16", "--backoff-base", "500ms", "--backoff-max", "5s"]].concat());
    server.wait_for(100);
    way.close();
    assert!(!running.ends_within(away));
    let (refused, seen) = (way.refused(), server.count());
    way.reopen();
    let finished = running.wait().exits(0);
    said_once(&finished);
    assert!(cli.answers().iter().all(|row| row["status"] == "ok"));
    assert!(seen < 500, "the outage came too late");
    // Each of the sixteen may find out by itself, once; from then on one at a time knocks.
    let most_probes = 5 + usize::try_from(away.as_secs()).unwrap() / 5;
    assert!((1..=16 + most_probes).contains(&refused), "{refused} connections were tried");
    let attempts: u64 = cli.answers().iter().map(|row| row["attempts"].as_u64().unwrap()).sum();
    assert!(attempts <= server.count() as u64 + 16, "{attempts} attempts, {} requests", server.count());
}

#[test]
fn an_outage_of_some_seconds_is_waited_for_with_one_probe_at_a_time() {
    outage(Duration::from_secs(4));
}

/// The same with two minutes: `cargo test -- --ignored two_minutes`.
#[test]
#[ignore = "takes two minutes"]
fn an_outage_of_two_minutes_is_waited_for_with_one_probe_at_a_time() {
    outage(Duration::from_secs(120));
}

#[test]
fn a_run_on_an_endpoint_that_is_not_there_yet_goes_on_by_itself_when_it_comes() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cli = Cli::with_prompts(50);
    let url = format!("http://{address}/v1");
    let job =
        ["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", &url, "--backoff-base", "100ms"];
    let mut running = cli.start(&job);
    assert!(!running.ends_within(Duration::from_secs(1)));
    let server = Server::start_at(address, |_, _| Reply::Answer);
    let begin = Instant::now();
    let finished = running.wait().exits(0);
    assert!(begin.elapsed() < LIMIT);
    said_once(&finished);
    assert!(cli.answers().iter().all(|row| row["attempts"] == 1), "time without an endpoint is no attempt");
    assert_eq!(server.count(), 50);
}

#[test]
fn a_server_that_is_restarted_is_found_again_at_its_place() {
    let going = Arc::new(AtomicBool::new(false));
    let goes = Arc::clone(&going);
    let server = Server::start(move |_, _| {
        if goes.load(Ordering::SeqCst) { Reply::Close } else { Reply::Answer.after(Duration::from_millis(5)) }
    });
    let address = server.address();
    let cli = Cli::with_prompts(400);
    let mut running = cli.start_job(&server, &["-c", "8"]);
    server.wait_for(50);
    going.store(true, Ordering::SeqCst);
    drop(server);
    assert!(!running.ends_within(Duration::from_millis(500)));
    let server = Server::start_at(address, |_, _| Reply::Answer);
    let finished = running.wait().exits(0);
    said_once(&finished);
    assert!(server.count() > 0, "the first one did it all");
    assert!(cli.answers().iter().all(|row| row["status"] == "ok"));
}
