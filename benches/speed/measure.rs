//! Programs as children: on which core they run, how long, how much of a processor and how much memory they took.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// What a program took.
#[derive(Clone, Copy)]
pub struct Took {
    pub wall: Duration,
    /// Of all its threads, in the program and in the system for it.
    pub cpu: Duration,
    pub peak_kib: u64,
}

impl Took {
    /// The less disturbed of two measurements: what else runs on the machine only ever adds.
    pub fn better(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            cpu: self.cpu.min(other.cpu),
            peak_kib: self.peak_kib.min(other.peak_kib),
        }
    }
}

/// Which core a program runs on.
#[derive(Clone, Copy)]
pub enum Core {
    Server,
    Client,
}

/// Whether server and client can have a core each.
pub static CORES_APART: LazyLock<bool> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let taskset = Command::new("taskset").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    cores > 1 && taskset.is_ok_and(|status| status.success())
});

/// A program, to be run on this core where that can be said.
pub fn on(core: Core, program: &str) -> Command {
    if !*CORES_APART {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    let core = match core {
        Core::Server => "0",
        Core::Client => "1",
    };
    command.args(["-c", core, program]);
    command
}

/// This program, in another part.
pub fn this(core: Core, part: &str) -> Command {
    let mut command = on(core, std::env::current_exe().unwrap().to_str().unwrap());
    command.arg(part);
    command
}

/// The program that is measured.
pub fn promptmill(core: Core) -> Command {
    on(core, env!("CARGO_BIN_EXE_promptmill"))
}

/// A server that runs until this is dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    /// Starts a server that says where it is on its standard output.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }

    /// The lean server, with this latency in milliseconds.
    pub fn lean(latency: u64) -> Self {
        Self::start(this(Core::Server, "serve").arg(latency.to_string()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Took {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let process = child.id();
    let (ended, has_ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let mut peak = 0;
        while has_ended.recv_timeout(Duration::from_millis(20)).is_err() {
            peak = peak_kib(process).unwrap_or(peak);
        }
        peak
    });
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    // Its figures are there until it is waited for.
    let pid = Pid::from_child(&child);
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let wall = started.elapsed();
    let cpu = cpu(process).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    ended.send(()).unwrap();
    Took { wall, cpu, peak_kib: watch.join().unwrap() }
}

fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// User and system time of all threads of a process, also of one that has ended and was not waited for.
fn cpu(process: u32) -> Option<Duration> {
    const TICKS_A_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything. User and system time are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
}
