#![expect(clippy::cast_precision_loss, reason = "limits as floats")]

use super::simulated::{Kind, Scene, Seen, Told};
use super::*;

const KINDS: [(&str, Kind); 5] = [
    ("bucket of a second", Kind::Bucket(1.0)),
    ("bucket of a minute", Kind::Bucket(60.0)),
    ("fixed minutes", Kind::Fixed(60.0)),
    ("any minute", Kind::Sliding),
    ("fixed seconds", Kind::Fixed(1.0)),
];

const LIMITS: [u64; 3] = [600, 6000, 60_000];

/// Runs a scene for each kind of server and each limit.
fn for_each_server(told: Told, change: impl Fn(&mut Scene, u64), check: impl Fn(&str, Kind, u64, &Seen)) {
    for (name, kind) in KINDS {
        for limit in LIMITS {
            let mut scene = Scene::new(kind, told, limit as f64);
            if limit == 60_000 {
                scene.in_flight = 512;
            }
            change(&mut scene, limit);
            let seen = scene.run();
            let what = format!(
                "{name}, {limit}, {told:?}, {} s: used {:.3}, refused {:.4}, asked {:.1} times",
                scene.seconds,
                seen.used,
                seen.refused,
                seen.asked as f64 / seen.sent as f64
            );
            println!("{what}");
            check(&what, kind, limit, &seen);
        }
    }
}

#[test]
fn a_given_limit_is_used_and_not_passed_whatever_the_server_counts_by() {
    let given = |scene: &mut Scene, limit| {
        scene.seconds = 60.0;
        scene.given.requests_per_minute = Some(limit);
    };
    for_each_server(Told::Nothing, given, |what, _, _, seen| {
        assert!(seen.used >= 0.985 && seen.refused < 0.001, "{what}");
        assert!(seen.asked < 6 * seen.sent, "{what}");
    });
}

#[test]
fn a_limit_in_the_headers_is_found_at_once() {
    let long = |scene: &mut Scene, _| scene.seconds = 300.0;
    for_each_server(Told::Headers, long, |what, _, _, seen| {
        assert!(seen.used >= 0.95 && seen.refused < 0.02, "{what}");
    });
}

#[test]
fn a_limit_is_found_from_refusals_alone() {
    let long = |scene: &mut Scene, _| scene.seconds = 300.0;
    for told in [Told::RetryAfter, Told::Nothing] {
        for_each_server(told, long, |what, kind, limit, seen| {
            // Seconds that are counted one by one are no real server's; there a first guess takes long to mend.
            let used = if matches!(kind, Kind::Fixed(1.0)) { 0.87 } else { 0.96 };
            // Those that were in flight before the first refusal weigh more at a small limit.
            let refused = if limit == 600 { 0.055 } else { 0.01 };
            assert!(seen.used >= used && seen.refused < refused, "{what}");
        });
    }
}

#[test]
fn unequal_prompts_use_a_limit_of_tokens() {
    for (name, kind) in &KINDS[..4] {
        for (limit, least, most) in
            [(60_000_u64, 0.93, 0.05), (600_000, 0.98, 0.001), (6_000_000, 0.98, 0.001)]
        {
            let mut scene = Scene::new(*kind, Told::Nothing, limit as f64);
            (scene.tokens, scene.sizes, scene.seconds) = (true, (10, 4000), 300.0);
            scene.given.tokens_per_minute = Some(limit);
            let seen = scene.run();
            println!("{name}, {limit} tokens: used {:.3}, refused {:.4}", seen.used, seen.refused);
            assert!(seen.used >= least && seen.refused < most, "{name}, {limit}: {seen:?}");
        }
    }
}

#[test]
fn a_limit_that_changes_is_followed() {
    for (told, most) in [(Told::Headers, 0.02), (Told::Nothing, 0.03)] {
        let mut scene = Scene::new(Kind::Bucket(1.0), told, 6000.0);
        scene.limits = vec![(0.0, 6000.0), (120.0, 3000.0), (240.0, 12_000.0)];
        scene.seconds = 420.0;
        let seen = scene.run();
        let share = |from: usize, to: usize, limit: f64| {
            seen.by_second[from..to].iter().sum::<f64>() / (limit / 60.0 * (to - from) as f64)
        };
        let shares = [share(30, 120, 6000.0), share(150, 240, 3000.0), share(360, 420, 12_000.0)];
        println!("{told:?}: {shares:.3?}, refused {:.4}", seen.refused);
        assert!(shares.iter().all(|share| *share > 0.93) && seen.refused < most, "{told:?}: {shares:?}");
    }
}

/// What 64 in flight at 200 ms can do in this network.
const FULL_SPEED: f64 = 64.0 / 0.2055;

#[test]
fn a_server_without_limits_is_not_slowed() {
    let seen = Scene::new(Kind::Unlimited, Told::Nothing, 60.0).run();
    assert!(seen.accepted / 120.0 > FULL_SPEED * 0.97, "{}", seen.accepted / 120.0);
}

#[test]
fn refusals_that_have_nothing_to_do_with_pace_slow_nothing_for_long() {
    for (stray, least) in [(0.001, 0.97), (0.2, 0.75)] {
        let mut scene = Scene::new(Kind::Unlimited, Told::Nothing, 60.0);
        (scene.stray, scene.seconds) = (stray, 300.0);
        let seen = scene.run();
        println!("stray {stray}: {:.3}", seen.sent as f64 / 300.0 / FULL_SPEED);
        assert!(seen.sent as f64 / 300.0 > FULL_SPEED * least, "{stray}: {}", seen.sent);
    }
}

fn told(limit: u64) -> RateLimits {
    let requests = RateLimit { limit: Some(limit), ..RateLimit::default() };
    RateLimits { requests, ..RateLimits::default() }
}

#[test]
fn what_the_server_tells_lowers_a_given_limit_and_never_raises_it() {
    let now = Instant::now();
    let given = GivenLimits { requests_per_minute: Some(600), ..GivenLimits::default() };
    let mut limiter = Limiter::new(given, now);
    let requests = |limiter: &Limiter| limiter.standing().requests;
    for (said, per_minute, source) in
        [(6000, 600, LimitSource::Given), (300, 300, LimitSource::Told), (900, 600, LimitSource::Given)]
    {
        let charge = limiter.sent(Size::default(), now);
        limiter.answered(charge, &Usage::default(), Some(&told(said)), now);
        assert_eq!(requests(&limiter), Some(LimitInForce { per_minute, source }));
    }
}

#[test]
fn a_limit_of_a_day_is_not_taken_for_one_of_a_minute() {
    let now = Instant::now();
    let mut limiter = Limiter::new(GivenLimits::default(), now);
    let charge = limiter.sent(Size::default(), now);
    let mut day = told(50);
    day.requests.reset = Some(Duration::from_secs(1728));
    limiter.answered(charge, &Usage::default(), Some(&day), now);
    assert_eq!(limiter.standing(), Standing::default());
}

#[test]
fn a_request_larger_than_a_minute_of_tokens_goes_when_all_before_it_is_through() {
    let start = Instant::now();
    let given = GivenLimits { tokens_per_minute: Some(1000), ..GivenLimits::default() };
    let mut limiter = Limiter::new(given, start);
    let large = Size { prompt_bytes: 8000, max_completion_tokens: Some(1000) };
    let mut now = start;
    for _ in 0..2 {
        while let Err(at) = limiter.ready(large, now) {
            assert!(at > now);
            now = at;
        }
        limiter.sent(large, now);
    }
    let seconds = (now - start).as_secs();
    assert!((180..184).contains(&seconds), "3,000 tokens at 1,000 a minute: {seconds} s");
}

#[test]
fn the_requests_of_a_day_come_back_after_a_day() {
    let start = Instant::now();
    let given = GivenLimits { requests_per_day: Some(3), ..GivenLimits::default() };
    let mut limiter = Limiter::new(given, start);
    for _ in 0..3 {
        assert_eq!(limiter.ready(Size::default(), start), Ok(()));
        limiter.sent(Size::default(), start);
    }
    let back = limiter.ready(Size::default(), start).unwrap_err();
    assert_eq!(limiter.day_used_up_until(start), Some(back));
    assert!(back >= start + Duration::from_hours(24) && back <= start + Duration::from_hours(25));
    assert_eq!(limiter.ready(Size::default(), back), Ok(()));
}
