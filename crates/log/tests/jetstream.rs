//! The JetStream backend fulfils the contract, on one server and on three that replicate, and
//! keeps it while servers are killed.

#![cfg(feature = "jetstream")]
#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "support/nats.rs"]
mod nats;

use cortex_log::conformance::{Fixture, run_all};
use cortex_log::jetstream::Options;
use cortex_log::{
    Commit, CommitId, EventLog, Expect, JetStreamLog, Key, LogError, OutputChunk, OutputKey, Space,
    Tail,
};
use futures::StreamExt;
use nats::Cluster;
use std::sync::Arc;
use std::time::Duration;

fn options(cluster: &Cluster, shards: u32) -> Options {
    Options {
        shards,
        replicas: cluster.servers.len(),
        patience: Duration::from_secs(90),
        deadline: Duration::from_secs(60),
        ..Options::default()
    }
}

struct JetStream {
    url: String,
    options: Options,
}

#[async_trait::async_trait]
impl Fixture for JetStream {
    async fn open(&self) -> Result<Arc<dyn EventLog>, LogError> {
        Ok(Arc::new(JetStreamLog::open(&self.url, self.options.clone()).await?))
    }
}

async fn passes_every_check(servers: usize, shards: u32) {
    let cluster = Cluster::start(servers);
    let options = options(&cluster, shards);
    let failed = run_all(Arc::new(JetStream { url: cluster.url(), options })).await;
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_passes_every_check() {
    passes_every_check(1, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_pass_every_check() {
    passes_every_check(3, 1).await;
}

fn key() -> Key {
    Key::new(Space::Task, "w", "a").unwrap()
}

fn commit(n: u64) -> Commit {
    Commit { id: CommitId::generate(), kind: "Checked".into(), n, body: vec![1; 300].into() }
}

/// Appends a chain of fenced commits and output while `disturb` kills and starts servers; then
/// every acknowledged commit must be there once, in order, and a tail must have seen the same.
async fn survives(mut cluster: Cluster, disturb: impl AsyncFn(&mut Cluster, &Progress)) {
    let log = Arc::new(JetStreamLog::open(&cluster.url(), options(&cluster, 1)).await.unwrap());
    let tail = log.tail(Space::Task, 0, 0).await.unwrap();
    let (go, progress) = tokio::sync::watch::channel(0);
    let progress = Progress(progress);
    let writer = {
        let log = log.clone();
        tokio::spawn(async move {
            let output = OutputKey::new("w", "a", 1).unwrap();
            let (mut expect, mut n) = (Expect::Absent, 0);
            while !go.is_closed() {
                n += 1;
                let given = commit(n);
                let rev = loop {
                    match log.append(&key(), expect, given.clone()).await {
                        Ok(rev) => break rev,
                        Err(LogError::Unknown | LogError::Timeout) => {}
                        Err(e) => panic!("append {n}: {e}"),
                    }
                };
                expect = Expect::At(rev);
                let data = vec![n as u8; 10].into();
                let chunk = OutputChunk { stream: 1, offset: (n - 1) * 10, data };
                assert_eq!(log.append_output(&output, vec![chunk]).await.unwrap(), n * 10);
                go.send_replace(n);
            }
            n
        })
    };
    disturb(&mut cluster, &progress).await;
    drop(progress);
    let written = writer.await.unwrap();
    let counters: Vec<u64> =
        log.read(&key(), 0).await.unwrap().iter().map(|r| r.commit.n).collect();
    assert_eq!(counters, (1..=written).collect::<Vec<_>>());
    let seen: Vec<u64> = tail
        .filter_map(async |item| match item.unwrap() {
            Tail::Event(recorded) => Some(recorded.commit.n),
            Tail::CaughtUp => None,
        })
        .take(written as usize)
        .collect()
        .await;
    assert_eq!(seen, counters);
    let output = OutputKey::new("w", "a", 1).unwrap();
    let mut at = 0;
    while at < written * 10 {
        for chunk in log.read_output(&output, at, 1000).await.unwrap() {
            assert_eq!(chunk.offset, at);
            at = chunk.end();
        }
    }
}

struct Progress(tokio::sync::watch::Receiver<u64>);

impl Progress {
    /// Waits until so many more commits are acknowledged.
    async fn of(&self, more: u64) {
        let mut progress = self.0.clone();
        let from = *progress.borrow();
        let enough = progress.wait_for(|n| *n >= from + more);
        tokio::time::timeout(Duration::from_secs(120), enough).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_and_tails_go_on() {
    survives(Cluster::start(1), async |cluster, progress| {
        for _ in 0..3 {
            progress.of(30).await;
            cluster.servers[0].kill();
            cluster.servers[0].start();
        }
        progress.of(30).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_servers_of_a_cluster_lose_nothing_and_tails_go_on() {
    survives(Cluster::start(3), async |cluster, progress| {
        for i in 0..3 {
            progress.of(20).await;
            cluster.servers[i].kill();
            progress.of(20).await;
            cluster.servers[i].start();
        }
        progress.of(20).await;
        cluster.kill_all();
        cluster.start_all();
        progress.of(20).await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_with_an_unsafe_setting_is_refused_by_name() {
    let cluster = Cluster::start(1);
    let client = async_nats::connect(cluster.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config {
        name: "CX_T_0".into(),
        subjects: (0..64).map(|vp| format!("cx.t.{vp}.>")).collect(),
        max_age: Duration::from_secs(3600),
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let refused = match JetStreamLog::open(&cluster.url(), options(&cluster, 1)).await {
        Err(LogError::Refused(words)) => words,
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert!(refused.contains("CX_T_0") && refused.contains(" should be "), "{refused}");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_an_error_after_the_given_patience() {
    let url = "nats://user:secret@127.0.0.1:1";
    let options = Options { patience: Duration::from_millis(500), ..Options::default() };
    match JetStreamLog::open(url, options).await {
        Err(LogError::Backend(words)) => assert!(!words.contains("secret"), "{words}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[tokio::test]
async fn a_full_stream_is_full_and_its_usage_says_so() {
    let cluster = Cluster::start(1);
    let options = Options { quota: Some(100_000), ..options(&cluster, 1) };
    let log = JetStreamLog::open(&cluster.url(), options).await.unwrap();
    let mut n = 0;
    let full = loop {
        n += 1;
        let given = Commit { body: vec![1; 9_000].into(), ..commit(n) };
        if let Err(e) = log.append(&key(), Expect::Any, given).await {
            break e;
        }
    };
    assert_eq!(full, LogError::Full);
    assert!((9..=11).contains(&n), "{n}");
    assert!(log.usage().await.unwrap().percent() >= 90);
}
