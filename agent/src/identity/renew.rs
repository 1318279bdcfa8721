//! Renewing a certificate by proof of its key: before it runs out, when the authority changed, and after it ran out for as long
//! as the server allows. The node keeps its key and its id.

use super::calls::{self, skew};
use super::key::NodeKey;
use super::store::{Certificate, Enrolled, Standing, Store};
use super::tls::{Trust, connect};
use crate::clock::unix_now;
use cortex_model::limits::enrol::{RENEW_RETRY_MAX_MS, RENEW_RETRY_MS};
use cortex_model::proto::NodeCertificate;
use cortex_model::{Fault, UnixMillis};
use std::path::Path;
use std::time::Duration;

/// Renews the certificate of a data directory's node.
///
/// # Errors
/// `CX-0515` when an administrator must allow it first, `CX-0509` when the node was revoked; whatever keeps the server from
/// being reached. The old certificate stays.
pub(crate) async fn renew(data_dir: &Path, server: &str) -> Result<(), Fault> {
    let store = Store::of(data_dir);
    let (mut enrolled, key) = (store.load()?, store.key()?);
    if !server.is_empty() {
        server.clone_into(&mut enrolled.server);
    }
    renew_into(&store, &mut enrolled, &key).await
}

/// The same, of an identity that was read already.
pub(crate) async fn renew_into(
    store: &Store,
    enrolled: &mut Enrolled,
    key: &NodeKey,
) -> Result<(), Fault> {
    let certificate = enrolled.certificate()?;
    let trust = Trust::Roots(certificate.roots()?);
    let chain = certificate.chain()?;
    let own = chain.first().map(|der| der.to_vec()).unwrap_or_default();
    // Without the certificate: the server could not accept one that ran out, and the proof is enough.
    let channel = connect(&enrolled.server, trust, None).await?;
    let before = unix_now();
    let answer = calls::renew(channel, &own, key).await?;
    accept(store, enrolled, answer, before)
}

/// Keeps a certificate that was asked for at `before`. It is kept also where the clocks do not fit: they can be set.
pub(crate) fn accept(
    store: &Store,
    enrolled: &mut Enrolled,
    answer: NodeCertificate,
    before: UnixMillis,
) -> Result<(), Fault> {
    let fits = skew(before, unix_now(), UnixMillis(answer.now_ms));
    enrolled.standing = Standing::Certified(Certificate::of(answer)?);
    store.save(enrolled)?;
    fits
}

/// The pause before another try, after a renewal failed: a tenth of what is left of the certificate, within bounds.
pub(crate) fn pause(now: UnixMillis, not_after: UnixMillis) -> Duration {
    let left = not_after.since(now);
    Duration::from_millis((left / 10).clamp(RENEW_RETRY_MS, RENEW_RETRY_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_that_failed_is_tried_more_often_as_time_runs_out() {
        const HOUR: u64 = 3_600_000;
        let end = UnixMillis(100 * HOUR);
        for (hours_left, expected) in [(8, 48 * 60), (24, 3_600), (1, 6 * 60), (0, 30)] {
            let now = UnixMillis(end.0 - hours_left * HOUR);
            assert_eq!(pause(now, end), Duration::from_secs(expected), "{hours_left} h left");
        }
        assert_eq!(pause(UnixMillis(end.0 + HOUR), end), Duration::from_secs(30));
    }
}
