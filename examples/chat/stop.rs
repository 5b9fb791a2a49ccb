//! Ending on Ctrl-C and SIGTERM: the first asks, the second insists.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the service was told to stop.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<usize>);

impl Stop {
    /// # Errors
    ///
    /// When the signals cannot be listened to.
    pub fn on_signals() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (told, stop) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                told.send_modify(|times| *times += 1);
            }
        });
        Ok(Self(stop))
    }

    pub async fn requested(&self) {
        self.told(1).await;
    }

    /// Some time after it was requested, or when it was requested again.
    pub async fn expired(&self, grace: Duration) {
        self.requested().await;
        tracing::info!("stopping");
        tokio::select! {
            () = self.told(2) => {}
            () = tokio::time::sleep(grace) => tracing::warn!("gave up on requests under way"),
        }
    }

    async fn told(&self, times: usize) {
        // The sender lives as long as the runtime does.
        let _ = self.0.clone().wait_for(|told| *told >= times).await;
    }
}
