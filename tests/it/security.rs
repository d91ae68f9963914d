//! What comes from outside cannot steer the terminal, read along, or loosen what the user has locked.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use serde_json::json;

use crate::cli::{Cli, KEY, MODEL};
use crate::server::{Reply, Server};

/// Sets the window's title, moves the cursor, changes colours (also with one C1 character), rings, turns the
/// direction of what follows.
const STEERING: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}";

#[track_caller]
fn assert_harmless(text: &str) {
    let steers = |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{2066}\u{2028}".contains(*c);
    assert_eq!(text.chars().find(steers), None, "{text:?}");
}

#[test]
fn nothing_that_comes_from_outside_steers_the_terminal() {
    let server = Server::start(|received, _| {
        let model = json!({"id": STEERING, "object": "model", "owned_by": STEERING, "created": 1});
        let error = |status| Reply::error(status, STEERING, STEERING, &format!("no {STEERING}"));
        match received.path.as_str() {
            "/v1/models" => {
                Reply::Status(200, Vec::new(), json!({"object": "list", "data": [model]}).to_string())
            }
            _ if received.prompt().contains("refuse") => error(400),
            _ if received.prompt().contains("break") => error(500),
            _ if received.prompt().contains("html") => Reply::Status(502, Vec::new(), STEERING.into()),
            _ => Reply::Answer,
        }
    });
    let cli = Cli::new();
    let row =
        |prompt: &str| json!({"id": format!("{prompt}{STEERING}"), "prompt": format!("{prompt} {STEERING}")});
    let input = "in\u{1b}[31m\u{202e}.jsonl";
    cli.write_rows(input, &["answer", "refuse", "break", "html"].map(row));
    cli.write("bad\u{1b}[31m.jsonl", format!("{STEERING}\n{{\"{STEERING}\":1}}\n"));
    let output = "out\u{1b}[32m.jsonl";
    let inputs = [input, "bad\u{1b}[31m.jsonl", "-o", output];
    let more =
        ["-vv", "--max-attempts", "2", "-m", STEERING, "--report", "r\u{7}.json", "--progress", "plain"];
    let url = server.base_url();
    let connection = ["--base-url", &url, "--backoff-base", "1ms"];
    let finished = cli.run(&[&["run"], &inputs[..], &more, &connection].concat()).exits(3);
    assert_harmless(&finished.stderr);
    assert!(finished.stderr.contains("owned") && finished.stderr.contains("again in"), "{}", finished.stderr);

    for arguments in [&["report", output][..], &["report", output, "--json"]] {
        let finished = cli.run(arguments).exits(0);
        assert_harmless(&finished.stdout);
        assert!(finished.stdout.contains("owned"), "{}", finished.stdout);
    }
    let json = cli.run(&["report", output, "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["by_model"].to_string().contains(json!(STEERING).to_string().trim_matches('"')), "{json}");
    for arguments in [&["models", "--base-url", &url][..], &["models", "--json", "--base-url", &url]] {
        let finished = cli.run(arguments).exits(0);
        assert_harmless(&(finished.stdout + &finished.stderr));
    }
    let dry = cli.run(&[&["run", "--dry-run"], &inputs[..], &["-m", "m"], &connection].concat());
    assert_harmless(&(dry.stdout + &dry.stderr));
    let missing = cli.run(&["report", &format!("{STEERING}.jsonl")]).exits(1);
    assert_harmless(&missing.stderr);
}

#[test]
#[cfg(unix)]
fn what_holds_answers_is_readable_by_whom_the_user_lets() {
    use std::os::unix::fs::PermissionsExt as _;
    for (umask, forbidden) in [("077", 0o077), ("022", 0o022), ("027", 0o027)] {
        let server = Server::echo();
        let cli = Cli::with_prompts(3);
        let url = server.base_url();
        let arguments = [
            "run",
            "-",
            "-o",
            "new/out.jsonl",
            "-m",
            MODEL,
            "--base-url",
            &url,
            "--log-file",
            "new/log",
            "--report",
        ];
        fs::create_dir(cli.path("new")).unwrap();
        for _ in 0..2 {
            let arguments = [&arguments[..], &["new/report.json", "--strict"]].concat();
            let mut running = cli.start_in_shell(&format!("umask {umask};"), &arguments, "");
            running.feed(&cli.read("in.jsonl"));
            running.wait().exits(0);
        }
        let mut files = cli.files();
        files.retain(|file| file.starts_with(cli.path("new")));
        assert!(files.len() >= 6, "{files:?}");
        files.push(cli.path("new/out.jsonl.promptmill"));
        for path in files {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & forbidden, 0, "{mode:o} {}", path.display());
        }
    }
}

#[test]
#[cfg(unix)]
fn a_key_file_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::echo();
    let cli = Cli::with_prompts(1);
    cli.write("key", KEY);
    for (mode, warned) in [(0o644, true), (0o640, true), (0o600, false)] {
        fs::set_permissions(cli.path("key"), fs::Permissions::from_mode(mode)).unwrap();
        let finished = cli.job(&server, &["--api-key-file", "key"]).exits(0);
        assert_eq!(
            finished.stderr.contains("warning: key can be read by others; chmod 600 it"),
            warned,
            "{mode:o}"
        );
    }
}

/// A server with a certificate that nobody has signed; it counts the bytes of requests that it gets to see.
fn self_signed() -> (String, thread::JoinHandle<usize>) {
    let folder = crate::cli::package().join("tests/it/certificate");
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let settings = Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(crate::server::LIMIT)).unwrap();
        let mut connection = ServerConnection::new(settings).unwrap();
        let mut seen = [0; 1024];
        match rustls::Stream::new(&mut connection, &mut stream).read(&mut seen) {
            Ok(read) => read,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "the client said nothing");
                0
            }
        }
    };
    (url, thread::spawn(serve))
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_no_request_and_no_key() {
    let (url, served) = self_signed();
    let cli = Cli::with_prompts(1);
    let finished = cli.run(&["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", &url]).exits(1);
    finished.says("invalid peer certificate").says("signed by an authority that this system trusts");
    assert_eq!(served.join().unwrap(), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_certificate_that_the_user_trusts_is_taken() {
    let (url, served) = self_signed();
    let mut cli = Cli::with_prompts(1);
    let trusted = crate::cli::package().join("tests/it/certificate/certificate.pem");
    cli.set("SSL_CERT_FILE", trusted.to_str().unwrap());
    let job = ["run", "in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--base-url", &url, "--max-wait", "100ms"];
    cli.run(&[&job[..], &["--max-attempts", "1"]].concat());
    assert!(served.join().unwrap() > 0, "the request came through");
}

#[test]
fn no_option_turns_the_check_of_certificates_off() {
    let help = Cli::new().run(&["run", "--help"]).stdout.to_lowercase();
    for word in ["insecure", "no-verify", "skip-verify", "danger"] {
        assert!(!help.contains(word), "{word}");
    }
}

#[test]
fn a_proxy_of_an_unknown_kind_is_refused_and_not_passed_by_and_its_password_is_not_shown() {
    let server = Server::echo();
    let cli = Cli::with_prompts(1);
    for scheme in ["htp", "ftp", "socks"] {
        let proxy = format!("{scheme}://someone:hunter2@127.0.0.1:9");
        let finished = cli.job(&server, &["--proxy", &proxy]).exits(2);
        let finished = finished.says(format!("--proxy: {scheme}:// is no kind of proxy"));
        assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
    }
    assert_eq!(server.count(), 0);
}
