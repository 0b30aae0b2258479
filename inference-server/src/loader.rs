//! The thread that loads models: those of the plan first, then those that are asked for, one after the other.

use std::sync::{Arc, mpsc};

use tokio::task::JoinHandle;

use crate::device::OpenDevice;
use crate::error::Error;
use crate::grpc::health::Health;
use crate::model::registry::Registry;

/// Where to ask for a model.
#[derive(Debug, Clone)]
pub struct Loader {
    registry: Arc<Registry>,
    names: mpsc::Sender<String>,
}

/// What becomes the thread once the server runs.
pub struct Waiting {
    names: mpsc::Receiver<String>,
    registry: Arc<Registry>,
    health: Health,
}

impl Loader {
    /// A loader into `registry` that tells `health` of every change.
    pub fn new(registry: &Arc<Registry>, health: &Health) -> (Self, Waiting) {
        let (names, receiver) = mpsc::channel();
        let loader = Self { registry: Arc::clone(registry), names };
        (loader, Waiting { names: receiver, registry: Arc::clone(registry), health: health.clone() })
    }

    /// Has the model loaded where it does not answer and is not on its way.
    ///
    /// # Errors
    /// Where the store has no such model, or the server is shutting down.
    pub fn request(&self, name: &str) -> Result<(), Error> {
        if self.registry.request(name)? {
            self.names.send(name.to_owned()).map_err(|_| Error::Draining)?;
        }
        Ok(())
    }
}

impl Waiting {
    /// Starts loading onto the device, on a thread of its own: the runtime must be able to end while a large file is
    /// read. The task ends once every model of the plan was tried.
    pub fn start(self, device: OpenDevice) -> Option<JoinHandle<()>> {
        let runtime = tokio::runtime::Handle::current();
        let (sender, tried) = tokio::sync::oneshot::channel::<()>();
        let work = move || {
            let load = |name: &str| {
                self.registry.load(name, &device);
                runtime.block_on(self.health.publish());
            };
            for entry in self.registry.entries() {
                load(&entry.name);
            }
            // Nobody waits any more where the server stopped first.
            let _ = sender.send(());
            for name in self.names {
                load(&name);
            }
        };
        match std::thread::Builder::new().name("loader".to_owned()).spawn(work) {
            Ok(_) => Some(tokio::spawn(async move {
                if tried.await.is_err() {
                    tracing::error!("the model loader stopped early");
                }
            })),
            Err(error) => {
                tracing::error!(error.message = %error, "the model loader cannot be started");
                None
            }
        }
    }
}
