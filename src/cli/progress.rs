//! Events onto a bar, plain lines or JSON. Watching only counts; a thread of its own draws.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::ProgressArg;
use super::screen::Screen;
use super::terminal::QuietKeys;
use crate::domain::{Event, Notice, Resumption};
use crate::input::Inputs;
use crate::pipeline::{Controls, Selection, Watcher};
use crate::report::{count, duration};

const BAR_EVERY: Duration = Duration::from_millis(100);
const PLAIN_EVERY: Duration = Duration::from_secs(10);
const JSON_EVERY: Duration = Duration::from_secs(1);
const LEAST_SAID_WAIT: Duration = Duration::from_secs(2);
const SAY_LIMITED_EVERY: Duration = Duration::from_secs(30);

/// What has happened so far.
#[derive(Debug, Default)]
struct Counts {
    ok: AtomicU64,
    failed: AtomicU64,
    resumed: AtomicU64,
    retries: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    /// All rows of the job; 0 while they are not counted yet.
    total: AtomicU64,
}

impl Counts {
    fn get(number: &AtomicU64) -> u64 {
        number.load(Ordering::Relaxed)
    }

    fn done(&self) -> u64 {
        Self::get(&self.ok) + Self::get(&self.failed) + Self::get(&self.resumed)
    }
}

/// The watcher's side.
#[derive(Debug)]
pub(super) struct Counter {
    counts: Arc<Counts>,
    screen: Screen,
    said_limited: Option<Instant>,
}

impl Counter {
    /// Whether a notice is worth a line: short waits at a limit are the daily bread of a run at full speed.
    fn is_news(&mut self, notice: &Notice) -> bool {
        let Notice::RateLimited { wait, .. } = notice else { return true };
        let recently = self.said_limited.is_some_and(|said| said.elapsed() < SAY_LIMITED_EVERY);
        let news = *wait >= LEAST_SAID_WAIT && !recently;
        if news {
            self.said_limited = Some(Instant::now());
        }
        news
    }
}

impl Watcher for Counter {
    fn event(&mut self, event: &Event) {
        let add = |number: &AtomicU64, n: u64| {
            number.fetch_add(n, Ordering::Relaxed);
        };
        match event {
            Event::Finished { failure, usage, .. } => {
                add(&self.counts.prompt_tokens, usage.prompt_tokens.unwrap_or_default().0);
                add(&self.counts.completion_tokens, usage.completion_tokens.unwrap_or_default().0);
                add(if failure.is_none() { &self.counts.ok } else { &self.counts.failed }, 1);
            }
            Event::Retrying { .. } => add(&self.counts.retries, 1),
            Event::Resumed(rows) => add(&self.counts.resumed, *rows),
            Event::Notice(notice) if self.is_news(notice) => self.screen.say(&in_words(notice)),
            Event::Notice(_) => {}
        }
    }
}

pub(super) fn in_words(notice: &Notice) -> String {
    match notice {
        Notice::EndpointDown { message, at_most } => format!(
            "warning: {message}; trying again for up to {} (--max-wait)",
            humantime::format_duration(*at_most)
        ),
        Notice::Resuming(resumption) => resuming(resumption),
        Notice::EndpointUp { endpoint } => format!("{} answers again", named(endpoint.as_ref())),
        Notice::RateLimited { endpoint, wait } => {
            format!("{} is at its limit; all wait {}", named(endpoint.as_ref()), duration(*wait))
        }
    }
}

fn named(endpoint: Option<&String>) -> &str {
    endpoint.map_or("the endpoint", String::as_str)
}

/// What became of the rows of an earlier run, in one line.
fn resuming(found: &Resumption) -> String {
    let moved = if found.moved > 0 { format!(" ({} moved)", count(found.moved)) } else { String::new() };
    let mut parts = vec![format!("{} kept{moved}", count(found.kept))];
    let others = [
        (found.edited, "edited"),
        (found.new, "not answered yet"),
        (found.failed, "failed before"),
        (found.left_failed, "failed before and left so"),
        (found.bad, "bad"),
        (found.gone, "gone from the input"),
    ];
    parts.extend(others.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(n))));
    format!("resuming: {}; {} to send", parts.join(", "), count(found.to_send()))
}

/// The drawing side. Dropping it ends the drawing.
#[derive(Debug)]
pub(super) struct Display {
    end: Option<mpsc::Sender<()>>,
    drawer: Option<JoinHandle<()>>,
    stop_counting: Arc<AtomicBool>,
    _quiet_keys: Option<QuietKeys>,
}

/// Starts the display.
pub(super) fn start(
    mode: ProgressArg,
    quiet: bool,
    screen: &Screen,
    inputs: &Inputs,
    selection: Selection,
    controls: &Controls,
) -> (Counter, Display) {
    let counts = Arc::new(Counts::default());
    let counter = Counter { counts: counts.clone(), screen: screen.clone(), said_limited: None };
    let stop_counting = Arc::new(AtomicBool::new(false));
    let mode = match mode {
        _ if quiet => ProgressArg::None,
        ProgressArg::Auto if stderr().is_terminal() => ProgressArg::Bar,
        ProgressArg::Auto => ProgressArg::Plain,
        mode => mode,
    };
    if mode == ProgressArg::None {
        return (counter, Display { end: None, drawer: None, stop_counting, _quiet_keys: None });
    }
    count_rows(inputs.clone(), selection, counts.clone(), stop_counting.clone());
    let (end, ended) = mpsc::channel();
    let drawer = Drawer { counts, controls: controls.clone(), started: Instant::now() };
    let bar = (mode == ProgressArg::Bar).then(bar);
    if let Some(bar) = &bar {
        screen.set_bar(bar.clone());
    }
    let quiet_keys = bar.as_ref().map(|_| QuietKeys::start());
    let drawer =
        std::thread::Builder::new().name("progress".into()).spawn(move || drawer.draw(mode, bar, &ended));
    (counter, Display { end: Some(end), drawer: drawer.ok(), stop_counting, _quiet_keys: quiet_keys })
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop_counting.store(true, Ordering::Relaxed);
        self.end.take();
        if let Some(drawer) = self.drawer.take() {
            let _ = drawer.join();
        }
    }
}

/// Counts the rows beside the run, for the bar's length; a run does not wait for it.
fn count_rows(inputs: Inputs, selection: Selection, counts: Arc<Counts>, stop: Arc<AtomicBool>) {
    let counting = move || {
        // What is wrong with the input, the run says.
        if let Ok(Some(rows)) = inputs.count(&stop) {
            let rows = rows.saturating_sub(selection.offset).min(selection.limit.unwrap_or(u64::MAX));
            counts.total.store(rows, Ordering::Relaxed);
        }
    };
    let _ = std::thread::Builder::new().name("counter".into()).spawn(counting);
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style(false));
    bar
}

fn style(with_total: bool) -> ProgressStyle {
    let template = if with_total { "{bar:12} {percent:>3}% {wide_msg}" } else { "{spinner} {wide_msg}" };
    // The templates are known to be sound.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

struct Drawer {
    counts: Arc<Counts>,
    controls: Controls,
    started: Instant,
}

impl Drawer {
    fn draw(self, mode: ProgressArg, bar: Option<ProgressBar>, ended: &mpsc::Receiver<()>) {
        let every = match mode {
            ProgressArg::Bar => BAR_EVERY,
            ProgressArg::Json => JSON_EVERY,
            _ => PLAIN_EVERY,
        };
        while ended.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
            if let Some(bar) = &bar {
                self.move_bar(bar);
                continue;
            }
            let line = if mode == ProgressArg::Json { self.json() } else { self.line() };
            let _ = writeln!(stderr().lock(), "{line}");
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn move_bar(&self, bar: &ProgressBar) {
        let total = Counts::get(&self.counts.total);
        if total > 0 && bar.length().is_none() {
            bar.set_length(total);
            bar.set_style(style(true));
        }
        bar.set_position(self.counts.done());
        bar.set_message(self.line());
        bar.tick();
    }

    fn line(&self) -> String {
        let counts = &self.counts;
        let (done, total) = (counts.done(), Counts::get(&counts.total));
        let of = if total > 0 { format!("/{}", count(total)) } else { String::new() };
        let rate = self.rate();
        let (input, output) = (Counts::get(&counts.prompt_tokens), Counts::get(&counts.completion_tokens));
        let mut parts = vec![
            format!("{}{of} rows", count(done)),
            if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{rate:.0}/s") },
        ];
        parts.extend(left(done, total, rate).map(|left| format!("{} left", duration(left))));
        let gauge = &self.controls.gauge;
        parts.push(format!("{} of {} in flight", gauge.in_flight(), gauge.limit()));
        for (name, number) in [("retries", &counts.retries), ("failed", &counts.failed)] {
            let number = Counts::get(number);
            if number > 0 {
                parts.push(format!("{} {name}", count(number)));
            }
        }
        // Last, because a narrow terminal cuts the line.
        parts.push(format!("tokens {} in {} out", short(input), short(output)));
        parts.join(", ")
    }

    fn json(&self) -> String {
        let counts = &self.counts;
        let total = Counts::get(&counts.total);
        let left = left(counts.done(), total, self.rate()).map(|left| left.as_secs());
        serde_json::json!({
            "rows": counts.done(), "total": (total > 0).then_some(total),
            "ok": Counts::get(&counts.ok), "failed": Counts::get(&counts.failed),
            "resumed": Counts::get(&counts.resumed), "retries": Counts::get(&counts.retries),
            "prompt_tokens": Counts::get(&counts.prompt_tokens),
            "completion_tokens": Counts::get(&counts.completion_tokens),
            "in_flight": self.controls.gauge.in_flight(), "concurrency": self.controls.gauge.limit(),
            "elapsed_s": self.started.elapsed().as_secs(), "eta_s": left,
        })
        .to_string()
    }

    /// Rows answered a second, those of earlier runs left out.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with a few digits")]
    fn rate(&self) -> f64 {
        let new = self.counts.done() - Counts::get(&self.counts.resumed).min(self.counts.done());
        new as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }
}

/// How long the rest will take.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn left(done: u64, total: u64, rate: f64) -> Option<Duration> {
    (total > done && rate > 0.0).then(|| Duration::try_from_secs_f64((total - done) as f64 / rate).ok())?
}

/// A count in a few characters: `999`, `12.3k`, `4.5M`.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn short(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}
