//! The gateway's only look at the clock.

use cortex_model::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall time now.
#[must_use]
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
