//! Looks for work when the database says that there is some.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    domain::run::StageName,
    store::{PgListener, PgPool, tasks},
};

/// Wakes a worker when tasks are announced; without a connection for that, its polling goes on.
pub(super) struct Announcements {
    pool: PgPool,
    stage: StageName,
    listener: Option<PgListener>,
}

impl Announcements {
    pub(super) fn new(pool: PgPool, stage: StageName) -> Self {
        Self { pool, stage, listener: None }
    }

    pub(super) async fn wait(&mut self, longest: Duration, stop: &CancellationToken) {
        if self.listener.is_none() {
            self.listener = self.listen().await;
            if self.listener.is_some() {
                // Something may have been announced before we listened: look again at once.
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(longest) => {}
            () = stop.cancelled() => {}
            () = Self::announced(&mut self.listener, self.stage) => {}
        }
    }

    async fn listen(&self) -> Option<PgListener> {
        let mut listener = PgListener::connect_with(&self.pool).await.ok()?;
        listener.listen(tasks::CHANNEL).await.ok()?;
        Some(listener)
    }

    async fn announced(listener: &mut Option<PgListener>, stage: StageName) {
        let Some(open) = listener else { return std::future::pending().await };
        loop {
            match open.recv().await {
                Ok(notification) if notification.payload() == stage.name() => return,
                Ok(_) => {}
                Err(_) => {
                    *listener = None;
                    return std::future::pending().await;
                }
            }
        }
    }
}
