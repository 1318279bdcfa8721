//! The calls by which a node joins and stays, and what their errors mean. Each is made once; who calls decides about another try.

use super::key::NodeKey;
use super::store::Enrolled;
use super::tls::refusal;
use crate::clock::unix_now;
use cortex_model::credential::renewal_proof;
use cortex_model::limits::identity::CLOCK_SKEW_MS;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, UnixMillis};
use cortex_proto::ERROR_METADATA;
use cortex_proto::v1::node_identity_client::NodeIdentityClient;
use prost::Message as _;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A token for a tunnel.
pub(crate) struct TunnelToken {
    /// Its text, secret.
    pub(crate) text: String,
    /// How long it was valid from when it was asked for, by the server's clock.
    pub(crate) life: Duration,
}

impl std::fmt::Debug for TunnelToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunnelToken").field("life", &self.life).finish_non_exhaustive()
    }
}

/// Shows a join token and the key. `None` means that an administrator must decide first. What the server decided about names
/// is filled in.
pub(crate) async fn join(
    channel: Channel,
    token: &str,
    enrolled: &mut Enrolled,
    key: &NodeKey,
) -> Result<Option<pb::NodeCertificate>, Fault> {
    let request = pb::JoinRequest {
        token: token.to_owned(),
        csr: key.request()?,
        node: enrolled.node.clone(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answer = client(channel).join(timed(request)).await.map_err(|status| fault(&status))?;
    let answer = answer.into_inner();
    match (pb::Enrolment::try_from(answer.state), answer.certificate) {
        (Ok(pb::Enrolment::Approved), Some(certificate)) => {
            (enrolled.workspace, enrolled.node) = (answer.workspace, answer.node);
            Ok(Some(certificate))
        }
        (Ok(pb::Enrolment::Pending), None) => {
            (enrolled.workspace, enrolled.node) = (answer.workspace, answer.node);
            Ok(None)
        }
        (state, _) => {
            Err(Fault::new(Code::ProtocolViolation, format!("a join was answered with {state:?}")))
        }
    }
}

/// Proves the key of a certificate, which may have run out, and gets a new one.
pub(crate) async fn renew(
    channel: Channel,
    certificate: &[u8],
    key: &NodeKey,
) -> Result<pb::NodeCertificate, Fault> {
    let (csr, signed_at_ms) = (key.request()?, unix_now().0);
    let signature = key.sign(&renewal_proof(certificate, &csr, signed_at_ms))?;
    let request = pb::RenewCertificateRequest {
        certificate: certificate.to_vec(),
        csr,
        signed_at_ms,
        signature,
    };
    let answer = client(channel).renew_certificate(timed(request)).await;
    let answer = answer.map_err(|status| fault(&status))?.into_inner();
    answer.certificate.ok_or_else(|| {
        Fault::new(Code::ProtocolViolation, "a renewal was answered without a certificate")
    })
}

/// Gets a token for a tunnel on this connection, and compares the clocks.
///
/// # Errors
/// The server's refusal; `CX-0506` when the clocks differ by more than certificates and tokens bear.
pub(crate) async fn mint(channel: &Channel) -> Result<TunnelToken, Fault> {
    let before = unix_now();
    let answer =
        client(channel.clone()).mint_tunnel_token(timed(pb::MintTunnelTokenRequest {})).await;
    let answer = answer.map_err(|status| fault(&status))?.into_inner();
    skew(before, unix_now(), UnixMillis(answer.now_ms))?;
    let life = Duration::from_millis(answer.expires_at_ms.saturating_sub(answer.now_ms));
    Ok(TunnelToken { text: answer.token, life })
}

/// Tells the server that the node is gone for good.
pub(crate) async fn leave(channel: Channel, reason: &str) -> Result<(), Fault> {
    let request = pb::LeaveRequest { reason: reason.to_owned() };
    client(channel).leave(timed(request)).await.map(drop).map_err(|status| fault(&status))
}

fn client(channel: Channel) -> NodeIdentityClient<Channel> {
    NodeIdentityClient::new(channel)
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// Whether two clocks fit. `before` and `after` are this machine's, around the moment at which the server read its own.
pub(crate) fn skew(before: UnixMillis, after: UnixMillis, server: UnixMillis) -> Result<(), Fault> {
    let (behind, ahead) = (server.since(after), before.since(server));
    let (by, word) = if behind > 0 { (behind, "behind") } else { (ahead, "ahead of") };
    if by <= CLOCK_SKEW_MS {
        return Ok(());
    }
    let (minutes, seconds) = (by / 60_000, by / 1_000 % 60);
    let message = format!("this machine's clock is {minutes} min {seconds} s {word} the server's");
    Err(Fault::new(Code::ClockSkew, message))
}

/// The gateway's own words where it sent them, otherwise the transport's.
pub(crate) fn fault(status: &Status) -> Fault {
    let own = status.metadata().get_bin(ERROR_METADATA).and_then(|value| value.to_bytes().ok());
    match own.and_then(|bytes| pb::Error::decode(bytes).ok()) {
        Some(error) => told(error),
        None if status.code() == tonic::Code::DeadlineExceeded => {
            Fault::new(Code::CannotConnect, "the server did not answer in time")
        }
        None => match std::error::Error::source(status) {
            Some(source) => refusal("the connection", source),
            None => Fault::new(Code::CannotConnect, status.message()),
        },
    }
}

/// A fault that another program told. A code that is not known here is kept in the message.
pub(crate) fn told(error: pb::Error) -> Fault {
    match Code::ALL.iter().find(|code| code.as_str() == error.code) {
        Some(code) => Fault { code: *code, message: error.message, hint: error.hint },
        None => Fault {
            code: Code::CannotConnect,
            message: format!("{}: {}", error.code, error.message),
            hint: error.hint,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_five_minutes_and_a_larger_skew_is_named() {
        const MIN: u64 = 60_000;
        let at = 1_000 * MIN;
        for (server, expected) in [
            (at, None),
            (at + 2 * MIN, None),
            (at - 2 * MIN, None),
            (at + 5 * MIN, None),
            (at + 10 * MIN, Some("10 min 0 s behind the server's")),
            (at - 10 * MIN - 5_000, Some("10 min 5 s ahead of the server's")),
        ] {
            let fault = skew(UnixMillis(at), UnixMillis(at), UnixMillis(server)).err();
            let message = fault.as_ref().map(|fault| fault.message.as_str());
            assert_eq!(message.map(|m| m.trim_start_matches("this machine's clock is ")), expected);
            assert!(fault.is_none_or(|fault| fault.code == Code::ClockSkew));
        }
        // A slow answer is no skew.
        assert!(skew(UnixMillis(at), UnixMillis(at + 9 * MIN), UnixMillis(at + 4 * MIN)).is_ok());
    }

    #[test]
    fn what_another_program_tells_keeps_its_code() {
        let known = Fault::new(Code::NodeRevoked, "gone").with_hint("join again");
        assert_eq!(told(pb::Error::from(&known)), known);
        let newer = pb::Error {
            code: format!("CX-{}", 9999),
            message: "new".into(),
            ..pb::Error::default()
        };
        let message = told(newer).message;
        assert!(message.ends_with("9999: new"), "{message}");
    }
}
