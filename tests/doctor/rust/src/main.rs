//! Real reqwest on real Tokio, hung in the ways the doctor must name, and healthy twins.
//!
//! usage: doctor-peer CASE PORT. Prints "ready PID" when the scene stands.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

const FOR_EVER: Duration = Duration::from_secs(3600);

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(client: &reqwest::Client, url: &str) {
    client.get(url).send().await.unwrap().bytes().await.unwrap();
}

fn ready() {
    println!("ready {}", std::process::id());
}

/// Wait until the server at `url` has closed a connection of ours, and we have not. False: we have,
/// because the runtime was still being driven then.
fn wait_closed(url: &str) -> bool {
    let port: u16 = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let is_open = format!(":{:04X} 01 ", port);
    let is_closed = format!(":{:04X} 08 ", port); // CLOSE_WAIT
    loop {
        let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        if sockets.contains(&is_closed) {
            return true;
        }
        if !sockets.contains(&is_open) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Start `future` on another runtime and go on.
fn spawn_on(runtime: &Runtime, future: impl Future<Output = ()> + Send + 'static) {
    runtime.spawn(future);
    std::thread::sleep(Duration::from_millis(300));
}

/// The connection belongs to a runtime that nobody drives any more; another runtime reuses it.
fn parked(url: String) {
    parked_after(url, Duration::from_millis(100));
}

/// The same, but the owner stopped with the connection's task still queued to run: waking a task that is
/// queued already leaves no trace in the kernel, so this hang cannot be told from a runtime at rest.
fn parked_mid_task(url: String) {
    parked_after(url, Duration::ZERO);
}

fn parked_after(url: String, settle: Duration) {
    let client = client();
    let first = current_thread();
    first.block_on(async {
        get(&client, &url).await;
        if !settle.is_zero() {
            tokio::time::sleep(settle).await; // the connection's task comes to rest
        }
    });
    let second = multi_thread(1);
    spawn_on(&second, async move { get(&client, &url).await });
    ready();
    std::thread::sleep(FOR_EVER);
    drop(first);
}

/// The same two runtimes, but the owner has a worker that drives it.
fn parked_ok(url: String) {
    let client = client();
    let first = multi_thread(1);
    let shared = client.clone();
    let again = url.clone();
    first.block_on(async move { first_request(shared, again).await });
    let second = multi_thread(1);
    spawn_on(&second, async move {
        loop {
            get(&client, &url).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    ready();
    std::thread::sleep(FOR_EVER);
    drop(first);
}

async fn first_request(client: reqwest::Client, url: String) {
    tokio::spawn(async move { get(&client, &url).await }).await.unwrap();
}

/// Nobody asks anything; the server has closed the idle connection of the parked runtime.
fn idle_closed(url: String) {
    let client = client();
    let first = current_thread();
    loop {
        first.block_on(get(&client, &url));
        if wait_closed(&url) {
            break;
        }
    }
    ready();
    std::thread::sleep(FOR_EVER);
    drop((first, client));
}

/// The owner's only worker sits in user code; another runtime reuses its connection.
fn blocked(url: String) {
    let client = client();
    let first = multi_thread(1);
    let shared = client.clone();
    let again = url.clone();
    first.block_on(async move { first_request(shared, again).await });
    first.spawn(async { user_code_blocks() });
    std::thread::sleep(Duration::from_millis(100));
    let second = multi_thread(1);
    spawn_on(&second, async move { get(&client, &url).await });
    ready();
    std::thread::sleep(FOR_EVER);
}

/// The request is out, the worker blocks, the answer lies unread.
fn blocked_unread(url: String) {
    let client = client();
    let first = multi_thread(1);
    first.spawn(async move {
        tokio::spawn(async move { get(&client, &url).await });
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        user_code_blocks()
    });
    std::thread::sleep(Duration::from_millis(500));
    ready();
    std::thread::sleep(FOR_EVER);
}

/// Blocking work where it belongs.
fn blocked_ok(url: String) {
    let client = client();
    let first = multi_thread(1);
    first.spawn_blocking(user_code_blocks);
    let shared = client.clone();
    first.spawn(async move {
        loop {
            get(&shared, &url).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    ready();
    std::thread::sleep(FOR_EVER);
}

#[inline(never)]
fn user_code_blocks() {
    std::thread::sleep(FOR_EVER);
    std::hint::black_box(());
}

/// A task of a current_thread runtime waits for a task of the same runtime, synchronously.
fn self_wait(url: String) {
    let client = client();
    current_thread().block_on(async move {
        let (sender, receiver) = std::sync::mpsc::channel();
        get(&client, &url).await;
        tokio::spawn(async move {
            get(&client, &url).await;
            sender.send(()).unwrap();
        });
        ready();
        user_code_waits(receiver);
    });
}

#[inline(never)]
fn user_code_waits(receiver: std::sync::mpsc::Receiver<()>) {
    receiver.recv().unwrap();
    std::hint::black_box(());
}

/// One request, for as long as the server likes.
fn one_request(url: String) {
    let runtime = multi_thread(2);
    let client = client();
    spawn_on(&runtime, async move { get(&client, &url).await });
    ready();
    std::thread::sleep(FOR_EVER);
}

/// Several runtimes, each with its client, never at rest.
fn busy(url: String) {
    let runtimes: Vec<Runtime> = (0..2).map(|_| multi_thread(2)).collect();
    for runtime in &runtimes {
        let client = client();
        for _ in 0..4 {
            let client = client.clone();
            let url = url.clone();
            runtime.spawn(async move {
                loop {
                    get(&client, &url).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    ready();
    std::thread::sleep(FOR_EVER);
}

/// Several runtimes at rest with idle connections.
fn idle(url: String) {
    let runtimes: Vec<Runtime> = (0..2).map(|_| multi_thread(2)).collect();
    let clients: Vec<reqwest::Client> = (0..2).map(|_| client()).collect();
    for (runtime, client) in runtimes.iter().zip(&clients) {
        runtime.block_on(get(client, &url));
    }
    std::thread::sleep(Duration::from_millis(300));
    ready();
    std::thread::sleep(FOR_EVER);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let url = format!("http://127.0.0.1:{}/", arguments[2]);
    match arguments[1].as_str() {
        "parked" => parked(url),
        "parked-mid-task" => parked_mid_task(url),
        "parked-ok" => parked_ok(url),
        "idle-closed" => idle_closed(url),
        "blocked" => blocked(url),
        "blocked-unread" => blocked_unread(url),
        "blocked-ok" => blocked_ok(url),
        "self-wait" => self_wait(url),
        "one-request" => one_request(url),
        "busy" => busy(url),
        "idle" => idle(url),
        other => panic!("no case {other}"),
    }
}
