//! Ends the gateway in order: not ready, then closed to new connections, then over.
//!
//! Knows the order and the times, and neither sockets nor signals: what is to happen at each step is a [`Gate`], and
//! what asks for the end is [`Signals`].

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

/// The `drain.*` settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `drain.delay`: not ready, but still accepting.
    pub delay: Duration,
    /// `drain.timeout`: how long what is under way may take once the listeners are closed.
    pub timeout: Duration,
}

/// What asks for the end: each signal is one that has not been seen before.
pub trait Signals {
    /// Waits for the next signal. May be dropped and called again without losing one.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

/// What happens at each step of the end.
pub trait Gate {
    /// Says that no more requests should be sent here; they are still served.
    fn not_ready(&self);
    /// Answers those who wait for something to happen with what is known now.
    fn release(&self);
    /// Closes the listeners and idle connections; what is under way goes on.
    fn close(&self);
    /// Cuts what is still under way.
    fn cut(&self);
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything under way was finished.
    InOrder,
    /// A second signal, or `drain.timeout`, cut what was still under way.
    Cut,
}

/// How long connections get to go once they are cut.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// Waits for the first signal, and ends `served` in order; `served` is over when the last connection is.
pub async fn conduct(
    settings: &Settings,
    gate: &impl Gate,
    signals: &mut impl Signals,
    served: impl Future<Output = ()>,
) -> Ended {
    tokio::pin!(served);
    tokio::select! {
        () = signals.next() => {}
        // Nothing is served any more, whyever: there is nothing to wait for.
        () = &mut served => return Ended::Cut,
    }
    gate.not_ready();
    let hurried = if settings.delay.is_zero() {
        // In this order, so that those who waited hear with their answer that the connection closes.
        gate.close();
        gate.release();
        false
    } else {
        gate.release();
        let hurried = tokio::select! {
            () = sleep_until(Instant::now() + settings.delay) => false,
            () = signals.next() => true,
            () = &mut served => return Ended::InOrder,
        };
        gate.close();
        hurried
    };
    let patience = if hurried { Duration::ZERO } else { settings.timeout };
    let done = tokio::select! {
        biased;
        () = &mut served => true,
        () = sleep_until(Instant::now() + patience) => false,
        () = signals.next() => false,
    };
    if done {
        return Ended::InOrder;
    }
    gate.cut();
    let _ = timeout(LAST_BREATH, served).await;
    Ended::Cut
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    struct Channel(mpsc::Receiver<()>);

    impl Signals for Channel {
        async fn next(&mut self) {
            if self.0.recv().await.is_none() {
                std::future::pending().await
            }
        }
    }

    struct Record {
        began: Instant,
        steps: Mutex<Vec<(&'static str, u64)>>,
    }

    impl Record {
        fn note(&self, step: &'static str) {
            self.steps.lock().expect("the lock").push((step, self.began.elapsed().as_secs()));
        }
    }

    impl Gate for Record {
        fn not_ready(&self) {
            self.note("not ready");
        }
        fn release(&self) {
            self.note("release");
        }
        fn close(&self) {
            self.note("close");
        }
        fn cut(&self) {
            self.note("cut");
        }
    }

    /// Signals at these seconds, everything served at that one; what happened when.
    async fn check(signals: &'static [u64], served: u64) -> (Ended, Vec<(&'static str, u64)>, u64) {
        check_with(Duration::from_secs(5), signals, served).await
    }

    /// The same with another delay.
    async fn check_with(
        delay: Duration,
        signals: &'static [u64],
        served: u64,
    ) -> (Ended, Vec<(&'static str, u64)>, u64) {
        let settings = Settings { delay, timeout: Duration::from_secs(25) };
        let record = Record { began: Instant::now(), steps: Mutex::default() };
        let (send, receive) = mpsc::channel(9);
        let (finish, finished) = oneshot::channel::<()>();
        let began = record.began;
        tokio::spawn(async move {
            for at in signals {
                sleep_until(began + Duration::from_secs(*at)).await;
                send.send(()).await.expect("listened to");
            }
            std::future::pending::<()>().await;
        });
        tokio::spawn(async move {
            sleep_until(began + Duration::from_secs(served)).await;
            let _ = finish.send(());
        });
        let served = async {
            let _ = finished.await;
        };
        let ended = conduct(&settings, &record, &mut Channel(receive), served).await;
        (ended, record.steps.into_inner().expect("the lock"), began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_goes_step_by_step() {
        let steps = vec![("not ready", 10), ("release", 10), ("close", 15)];
        assert_eq!(check(&[10], 20).await, (Ended::InOrder, steps, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_delay_who_waits_is_answered_when_it_is_closed() {
        let steps = vec![("not ready", 10), ("close", 10), ("release", 10)];
        assert_eq!(check_with(Duration::ZERO, &[10], 20).await, (Ended::InOrder, steps, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_before_the_listeners_close_ended_in_order() {
        assert_eq!(check(&[10], 13).await, (Ended::InOrder, vec![("not ready", 10), ("release", 10)], 13));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_nobody_asked_for_is_none_in_order() {
        assert_eq!(check(&[10], 5).await, (Ended::Cut, Vec::new(), 5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_cut() {
        let steps = vec![("not ready", 10), ("release", 10), ("close", 15), ("cut", 40)];
        assert_eq!(check(&[10], 1_000).await, (Ended::Cut, steps, 41));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_cuts() {
        let steps = vec![("not ready", 10), ("release", 10), ("close", 15), ("cut", 17)];
        assert_eq!(check(&[10, 17], 1_000).await, (Ended::Cut, steps, 18));
        let steps = vec![("not ready", 10), ("release", 10), ("close", 12), ("cut", 12)];
        assert_eq!(check(&[10, 12], 1_000).await, (Ended::Cut, steps, 13));
    }
}
