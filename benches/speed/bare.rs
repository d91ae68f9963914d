//! The yardstick: the same requests in a loop of the same client, the answers thrown away.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Url};

/// Sends so many requests to this URL, with so many in flight.
pub fn run(arguments: &[String]) {
    let [url, rows, in_flight] = arguments else { unreachable!("bare URL ROWS IN_FLIGHT") };
    let url = Url::parse(&format!("{url}/chat/completions")).unwrap();
    let (rows, in_flight): (u64, usize) = (rows.parse().unwrap(), in_flight.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let client = Client::builder()
        .http1_only()
        .no_proxy()
        .timeout(Duration::from_mins(10))
        .pool_max_idle_per_host(in_flight)
        .build()
        .unwrap();
    let body = Bytes::from(super::cases::request_body());
    let left = Rc::new(Cell::new(rows));
    let tasks = tokio::task::LocalSet::new();
    for _ in 0..in_flight {
        let (client, url, body, left) = (client.clone(), url.clone(), body.clone(), left.clone());
        tasks.spawn_local(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                let request = client.post(url.clone()).header("content-type", "application/json");
                let answer = request.body(body.clone()).send().await.unwrap();
                assert!(answer.bytes().await.unwrap().len() > 500);
            }
        });
    }
    runtime.block_on(tasks);
}
