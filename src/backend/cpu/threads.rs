//! Threads of one engine. Work is cut by what it is, never by how many threads there are, so results do not depend on
//! their number.
//!
//! The calling thread works too. The others look for the next piece of work for some microseconds after the last one
//! before they sleep: between two operators of a network that is shorter than waking them. When another context of the
//! engine has them, the caller works alone instead of waiting. (docs/dependencies.md says why this is no crate's.)
#![allow(unsafe_code)] // one slice is cut into pieces that tasks own, and tasks are lent to threads that outlive them

use crate::{Error, Result, err};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The threads of an engine: some of its own beside the calling thread, or none.
pub struct Threads {
    team: Option<Team>,
}

/// Work of fewer elementary steps than this is not worth handing out.
pub const WORTHWHILE: usize = 1 << 17;
/// How often a thread looks for work before it sleeps: some 150 microseconds.
const LOOKS: usize = 12_000;
/// How often a caller looks whether the others are done before it leaves its core to them.
const WAITS: usize = 20_000;

impl Threads {
    /// `count` threads, the calling one included; 0 is one per core. One thread needs no others.
    pub fn new(count: usize) -> Result<Threads> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        match count {
            1 => Ok(Threads::inline()),
            _ => Ok(Threads { team: Some(Team::new(count - 1)?) }),
        }
    }

    /// The calling thread alone.
    pub fn inline() -> Threads {
        Threads { team: None }
    }

    /// How many threads there are.
    pub fn count(&self) -> usize {
        self.team.as_ref().map_or(1, |t| t.threads.len() + 1)
    }

    /// True if there are others, and `work` elementary steps make it worthwhile to hand some out.
    pub fn pays(&self, work: usize) -> bool {
        self.team.is_some() && work >= WORTHWHILE
    }

    /// Calls `f` for each of `0..tasks`, in any order, when `work` elementary steps make it worthwhile on all threads.
    pub fn each(&self, tasks: usize, work: usize, f: &(dyn Fn(usize) + Sync)) {
        match &self.team {
            Some(team) if tasks > 1 && work >= WORTHWHILE => team.each(tasks, f),
            _ => (0..tasks).for_each(f),
        }
    }

    /// Like [`Threads::each`] for tasks that can fail; one of their errors is returned.
    pub fn try_each(&self, tasks: usize, work: usize, f: &(dyn Fn(usize) -> Result<()> + Sync)) -> Result<()> {
        let failed = AtomicBool::new(false);
        let error: Mutex<Option<Error>> = Mutex::new(None);
        self.each(tasks, work, &|i| {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(e) = f(i) {
                failed.store(true, Ordering::Relaxed);
                error.lock().get_or_insert(e);
            }
        });
        error.into_inner().map_or(Ok(()), Err)
    }

    /// Cuts `out` into pieces of `piece` elements (the last may be shorter) and calls `f` with each piece's number.
    pub fn pieces<T: Send>(&self, out: &mut [T], piece: usize, work: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let (piece, len) = (piece.max(1), out.len());
        let start = Start(out.as_mut_ptr());
        // One type of task for all element types keeps the compiled library small.
        self.each(len.div_ceil(piece), work, &|i| {
            let from = i * piece;
            // SAFETY: pieces lie in `out` and do not overlap, each task number is called once, and `out` stays
            // borrowed until all tasks are done.
            let part = unsafe { std::slice::from_raw_parts_mut(start.at(from), piece.min(len - from)) };
            f(i, part);
        });
    }
}

struct Start<T>(*mut T);

impl<T> Start<T> {
    fn at(&self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

// SAFETY: tasks make disjoint slices of it, of elements that may go to other threads.
unsafe impl<T: Send> Sync for Start<T> {}

/// Threads that wait for work.
struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// What is being done: set by the caller who holds `caller` while no other thread is inside.
struct Job {
    task: *const Task<'static>,
    tasks: usize,
}

/// On a cache line of its own: what one core writes often and others read at another time, they would take from each other.
/// (128 bytes, because processors fetch lines in pairs.)
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// Held by the caller whose work it is.
    caller: Mutex<()>,
    job: UnsafeCell<Option<Job>>,
    /// The next task's number in the lane of each thread; lane 0 is the caller's.
    next: Box<[Apart<AtomicUsize>]>,
    /// [`OPEN`] while threads may come in, plus how many are.
    inside: Apart<AtomicUsize>,
    /// Counts the jobs.
    number: Apart<AtomicUsize>,
    sleeping: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

const OPEN: usize = 1 << 32;

// SAFETY: the job is written by the one caller that holds `caller`, while `inside` is zero and closed, and read by threads
// that came in through `inside` while it was open; its task is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is followed by threads that are inside alone.
unsafe impl Send for Shared {}

impl Team {
    fn new(others: usize) -> Result<Team> {
        let shared = Arc::new(Shared {
            caller: Mutex::new(()),
            job: UnsafeCell::new(None),
            next: (0..=others).map(|_| Apart(AtomicUsize::new(0))).collect(),
            inside: Apart(AtomicUsize::new(0)),
            number: Apart(AtomicUsize::new(0)),
            sleeping: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut team = Team { shared, threads: Vec::with_capacity(others) };
        for i in 0..others {
            let shared = team.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("mezzo-cpu-{i}"))
                .spawn(move || shared.wait_and_work(i + 1))
                .map_err(|e| err!(OutOfMemory, "{} threads could not be started: {e}", others + 1))?;
            team.threads.push(thread);
        }
        Ok(team)
    }

    fn each(&self, tasks: usize, f: &Task<'_>) {
        let shared = &*self.shared;
        // The threads are another context's, or this is a task itself.
        let Some(_caller) = shared.caller.try_lock() else { return (0..tasks).for_each(f) };
        // SAFETY: nobody is inside. The task's lifetime is hidden: `Closing` waits until nobody uses it any more, whether
        // the caller's own tasks return or unwind.
        unsafe {
            let task = std::mem::transmute::<*const Task<'_>, *const Task<'static>>(f);
            *shared.job.get() = Some(Job { task, tasks });
        }
        shared.deal(tasks);
        shared.inside.0.store(OPEN, Ordering::Release);
        // Whoever goes to sleep either sees the new number or is seen sleeping.
        shared.number.0.fetch_add(1, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            let _bed = shared.bed.lock();
            shared.wake.notify_all();
        }
        {
            let _closing = Closing(shared);
            shared.work(f, tasks, 0);
        }
        if let Some(panic) = shared.panic.lock().take() {
            resume_unwind(panic);
        }
    }
}

/// Lets nobody in any more and waits for those who are inside.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.inside.0.fetch_sub(OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while self.0.inside.0.load(Ordering::Acquire) != 0 {
            looks += 1;
            if looks < WAITS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

impl Shared {
    /// A lane's tasks.
    fn lane(&self, lane: usize, tasks: usize) -> std::ops::Range<usize> {
        let lanes = self.next.len();
        lane * tasks / lanes..(lane + 1) * tasks / lanes
    }

    fn deal(&self, tasks: usize) {
        for (i, next) in self.next.iter().enumerate() {
            next.0.store(self.lane(i, tasks).start, Ordering::Relaxed);
        }
    }

    /// The tasks of the thread's own lane first, then what is left of the others. Operators cut their outputs alike, so a
    /// thread mostly reads what it wrote itself and its own cache still holds.
    fn work(&self, f: &Task<'_>, tasks: usize, own: usize) {
        let lanes = self.next.len();
        for lane in (own..lanes).chain(0..own) {
            let end = self.lane(lane, tasks).end;
            loop {
                let i = self.next[lane].0.fetch_add(1, Ordering::Relaxed);
                if i >= end {
                    break;
                }
                f(i);
            }
        }
    }

    /// Comes in if it is open.
    fn enter(&self) -> bool {
        let comes = |inside: usize| (inside >= OPEN).then_some(inside + 1);
        self.inside.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, comes).is_ok()
    }

    fn wait_and_work(&self, lane: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if !self.enter() {
                continue;
            }
            // SAFETY: this thread is inside, so the job stands, and its task lives until it has left.
            let job = unsafe { &*self.job.get() };
            if let Some(job) = job {
                // SAFETY: as above.
                let task = unsafe { &*job.task };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work(task, job.tasks, lane))) {
                    self.next.iter().for_each(|next| next.0.store(job.tasks, Ordering::Relaxed));
                    self.panic.lock().get_or_insert(panic);
                }
            }
            self.inside.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// The number of a job after `seen`.
    fn wait(&self, seen: usize) -> usize {
        for _ in 0..LOOKS {
            let number = self.number.0.load(Ordering::Acquire);
            if number != seen {
                return number;
            }
            std::hint::spin_loop();
        }
        let mut bed = self.bed.lock();
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        while self.number.0.load(Ordering::SeqCst) == seen {
            self.wake.wait(&mut bed);
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
        self.number.0.load(Ordering::Acquire)
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        {
            let _bed = self.shared.bed.lock();
            self.shared.number.0.fetch_add(1, Ordering::SeqCst);
            self.shared.wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A thread catches the panics of its tasks, so it ends well.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_piece_is_seen_once() {
        for threads in [Threads::inline(), Threads::new(3).unwrap()] {
            let mut out = vec![0usize; 1000];
            threads.pieces(&mut out, 7, WORTHWHILE, |i, o| o.iter_mut().enumerate().for_each(|(k, v)| *v += i * 7 + k));
            assert_eq!(out, (0..1000).collect::<Vec<_>>());
            let sum = AtomicUsize::new(0);
            threads.each(100, WORTHWHILE, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
        assert_eq!(Threads::new(3).unwrap().count(), 3);
        assert_eq!(Threads::new(1).unwrap().count(), 1);
    }

    /// Many short jobs, with pauses in which the threads fall asleep, from several callers, nested ones among them.
    #[test]
    fn callers_share_the_threads() {
        let threads = Threads::new(4).unwrap();
        std::thread::scope(|scope| {
            for caller in 0..3 {
                let threads = &threads;
                scope.spawn(move || {
                    for round in 0..300 {
                        let sum = AtomicUsize::new(0);
                        threads.each(17, WORTHWHILE, &|i| {
                            threads.each(3, WORTHWHILE, &|k| {
                                sum.fetch_add(i * 3 + k, Ordering::Relaxed);
                            });
                        });
                        assert_eq!(sum.into_inner(), 51 * 50 / 2);
                        if round % 100 == caller {
                            std::thread::sleep(std::time::Duration::from_millis(2));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn errors_and_panics_reach_the_caller() {
        let threads = Threads::new(3).unwrap();
        let failed = threads.try_each(50, WORTHWHILE, &|i| match i {
            20.. => Err(err!(Internal, "task {i}")),
            _ => Ok(()),
        });
        assert!(failed.unwrap_err().message().contains("task"));
        for panicking in [0, 30] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                threads.each(40, WORTHWHILE, &|i| {
                    std::thread::sleep(std::time::Duration::from_micros(50));
                    assert!(i != panicking, "task {i}");
                });
            }));
            assert!(caught.is_err());
        }
        // The threads still work.
        let sum = AtomicUsize::new(0);
        threads.each(100, WORTHWHILE, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950);
    }
}
