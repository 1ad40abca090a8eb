//! The one place that asks the system what time it is.

use crate::record::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Where time comes from: the system, or a test's hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    Driven(Arc<AtomicU64>),
}

impl Clock {
    /// Now. A system clock before 1970 or past 9999 reads as 1970, which makes everything look far in the future.
    #[expect(clippy::disallowed_methods, reason = "this is the Clock that everyone else must use")]
    pub fn now(&self) -> Timestamp {
        let ms = match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or_default()
            }
            Self::Driven(ms) => ms.load(Ordering::SeqCst),
        };
        Timestamp::from_ms(ms).unwrap_or_default()
    }
}
