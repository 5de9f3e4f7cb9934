//! What the hyper and the reqwest program share: options, the plan of requests, the result line. The
//! contract is that of programs/common.h: closed loop without --rate; with it, latencies count from the
//! moment a request was due.

use std::cell::RefCell;
use std::future::Future;
use std::os::unix::io::{AsRawFd, RawFd};
use std::rc::Rc;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, Semaphore};
use tokio::task::LocalSet;

pub struct Options {
    pub port: u16,
    pub path: String,
    pub connections: usize,
    pub requests: u64,
    pub warm_up: u64,
    pub rate: u64,
    pub upload: usize,
    pub ca_file: Option<String>, /* https, and whom to trust */
    pub http: u64,
}

pub fn parse() -> Options {
    let mut options = Options {
        port: 0,
        path: "/small".into(),
        connections: 1,
        requests: 1,
        warm_up: 0,
        rate: 0,
        upload: 0,
        ca_file: None,
        http: 1,
    };
    let args: Vec<String> = std::env::args().skip(1).collect();

    for pair in args.chunks(2) {
        let value = pair.get(1).unwrap_or_else(|| panic!("{} needs a value", pair[0]));
        let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{} {}: want a number", pair[0], value));
        match pair[0].as_str() {
            "--port" => options.port = number() as u16,
            "--path" => options.path = value.clone(),
            "--connections" => options.connections = number() as usize,
            "--requests" => options.requests = number(),
            "--warm-up" => options.warm_up = number(),
            "--rate" => options.rate = number(),
            "--upload" => options.upload = number() as usize,
            "--tls" => options.ca_file = Some(value.clone()),
            "--http" => options.http = number(),
            other => panic!("unknown option {}", other),
        }
    }
    options
}

impl Options {
    pub fn url(&self) -> String {
        let scheme = if self.ca_file.is_some() { "https" } else { "http" };
        format!("{}://127.0.0.1:{}{}", scheme, self.port, self.path)
    }

    /// The certificate to trust, in PEM.
    pub fn ca_pem(&self) -> Option<Vec<u8>> {
        self.ca_file.as_ref().map(|path| std::fs::read(path).expect("the certificate to trust"))
    }
}

/* ---- latencies, as histogram_index() in programs/common.c ---- */

const BUCKET_COUNT: usize = 128 * 40;

fn histogram_index(value_ns: u64) -> usize {
    if value_ns < 256 {
        return value_ns as usize;
    }
    let shift = 56 - value_ns.leading_zeros() as usize;
    (shift * 128 + (value_ns >> shift) as usize).min(BUCKET_COUNT - 1)
}

fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The timer of --rate: each read says how many more requests are due.
struct Ticks(RawFd);

impl AsRawFd for Ticks {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Ticks {
    fn new(interval_ns: u64) -> Ticks {
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        let every = libc::timespec {
            tv_sec: (interval_ns / 1_000_000_000) as i64,
            tv_nsec: (interval_ns % 1_000_000_000) as i64,
        };
        let ticks = libc::itimerspec { it_interval: every, it_value: every };
        let armed = unsafe { libc::timerfd_settime(fd, 0, &ticks, std::ptr::null_mut()) };
        assert!(fd >= 0 && armed == 0, "make the timer of --rate");
        Ticks(fd)
    }
}

async fn wait_ticks(ticks: &AsyncFd<Ticks>) -> u64 {
    loop {
        let mut guard = ticks.readable().await.expect("wait for the timer");
        let mut count = 0u64;
        let size = unsafe { libc::read(ticks.as_raw_fd(), &mut count as *mut u64 as *mut libc::c_void, 8) };
        if size == 8 {
            return count;
        }
        guard.clear_ready();
    }
}

/* ---- the plan ---- */

/// What the process had used at one moment.
#[derive(Clone, Copy)]
struct Usage {
    user_us: u64,
    system_us: u64,
    at_ns: u64,
}

fn usage() -> Usage {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let asked = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    assert!(asked == 0, "ask for the CPU time used");
    Usage { user_us: us(usage.ru_utime), system_us: us(usage.ru_stime), at_ns: now_ns() }
}

struct Plan {
    requests: u64,
    warm_up: u64,
    started: u64,
    completed: u64,
    body_bytes: u64,
    begin: Usage,
    end: Usage,
    histogram: Vec<u64>, /* empty in a closed loop */
}

impl Plan {
    fn complete(&mut self, size: u64) {
        self.completed += 1;
        self.body_bytes += size;
        if self.completed == self.warm_up {
            self.begin = usage();
        }
        if self.completed == self.requests {
            self.end = usage();
        }
    }
}

fn print(plan: &Plan) {
    let buckets: Vec<String> = (0..plan.histogram.len())
        .filter(|i| plan.histogram[*i] > 0)
        .map(|i| format!("\"{}\": {}", i, plan.histogram[i]))
        .collect();
    let histogram = match plan.histogram.is_empty() {
        true => String::new(),
        false => format!(", \"histogram\": {{{}}}", buckets.join(", ")),
    };
    let window = format!(
        "{{\"requests\": {}, \"user_us\": {}, \"system_us\": {}, \"wall_ns\": {}}}",
        plan.completed - plan.warm_up,
        plan.end.user_us - plan.begin.user_us,
        plan.end.system_us - plan.begin.system_us,
        plan.end.at_ns - plan.begin.at_ns
    );
    let (completed, bytes) = (plan.completed, plan.body_bytes);
    println!("{{\"requests\": {}, \"bytes\": {}, \"window\": {}{}}}", completed, bytes, window, histogram);
}

async fn run_closed<F, R>(options: &Options, plan: Rc<RefCell<Plan>>, request: Rc<F>)
where
    F: Fn() -> R + 'static,
    R: Future<Output = u64> + 'static,
{
    let requests = options.requests;
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| {
            let (plan, request) = (plan.clone(), request.clone());
            tokio::task::spawn_local(async move {
                while plan.borrow().started < requests {
                    plan.borrow_mut().started += 1;
                    let size = request().await;
                    plan.borrow_mut().complete(size);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task failed");
    }
}

async fn run_open<F, R>(options: &Options, plan: Rc<RefCell<Plan>>, request: Rc<F>)
where
    F: Fn() -> R + 'static,
    R: Future<Output = u64> + 'static,
{
    let interval_ns = 1_000_000_000 / options.rate;
    let places = Rc::new(Semaphore::new(options.connections));
    let completed = Rc::new(Notify::new());
    let ticks = AsyncFd::new(Ticks::new(interval_ns)).expect("register the timer");
    let start_ns = now_ns() + interval_ns;
    let mut due = 0;

    plan.borrow_mut().histogram = vec![0; BUCKET_COUNT];
    while due < options.requests {
        let upto = (due + wait_ticks(&ticks).await).min(options.requests);
        for i in due..upto {
            let (plan, request) = (plan.clone(), request.clone());
            let (places, completed) = (places.clone(), completed.clone());
            tokio::task::spawn_local(async move {
                let _place = places.acquire().await.expect("the semaphore is open");
                let size = request().await;
                let mut plan = plan.borrow_mut();
                plan.complete(size);
                plan.histogram[histogram_index(now_ns().saturating_sub(start_ns + i * interval_ns))] += 1;
                completed.notify_one();
            });
        }
        due = upto;
    }
    while plan.borrow().completed < options.requests {
        completed.notified().await;
    }
}

/// Run the plan on one current-thread runtime; `request` sends one and returns the size of its body.
pub fn run<F, R>(options: &Options, make_request: impl FnOnce() -> F)
where
    F: Fn() -> R + 'static,
    R: Future<Output = u64> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime");
    let plan = Rc::new(RefCell::new(Plan {
        requests: options.requests,
        warm_up: options.warm_up,
        started: 0,
        completed: 0,
        body_bytes: 0,
        begin: usage(),
        end: usage(),
        histogram: Vec::new(),
    }));

    runtime.block_on(LocalSet::new().run_until(async {
        let request = Rc::new(make_request());
        match options.rate {
            0 => run_closed(options, plan.clone(), request).await,
            _ => run_open(options, plan.clone(), request).await,
        }
    }));
    print(&plan.borrow());
}
