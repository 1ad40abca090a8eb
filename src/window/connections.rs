//! Open connections at one address. When the limit is reached, the oldest idle connection is closed for a new one, so that half-open
//! connections cannot keep others out.

use crate::http::Served;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// The open connections at one address. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub(super) struct Connections {
    max: usize,
    open: Arc<Mutex<Open>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// By number, oldest first.
    by_number: BTreeMap<u64, Arc<Connection>>,
}

#[derive(Default)]
struct Connection {
    served: Served,
    cut: Notify,
}

impl Connections {
    /// `max` must exceed the requests that all classes admit: a connection with an admitted request is never closed.
    pub fn new(max: usize) -> Self {
        Self { max, open: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Runs `serve` for a new connection until it ends, or is closed to make room.
    pub fn begin<F: Future<Output = ()> + Send + 'static>(&self, serve: impl FnOnce(Served) -> F) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.by_number.len() >= self.max {
            let waits = open.by_number.iter().find(|(_, one)| !one.served.is_served()).map(|(number, _)| *number);
            let Some(waits) = waits.and_then(|number| open.by_number.remove(&number)) else { return };
            waits.cut.notify_one();
        }
        let (number, one) = (open.next, Arc::new(Connection::default()));
        open.next += 1;
        open.by_number.insert(number, Arc::clone(&one));
        drop(open);
        let (serving, all) = (serve(one.served.clone()), self.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = serving => (),
                () = one.cut.notified() => tracing::debug!("an idle connection was closed to make room"),
            }
            all.open.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&number);
        });
    }

    /// Waits until all connections have ended, at most for `at_most`.
    pub async fn all_ended(&self, at_most: Duration) {
        self.tasks.close();
        let _ended_or_given_up = tokio::time::timeout(at_most, self.tasks.wait()).await;
    }
}
