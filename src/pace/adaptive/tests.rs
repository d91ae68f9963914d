//! The limit against servers of all kinds, with every fixed value beside it.

use super::servers::{Batch, Random, Rows, Run, Server, Slots, run};
use super::*;

/// Answers of 25 to 500 tokens, 4 ms each.
const ROWS: Rows = Rows {
    count: 0,
    seed: 1,
    tokens: (25.0, 500.0),
    first: 0.0,
    per_token: 0.004,
    counted: true,
    offered: |_| usize::MAX,
};

const MOST: usize = 1024;

/// Every power of two, and finer around the number of slots.
fn fixed_values(around: usize) -> Vec<usize> {
    let mut values: Vec<usize> = (0..=10).map(|power| 1 << power).collect();
    values.extend(
        (10..=40).map(|twentieths| around * twentieths / 20).filter(|value| (1..=MOST).contains(value)),
    );
    values.sort_unstable();
    values.dedup();
    values
}

/// What auto reached, as shares of the best fixed value's.
struct Compared {
    throughput: f64,
    latency: f64,
    /// The speed over a run of 20 rows a slot, from its first request to its last answer.
    whole: f64,
}

/// The smallest fixed value within 1 % of the most throughput, and auto's figures as shares of its.
fn compare<S: Server>(name: &str, server: impl Fn() -> S, around: usize, rows: &Rows) -> Compared {
    let steady = |run: &Run| run.between(run.took * 0.4, run.took * 0.9);
    let fixed: Vec<_> = fixed_values(around)
        .into_iter()
        .map(|value| {
            // As many rows as make a steady state; all of them at a small value would take for ever and show no more.
            let count = rows.count.min(value * 40 + 400);
            (value, steady(&run(server(), &Rows { count, ..*rows }, Concurrency::fixed(value))))
        })
        .collect();
    let most = fixed.iter().map(|(_, (throughput, _))| *throughput).fold(0.0, f64::max);
    let (best, (throughput, latency)) = *fixed.iter().find(|(_, (x, _))| *x >= most * 0.99).unwrap();
    let auto = run(server(), rows, Concurrency::adaptive(MOST));
    let (auto_throughput, auto_latency) = steady(&auto);
    let short = Rows { count: around * 20, ..*rows };
    let whole = run(server(), &short, Concurrency::fixed(best)).took
        / run(server(), &short, Concurrency::adaptive(MOST)).took;
    let (least, largest) = auto.limits(auto.took * 0.4, auto.took * 0.9);
    let compared = Compared { throughput: auto_throughput / most, latency: auto_latency / latency, whole };
    println!(
        "{name:34} best {best:4} {throughput:7.1}  auto {least:4} to {largest:4} {auto_throughput:7.1}  throughput {:5.1} %  \
         latency x{:4.2}  whole run of {} rows {:5.1} %",
        compared.throughput * 100.0,
        compared.latency,
        short.count,
        compared.whole * 100.0,
    );
    compared
}

/// What was asked for: nearly the throughput of the best fixed value, at a latency no more than twice its.
fn check(name: &str, compared: &Compared) {
    assert!(compared.throughput >= 0.9, "{name}: {:.3} of the throughput", compared.throughput);
    assert!(compared.latency <= 2.0, "{name}: {:.2} times the latency", compared.latency);
}

#[test]
fn slots_and_a_line_before_them_are_filled_and_not_much_more() {
    for (slots, least) in [(8, 0.9), (64, 0.75), (500, 0.7)] {
        let plain = Rows { count: (slots * 200).clamp(5000, 60_000), ..ROWS };
        for (kind, rows) in [
            ("answers", plain),
            ("answers after a pause", Rows { first: 0.4, seed: 2, ..plain }),
            ("no token counts", Rows { counted: false, seed: 3, ..plain }),
        ] {
            let name = format!("{slots} slots, {kind}");
            let compared = compare(&name, || Slots::new(move |_| slots, |_| 1.0), slots, &rows);
            check(&name, &compared);
            let least = if rows.counted { least } else { 0.6 };
            assert!(compared.whole >= least, "{name}: {:.3} of a short run", compared.whole);
        }
    }
}

#[test]
fn a_batch_that_slows_down_gradually_is_filled_while_it_is_worth_it() {
    for (knee, doubles, largest) in
        [(32.0, 128.0, 128), (16.0, 64.0, 256), (8.0, 16.0, 64), (64.0, 256.0, 512)]
    {
        let plain = Rows { count: 40_000, ..ROWS };
        for (kind, rows) in [("answers", plain), ("after a pause", Rows { first: 0.4, seed: 2, ..plain })] {
            let name = format!("batch of {largest}, knee at {knee}, {kind}");
            check(&name, &compare(&name, || Batch::new(knee, doubles, largest), largest, &rows));
        }
    }
}

/// Answers in a second, whatever their length.
const EVEN: Rows = Rows { first: 1.0, per_token: 0.0, ..ROWS };

#[test]
fn a_server_without_limits_gets_the_most() {
    let auto = run(
        Slots::new(|_| usize::MAX, |_| 1.0),
        &Rows { count: 20_000, ..EVEN },
        Concurrency::adaptive(MOST),
    );
    assert_eq!(auto.limit_at(auto.took), MOST);
    assert!(auto.limit_at(15.0) == MOST, "{} after fifteen round trips", auto.limit_at(15.0));
    let few =
        run(Slots::new(|_| usize::MAX, |_| 1.0), &Rows { count: 2000, ..EVEN }, Concurrency::adaptive(50));
    assert_eq!(few.limits(0.0, few.took).1, 50);
}

#[test]
fn slots_that_go_and_come_back_are_followed() {
    let slots = |now: f64| if (200.0..500.0).contains(&now) { 16 } else { 64 };
    let auto = run(Slots::new(slots, |_| 1.0), &Rows { count: 80_000, ..ROWS }, Concurrency::adaptive(MOST));
    let [before, between, after] = [(100.0, 200.0), (300.0, 500.0), (600.0, 800.0)]
        .map(|(from, to)| (auto.between(from, to), auto.limits(from, to)));
    println!("64, 16, 64 slots: {before:?} {between:?} {after:?}");
    assert!(before.0.0 > 57.0 && between.0.0 > 14.4 && after.0.0 > 57.0);
    assert!(between.0.1 < 2.0 * 0.64 * 1.2, "{between:?}");
}

#[test]
fn a_server_that_refuses_beyond_a_number_is_kept_just_below_it() {
    let mut server = Slots::new(|_| usize::MAX, |_| 1.0);
    server.refuses = |_| 32;
    let auto = run(server, &Rows { count: 20_000, ..ROWS }, Concurrency::adaptive(MOST));
    let steady = (auto.took * 0.3, auto.took * 0.95);
    let (throughput, _) = auto.between(steady.0, steady.1);
    println!(
        "503 beyond 32: {throughput:.1} of 32, {} refused, {:?}",
        auto.refused,
        auto.limits(steady.0, steady.1)
    );
    assert!(throughput > 0.85 * 32.0, "{throughput}");
    assert!(auto.refused < 20_000 / 50, "{}", auto.refused);
}

#[test]
fn a_minute_of_refusals_is_forgotten_in_another() {
    let mut server = Slots::new(|_| 64, |_| 1.0);
    server.refuses = |now| if (100.0..160.0).contains(&now) { 0 } else { usize::MAX };
    let auto = run(server, &Rows { count: 40_000, ..ROWS }, Concurrency::adaptive(MOST));
    let after = auto.between(220.0, 300.0);
    println!("a minute of 503: limit {} after it, then {after:?}", auto.limit_at(160.0));
    assert!(auto.limit_at(160.0) == 1 && after.0 > 57.0, "{after:?}");
}

#[test]
fn a_bad_minute_is_lived_through() {
    let slow = |now: f64| if (120.0..180.0).contains(&now) { 5.0 } else { 1.0 };
    let auto = run(Slots::new(|_| 64, slow), &Rows { count: 40_000, ..ROWS }, Concurrency::adaptive(MOST));
    let [during, after] =
        [(120.0, 180.0), (200.0, 350.0)].map(|(from, to)| (auto.between(from, to), auto.limits(from, to)));
    println!("a bad minute of 64 slots: {during:?} then {after:?}");
    assert!(during.1.0 >= 32, "{during:?}");
    assert!(after.0.0 > 57.0 && after.1.1 <= 128, "{after:?}");
}

#[test]
fn a_pool_that_is_not_full_proves_nothing() {
    let offered = |now: f64| if now < 100.0 { 5 } else { usize::MAX };
    let rows = Rows { count: 60_000, offered, ..ROWS };
    let auto = run(Slots::new(|_| 200, |_| 1.0), &rows, Concurrency::adaptive(MOST));
    assert_eq!(auto.limits(0.0, 99.0), (8, 8));
    let full = auto.between(150.0, 200.0);
    println!("200 slots, 5 rows at a time for 100 s: then {full:?}");
    assert!(full.0 > 180.0, "{full:?}");
}

#[test]
fn a_pool_that_becomes_empty_in_mid_run_keeps_its_limit() {
    let offered = |now: f64| if (100.0..300.0).contains(&now) { 5 } else { usize::MAX };
    let rows = Rows { count: 30_000, offered, ..ROWS };
    let auto = run(Slots::new(|_| 64, |_| 1.0), &rows, Concurrency::adaptive(MOST));
    let (least, most) = auto.limits(110.0, 299.0);
    assert!(least == most && (48..=100).contains(&least), "{least} to {most}");
}

#[test]
fn a_server_of_microseconds_is_not_starved() {
    // One request at a time, 20 µs each, and now and then a millisecond.
    let mut noise = Random(7);
    let slow: Vec<f64> = (0..1000).map(|_| if noise.share() < 0.02 { 50.0 } else { 1.0 }).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let slow = move |now: f64| slow[(now * 1e5) as usize % 1000];
    let rows = Rows { count: 100_000, first: 20e-6, per_token: 0.0, ..ROWS };
    let auto = run(Slots::new(|_| 1, slow), &rows, Concurrency::adaptive(MOST));
    let (least, most) = auto.limits(0.0, auto.took);
    println!("20 µs: limits {least} to {most}");
    assert!(least >= 8, "{least} to {most}");
}

#[test]
fn a_fixed_number_stays() {
    let mut concurrency = Concurrency::fixed(0);
    assert!(concurrency.limit() == 1 && !concurrency.is_adaptive());
    concurrency.overloaded(Instant::now(), Instant::now());
    let run = run(Slots::new(|_| 4, |_| 1.0), &Rows { count: 500, ..ROWS }, Concurrency::fixed(7));
    assert_eq!(run.limits(0.0, run.took), (7, 7));
}

#[test]
fn refusals_of_everything_lead_to_one_and_back() {
    let mut concurrency = Concurrency::adaptive(MOST);
    let start = Instant::now();
    let mut now = start;
    for _ in 0..200 {
        now += Duration::from_millis(100);
        concurrency.overloaded(now, now);
    }
    assert_eq!(concurrency.limit(), 1);
    // What was sent before the last step down says nothing.
    let mut other = Concurrency::adaptive(MOST);
    for _ in 0..50 {
        other.overloaded(start, now);
    }
    assert!(other.limit() >= 5, "{}", other.limit());
    for _ in 0..20_000 {
        let sent = now;
        now += Duration::from_millis(100);
        for in_flight in 1..=concurrency.limit() {
            let latency = Duration::from_millis(100);
            concurrency.answered(Sample { sent, latency, completion_tokens: None, in_flight }, now);
        }
    }
    assert_eq!(concurrency.limit(), MOST);
}
