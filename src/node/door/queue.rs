//! The door's queue: urgent requests first, then all others in order.
//!
//! ```text
//! Sender -urgent-> 256 -----------------------\
//!       \-others-> 1,024 -bodies read ahead-> Queue -> door
//! ```

use super::{GROUP_MAX, Request};
use std::{
    sync::mpsc::{self, RecvTimeoutError, SendError, TryRecvError},
    time::Duration,
};

/// Requests that may wait for the door; a batch is some 13 KiB, so 13 MiB.
pub const QUEUE_MAX: usize = 1_024;
/// Urgent requests that may wait: more than the HTTP API admits.
const URGENT_MAX: usize = 256;

impl Request {
    /// Returns true for orders, withdrawals, quarantine, a person's document, and notes of who did it.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Order { .. } | Self::Withdraw(..) | Self::Decision { .. } | Self::Quarantine { .. } => true,
            Self::Document { reply, .. } => reply.is_some(),
            _ => false,
        }
    }
}

/// Why a request was not sent.
pub enum NotSent {
    Full(Box<Request>),
    /// The door is closed.
    Closed,
}

impl std::fmt::Debug for NotSent {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Full(_) => "the door's queue is full",
            Self::Closed => "the door is closed",
        })
    }
}

/// Sends requests to the door. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    urgent: mpsc::SyncSender<Request>,
    others: mpsc::SyncSender<Request>,
}

/// The door's end.
pub struct Queue {
    urgent: mpsc::Receiver<Request>,
    others: mpsc::Receiver<Request>,
}

/// Creates the queue of a door. With `reads_ahead` a thread reads bodies of batches before the door: hashing and decoding are half of the
/// work for a batch, and need none of the door's state.
pub fn queue(reads_ahead: bool) -> (Sender, Queue) {
    let (urgent, urgent_out) = mpsc::sync_channel(URGENT_MAX);
    let (others, waiting) = mpsc::sync_channel(QUEUE_MAX);
    let others_out = if reads_ahead { read_ahead(waiting) } else { waiting };
    (Sender { urgent, others }, Queue { urgent: urgent_out, others: others_out })
}

fn read_ahead(requests: mpsc::Receiver<Request>) -> mpsc::Receiver<Request> {
    let (read, queue) = mpsc::sync_channel(GROUP_MAX);
    std::thread::spawn(move || {
        for mut request in requests {
            if let Request::Batch(arrived) = &mut request {
                arrived.read_ahead();
            }
            if read.send(request).is_err() {
                return;
            }
        }
    });
    queue
}

impl Sender {
    /// Sends a request, and waits while the queue is full.
    ///
    /// # Errors
    /// If the door is closed.
    pub fn send(&self, request: Request) -> Result<(), NotSent> {
        if !request.is_urgent() {
            return self.others.send(request).map_err(|SendError(_)| NotSent::Closed);
        }
        self.urgent.send(request).map_err(|SendError(_)| NotSent::Closed)?;
        self.wake();
        Ok(())
    }

    /// Sends a request, if there is room.
    ///
    /// # Errors
    /// If there is none, or the door is closed.
    pub fn try_send(&self, request: Request) -> Result<(), NotSent> {
        let urgent = request.is_urgent();
        let way = if urgent { &self.urgent } else { &self.others };
        way.try_send(request).map_err(|error| match error {
            mpsc::TrySendError::Full(request) => NotSent::Full(Box::new(request)),
            mpsc::TrySendError::Disconnected(_) => NotSent::Closed,
        })?;
        if urgent {
            self.wake();
        }
        Ok(())
    }

    /// Wakes a door that waits for other requests. With a full queue it does not wait.
    fn wake(&self) {
        let _busy_anyway = self.others.try_send(Request::Look);
    }
}

impl Queue {
    /// The next request.
    pub(super) fn next(&self, wait: Duration) -> Result<Request, RecvTimeoutError> {
        match self.urgent.try_recv() {
            Ok(request) => Ok(request),
            Err(_) => match self.others.recv_timeout(wait)? {
                Request::Look => Ok(self.urgent.try_recv().unwrap_or(Request::Look)),
                request => Ok(request),
            },
        }
    }

    /// Returns `begun` and the waiting requests to commit with it. A group ends after its urgent requests.
    pub(super) fn with(&self, begun: Request) -> impl Iterator<Item = Request> {
        let mut ends = begun.is_urgent();
        let more = std::iter::from_fn(move || match self.urgent.try_recv() {
            Ok(request) => {
                ends = true;
                Some(request)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) if ends => None,
            Err(_) => self.others.try_recv().ok(),
        });
        std::iter::once(begun).chain(more).take(GROUP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn decision(by: &str) -> Request {
        let (reply, _nobody_waits) = oneshot::channel();
        Request::Decision { by: by.to_owned(), what: "unblocks it".to_owned(), reply }
    }

    fn kinds(requests: impl Iterator<Item = Request>) -> Vec<&'static str> {
        let kind = |request: &Request| match request {
            Request::Decision { .. } => "urgent",
            Request::Look => "look",
            _ => "other",
        };
        requests.map(|request| kind(&request)).collect()
    }

    #[test]
    fn x1_an_urgent_request_passes_a_full_queue_and_is_committed_without_it() {
        let (sender, queue) = queue(false);
        for _other in 0..QUEUE_MAX {
            sender.try_send(Request::Agreements).unwrap();
        }
        assert!(matches!(sender.try_send(Request::Agreements), Err(NotSent::Full(_))));
        sender.send(decision("ana")).unwrap();
        sender.send(decision("ben")).unwrap();
        let begun = queue.next(Duration::ZERO).unwrap();
        assert_eq!(kinds(queue.with(begun)), ["urgent", "urgent"]);
        // An urgent request that arrives while a group is processed.
        let begun = queue.next(Duration::ZERO).unwrap();
        let mut group = queue.with(begun);
        assert_eq!(kinds(group.by_ref().take(3)), ["other"; 3]);
        sender.send(decision("ana")).unwrap();
        assert_eq!(kinds(group), ["urgent"]);
    }

    #[test]
    fn an_urgent_request_wakes_a_waiting_door() {
        let (sender, queue) = queue(true);
        let waiting = std::thread::spawn(move || queue.next(Duration::from_secs(60)).map(|request| request.is_urgent()));
        std::thread::sleep(Duration::from_millis(20));
        sender.send(decision("ana")).unwrap();
        assert!(waiting.join().unwrap().unwrap());
    }
}
