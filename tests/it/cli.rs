//! The fixture that a test runs promptmill with: a folder of its own, a clean environment, a limit on every wait.

use std::fmt::Display;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{LIMIT, Server};

/// The key that stands in `OPENAI_API_KEY`, unless a test says otherwise.
pub const KEY: &str = "sk-test-4f9c2d71b8e05a36";

/// The model that jobs ask for, unless a test says otherwise.
pub const MODEL: &str = "test-model";

/// A place to run promptmill in. File names are relative to its folder, for the tests as for promptmill.
pub struct Cli {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Cli {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let environment = [
            ("HOME", at("")),
            ("TMPDIR", at("tmp")),
            ("LANG", "C.UTF-8".into()),
            ("OPENAI_API_KEY", KEY.into()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { folder, environment }
    }

    /// A place with this input, `in.jsonl`: a JSON value a line.
    pub fn with_rows(rows: &[Value]) -> Self {
        let cli = Self::new();
        cli.write_rows("in.jsonl", rows);
        cli
    }

    /// A place with an input, `in.jsonl`, of so many short prompts with ids.
    pub fn with_prompts(count: usize) -> Self {
        let row = |i| json!({"id": format!("r{i}"), "prompt": format!("What is the square of {i}?")});
        Self::with_rows(&(0..count).map(row).collect::<Vec<_>>())
    }

    /// Sets a variable of the environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable out of the environment.
    pub fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders on the way to it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn write_rows(&self, name: &str, rows: &[Value]) {
        self.write(name, lines(rows.iter().map(Value::to_string)));
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The rows of `out.jsonl`.
    pub fn answers(&self) -> Vec<Value> {
        rows_of(&self.read("out.jsonl"))
    }

    /// All files in the folder and below.
    pub fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files
    }

    /// Runs promptmill to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).wait()
    }

    /// Runs promptmill with this on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        let mut running = self.start(arguments);
        running.process.0.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        running.wait()
    }

    /// Starts promptmill.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_program(env!("CARGO_BIN_EXE_promptmill"), arguments)
    }

    /// Starts promptmill from a shell that says something before, like `ulimit -n 20;`, and redirects behind, like
    /// `2>&-`.
    pub fn start_in_shell(&self, before: &str, arguments: &[&str], redirects: &str) -> Running {
        let script = format!("{before} exec \"$0\" \"$@\" {redirects}");
        let all = [&["-c", &script, env!("CARGO_BIN_EXE_promptmill")], arguments].concat();
        self.start_program("/bin/sh", &all)
    }

    /// Starts another program in this place.
    pub fn start_program(&self, program: &str, arguments: &[&str]) -> Running {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (Pipe::of(child.stdout.take()), Pipe::of(child.stderr.take()));
        Running { process: Process(child), stdout, stderr }
    }

    /// Runs the job `in.jsonl -o out.jsonl` against a server, with these further arguments.
    pub fn job(&self, server: &Server, arguments: &[&str]) -> Finished {
        self.start_job(server, arguments).wait()
    }

    /// Starts that job.
    pub fn start_job(&self, server: &Server, arguments: &[&str]) -> Running {
        self.start_on(server, &[&["in.jsonl", "-o", "out.jsonl"], arguments].concat())
    }

    /// Runs a job against a server, with an input and an output of its own.
    pub fn run_on(&self, server: &Server, arguments: &[&str]) -> Finished {
        self.start_on(server, arguments).wait()
    }

    /// Starts a `run` against a server: quick to try again, and quiet.
    pub fn start_on(&self, server: &Server, arguments: &[&str]) -> Running {
        let url = server.base_url();
        let mut all = vec!["run", "--base-url", &url, "--progress", "none"];
        all.extend(["--backoff-base", "1ms", "--backoff-max", "5ms"]);
        if !arguments.contains(&"-m") {
            all.extend(["-m", MODEL]);
        }
        all.extend(arguments);
        self.start(&all)
    }
}

/// A text of these lines, each ended.
pub fn lines(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The JSON values of a JSONL text. Every line must be one and the last must be whole.
pub fn rows_of(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is torn");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The values of one field of all rows.
pub fn field<'a>(rows: &'a [Value], name: &str) -> Vec<&'a Value> {
    rows.iter().map(|row| &row[name]).collect()
}

/// Asserts that a row failed in this way, with a message that starts so.
pub fn assert_failed(row: &Value, kind: &str, message_start: &str) {
    assert_eq!(row["status"], "error", "{row}");
    assert_eq!(row["output"], Value::Null, "{row}");
    assert_eq!(row["error"]["kind"], kind, "{row}");
    let message = row["error"]["message"].as_str().unwrap();
    assert!(message.starts_with(message_start), "{message:?} does not start with {message_start:?}");
}

/// A process that does not outlive the test that started it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A promptmill that is under way.
pub struct Running {
    process: Process,
    stdout: Pipe,
    stderr: Pipe,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// A signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Writes to its standard input, which stays open.
    pub fn feed(&mut self, input: &str) {
        self.process.0.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
    }

    /// The most memory that it has used so far, in bytes; 0 when it has just ended.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.map_or(0, |peak| peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
    }

    /// SIGKILL: the process has no say in it.
    pub fn kill(self) {
        drop(self.process);
    }

    /// Whether it ends within this time.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        self.stdout.ends_within(limit)
    }

    /// Lets it go on for this time, and asserts that it does.
    pub fn goes_on_for(&mut self, time: Duration) {
        assert!(!self.ends_within(time), "it has ended");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Finished {
        drop(self.process.0.stdin.take());
        let ended = self.stdout.ends_within(LIMIT) && self.stderr.ends_within(LIMIT);
        assert!(ended, "promptmill was not finished after {LIMIT:?}");
        let [stdout, stderr] =
            [self.stdout, self.stderr].map(|pipe| String::from_utf8(pipe.content).unwrap());
        Finished { code: self.process.0.wait().unwrap().code(), stdout, stderr }
    }
}

/// What comes out of a child, read on a thread so that no pipe ever fills up.
struct Pipe {
    arriving: Receiver<Vec<u8>>,
    content: Vec<u8>,
    ended: bool,
}

impl Pipe {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let mut pipe = pipe.unwrap();
        let (sender, arriving) = mpsc::channel();
        thread::spawn(move || {
            let mut content = Vec::new();
            pipe.read_to_end(&mut content).unwrap();
            sender.send(content)
        });
        Self { arriving, content: Vec::new(), ended: false }
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        if !self.ended
            && let Ok(content) = self.arriving.recv_timeout(limit)
        {
            (self.content, self.ended) = (content, true);
        }
        self.ended
    }
}

/// What a promptmill left behind when it ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that it could not start (1) or was called in a wrong way (2).
    #[track_caller]
    pub fn refuses(self) -> Self {
        assert!(matches!(self.code, Some(1 | 2)), "{self:?}");
        self
    }

    /// Asserts that standard error has this in it.
    #[track_caller]
    pub fn says(self, text: impl Display) -> Self {
        assert!(self.stderr.contains(&text.to_string()), "no {text} in: {}", self.stderr);
        self
    }
}

/// The folder of the package.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
