//! Reads the sources on a thread of its own, so that a driver that hangs stops neither reports nor probes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::latest::Latest;
use super::metrics::Metrics;
use super::sanitize::{DropReason, Sample, Sanitizer};
use super::source::{Reading, Source};

/// The newest sample, for any number of readers.
#[derive(Clone)]
pub struct Sampler {
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    deadline: Duration,
    latest: RwLock<Option<Arc<Sample>>>,
    stop: AtomicBool,
}

impl Sampler {
    /// Starts the thread; it samples every `period`, and is stuck when no sample is finished for `deadline`.
    pub fn start(
        sources: Vec<Box<dyn Source>>,
        period: Duration,
        deadline: Duration,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            deadline,
            latest: RwLock::new(None),
            stop: AtomicBool::new(false),
        });
        let thread_shared = Arc::clone(&shared);
        thread::Builder::new()
            .name("sampler".into())
            .spawn(move || sample_until_stopped(sources, period, &thread_shared, &metrics))?;
        Ok(Self { shared })
    }

    /// The agent's monotonic clock: time since the sampler started.
    pub fn clock(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// The newest sample, unless it is too old to be believed.
    pub fn latest(&self) -> Latest {
        let latest = self
            .shared
            .latest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let now = self.clock();
        let last = latest.as_ref().map_or(Duration::ZERO, |s| s.taken);
        let overdue = now.saturating_sub(last) > self.shared.deadline;
        match latest {
            last if overdue => Latest::Stuck(last),
            Some(sample) => Latest::Fresh(sample),
            None => Latest::Starting,
        }
    }

    /// Lets the thread end after its current reading.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn sample_until_stopped(
    mut sources: Vec<Box<dyn Source>>,
    period: Duration,
    shared: &Shared,
    metrics: &Metrics,
) {
    let mut sanitizer = Sanitizer::default();
    while !shared.stop.load(Ordering::Relaxed) {
        let reading = read_all(&mut sources, metrics);
        // Stamped when the reading is complete: a source that took minutes gives no fresh sample of the past.
        let (sample, dropped) = sanitizer.accept(shared.started.elapsed(), reading);
        for reason in dropped {
            metrics.dropped(reason);
        }
        if let Some(sample) = sample {
            *shared
                .latest
                .write()
                .unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(sample));
        }
        thread::sleep(period);
    }
}

/// Reads every source; one that panics is not asked again, and what it leaves to be said is said in its place.
fn read_all(sources: &mut Vec<Box<dyn Source>>, metrics: &Metrics) -> Reading {
    let mut whole = Reading::default();
    sources.retain_mut(
        |source| match catch_unwind(AssertUnwindSafe(|| source.read())) {
            Ok(part) => {
                merge(&mut whole, part);
                true
            }
            Err(_) => {
                tracing::error!(source = source.name(), "source panicked and is given up");
                metrics.dropped(DropReason::SourceFailed);
                let left = source.given_up();
                let silent = left == Reading::default();
                merge(&mut whole, left.clone());
                *source = Box::new(GivenUp(left));
                !silent
            }
        },
    );
    whole
}

/// In the place of a source that panicked.
struct GivenUp(Reading);

impl Source for GivenUp {
    fn name(&self) -> &'static str {
        "given up"
    }

    fn read(&mut self) -> Reading {
        self.0.clone()
    }
}

fn merge(whole: &mut Reading, part: Reading) {
    whole.cpu = whole.cpu.take().or(part.cpu);
    whole.devices.extend(part.devices);
    whole.unmeasured = whole.unmeasured.take().or(part.unmeasured);
    whole.installed_devices = whole.installed_devices.or(part.installed_devices);
    whole.driver_version = whole.driver_version.take().or(part.driver_version);
    whole.cuda_version = whole.cuda_version.take().or(part.cuda_version);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::source::CpuValues;
    use crate::telemetry::unmeasured::Unmeasured;
    use std::sync::mpsc;

    /// Gives one reading per message and hangs in between.
    struct Scripted(mpsc::Receiver<()>, mpsc::Sender<()>);

    impl Source for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn read(&mut self) -> Reading {
            let _ = self.1.send(());
            let _ = self.0.recv();
            Reading {
                cpu: Some(CpuValues {
                    utilization_percent: Some(12.0),
                    ..CpuValues::default()
                }),
                ..Reading::default()
            }
        }
    }

    struct Panicking;

    impl Source for Panicking {
        fn name(&self) -> &'static str {
            "panicking"
        }

        fn read(&mut self) -> Reading {
            panic!("a driver gave garbage");
        }
    }

    fn wait_for(sampler: &Sampler, wanted: impl Fn(&Latest) -> bool) -> Latest {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let latest = sampler.latest();
            if wanted(&latest) {
                return latest;
            }
            assert!(Instant::now() < deadline, "still {latest:?}");
            thread::yield_now();
        }
    }

    #[test]
    fn hung_source_is_reported_and_recovers() {
        let (allow, allowed) = mpsc::channel();
        let (asked, asking) = mpsc::channel();
        let sampler = Sampler::start(
            vec![Box::new(Scripted(allowed, asked))],
            Duration::from_millis(1),
            Duration::from_millis(200),
            Arc::new(Metrics::new().unwrap()),
        )
        .unwrap();
        asking.recv().unwrap();
        assert_eq!(sampler.latest(), Latest::Starting);
        allow.send(()).unwrap();
        wait_for(&sampler, |l| matches!(l, Latest::Fresh(_)));
        wait_for(&sampler, |l| matches!(l, Latest::Stuck(Some(_))));
        allow.send(()).unwrap();
        wait_for(&sampler, |l| matches!(l, Latest::Fresh(_)));
        sampler.stop();
        drop(allow);
    }

    /// Panics, and leaves something to be said.
    struct Failing;

    impl Source for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }

        fn read(&mut self) -> Reading {
            panic!("a driver gave garbage");
        }

        fn given_up(&self) -> Reading {
            Reading {
                unmeasured: Some(Unmeasured::not_answering()),
                ..Reading::default()
            }
        }
    }

    #[test]
    fn source_that_panicked_is_not_taken_for_one_that_has_nothing() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut sources: Vec<Box<dyn Source>> = vec![Box::new(Failing)];
        for _ in 0..2 {
            let reading = read_all(&mut sources, &metrics);
            assert_eq!(reading.unmeasured, Some(Unmeasured::not_answering()));
        }
        assert_eq!(metrics.dropped_count(DropReason::SourceFailed), 1);
    }

    #[test]
    fn source_that_panics_does_not_take_the_others_with_it() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (allow, allowed) = mpsc::channel();
        let (asked, _asking) = mpsc::channel();
        let mut sources: Vec<Box<dyn Source>> =
            vec![Box::new(Panicking), Box::new(Scripted(allowed, asked))];
        allow.send(()).unwrap();
        let reading = read_all(&mut sources, &metrics);
        assert!(reading.cpu.is_some());
        assert_eq!(sources.len(), 1);
        assert_eq!(metrics.dropped_count(DropReason::SourceFailed), 1);
    }
}
