//! Reading texts from outside where it holds up nothing else: threads that serve calls and timers
//! do not wait for it.

use std::{
    sync::{Arc, LazyLock},
    thread,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task,
};

/// One turn for each processor; further texts wait for theirs, so that many callers cannot have
/// every thread.
static TURNS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(thread::available_parallelism().map_or(2, usize::from))));

/// The code that read a text panicked; the text is at fault, others are read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reading it failed unexpectedly")]
pub(crate) struct Panicked;

/// Reads on a thread for such work. A caller who leaves does not stop it, and its turn ends with
/// it.
///
/// # Errors
/// If the reading panics.
pub(crate) async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    // Nobody closes it; without a turn the text would be read all the same.
    let turn = Arc::clone(&TURNS).acquire_owned().await.ok();
    let work = task::spawn_blocking(move || {
        let _turn = turn;
        read()
    });
    work.await.map_err(|_| Panicked)
}

/// Reads what is borrowed on the thread of the caller, whose other tasks go on elsewhere meanwhile.
/// On a runtime of one thread there is no elsewhere.
pub(crate) fn in_place<T>(read: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => task::block_in_place(read),
        _ => read(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn timers_go_on_while_a_text_is_read() {
        let (finish, finished) = std::sync::mpsc::channel();
        let reading = task::spawn(apart(move || finished.recv_timeout(Duration::from_secs(60)).is_ok()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        finish.send(()).unwrap();
        assert_eq!(reading.await.unwrap(), Ok(true));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_thread_is_given_over() {
        let (finish, finished) = std::sync::mpsc::channel();
        let reading =
            task::spawn(async move { in_place(|| finished.recv_timeout(Duration::from_secs(60)).is_ok()) });
        let other = task::spawn(async move { finish.send(()) });
        other.await.unwrap().unwrap();
        assert!(reading.await.unwrap());
    }

    #[tokio::test]
    async fn a_panic_is_the_text_s_own() {
        assert_eq!(apart(|| -> u32 { panic!("made by a test") }).await, Err(Panicked));
        assert_eq!(apart(|| 1).await, Ok(1));
    }
}
