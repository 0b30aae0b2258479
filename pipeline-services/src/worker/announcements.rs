//! Looks for work when the database says that there is some: one connection of a process listens
//! for all its workers.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::run::StageName,
    store::{PgListener, PgPool, tasks},
};

/// Longest sleep between two looks for work when no announcement arrives, and the pause between two
/// tries to listen. A choice: it only bounds what a lost announcement costs.
const POLL: Duration = Duration::from_secs(2);

/// Announcements to a process.
#[derive(Debug)]
pub struct Announcements(BTreeMap<StageName, watch::Sender<u64>>);

/// Announcements to a worker since it last looked.
pub(super) struct Ear(watch::Receiver<u64>);

impl Default for Announcements {
    fn default() -> Self {
        // A watch, not a queue: however many announcements there were, one look follows.
        Self(StageName::ALL.into_iter().map(|stage| (stage, watch::Sender::new(0))).collect())
    }
}

impl Announcements {
    /// Listens until `stop`; while the database is away, the workers' own looks go on.
    pub async fn listen(&self, pool: &PgPool, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.hear(pool) => {}
                () = stop.cancelled() => return,
            }
            // Also after a connection that failed at once: a database that refuses must not be
            // asked in a loop.
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Passes announcements on until the connection fails.
    async fn hear(&self, pool: &PgPool) {
        // Keeps one connection of the pool for as long as it listens.
        let Ok(mut listener) = PgListener::connect_with(pool).await else { return };
        if listener.listen(tasks::CHANNEL).await.is_err() {
            return;
        }
        // Something may have been announced before we listened.
        self.0.values().for_each(|stage| stage.send_modify(|count| *count += 1));
        // After a loss `recv` connects again without a word; what was announced meanwhile is left
        // to the workers' own looks.
        while let Ok(notification) = listener.recv().await {
            // A stage that this version does not know is skipped: a newer process may announce it.
            let stage = notification.payload().parse::<StageName>();
            if let Some(sender) = stage.ok().and_then(|stage| self.0.get(&stage)) {
                sender.send_modify(|count| *count += 1);
            }
        }
    }

    pub(super) fn ear(&self, stage: StageName) -> Ear {
        Ear(self.0.get(&stage).map_or_else(|| watch::Sender::new(0).subscribe(), watch::Sender::subscribe))
    }
}

impl Ear {
    /// Forgets what was announced so far: the caller is about to look.
    pub(super) fn forget(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for an announcement, for the time until the next look or for `stop`.
    pub(super) async fn wait(&mut self, stop: &CancellationToken) {
        let announced = async {
            // Nobody announces to a worker of its own.
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = stop.cancelled() => {}
            () = announced => {}
        }
    }
}
