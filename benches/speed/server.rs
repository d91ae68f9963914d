//! A server that costs as little as can be: one answer for every request, after a given time.

use std::io::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be taken: all of a run come at once.
const BACKLOG: u32 = 8192;

/// A chat completion of usual length.
const BODY: &str = concat!(
    r#"{"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG","object":"chat.completion","created":1741570283,"#,
    r#""model":"gpt-5.4-mini-2026-03-17","choices":[{"index":0,"message":{"role":"assistant","content":"#,
    r#""The Loire is the longest river in France: it rises in the Massif Central and flows for some 1,000 "#,
    r#"kilometres, at first to the north and then to the west, into the Atlantic.","refusal":null,"#,
    r#""annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":112,"#,
    r#""completion_tokens":38,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":0,"#,
    r#""audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"#,
    r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default"}"#
);

/// Serves until it is ended; says where on standard output.
pub fn serve(arguments: &[String]) {
    let latency = Duration::from_millis(arguments[0].parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener: TcpListener = socket.listen(BACKLOG).unwrap();
        println!("http://{}/v1", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let answer: &'static [u8] = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len()
        )
        .leak()
        .as_bytes();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(answer_all(stream, answer, latency));
        }
    });
}

/// Answers the requests of a connection until its end.
async fn answer_all(mut stream: TcpStream, answer: &[u8], latency: Duration) -> Option<()> {
    let mut received = Vec::with_capacity(4096);
    loop {
        let length = loop {
            if let Some(length) = request_length(&received)
                && received.len() >= length
            {
                break length;
            }
            if stream.read_buf(&mut received).await.ok()? == 0 {
                return None;
            }
        };
        received.drain(..length);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        stream.write_all(answer).await.ok()?;
    }
}

/// How long the request is that begins here, once its head is there.
fn request_length(received: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let head = memchr::memmem::find(received, b"\r\n\r\n")? + 4;
    let lines = received[..head].split(|byte| *byte == b'\n');
    let length = lines
        .filter(|line| line.len() > LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH))
        .find_map(|line| std::str::from_utf8(&line[LENGTH.len()..]).ok()?.trim().parse::<usize>().ok());
    Some(head + length.unwrap_or(0))
}
