//! The first frames: which version both sides speak and what the agent accepts as a welcome. It never
//! decides who the agent is; the gateway's driver does, between hello and welcome.

use crate::error::ProtocolError;
use cortex_model::ids::SessionId;
use cortex_model::limits::{DEAD_AFTER_MAX_MS, HEARTBEAT_RANGE_MS, KNOWN_ATTEMPTS_MAX};
use cortex_model::proto::{Hello, Welcome};
use cortex_model::{Code, Fault, Incarnation, NodeId};

/// The highest version in both ranges, or the error the agent is refused with.
pub(crate) fn negotiate(gateway: (u32, u32), agent: (u32, u32)) -> Result<u32, Fault> {
    let highest = gateway.1.min(agent.1);
    if highest > 0 && highest >= gateway.0 && highest >= agent.0 {
        return Ok(highest);
    }
    let hint = if agent.0 > agent.1 || agent.1 == 0 {
        "the agent sent an empty range; install a released agent"
    } else if agent.1 < gateway.0 {
        "upgrade the agent on this node"
    } else {
        "upgrade the gateway, or install an older agent on this node"
    };
    let message = format!(
        "no common tunnel version: the agent speaks {}, this gateway {}",
        range(agent),
        range(gateway)
    );
    Err(Fault::new(Code::NoCommonVersion, message).with_hint(hint))
}

fn range((low, high): (u32, u32)) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}

/// Whether a hello is complete enough to ask who this is.
pub(crate) fn check_hello(hello: &Hello) -> Result<(), ProtocolError> {
    let bad = |field| Err(ProtocolError::BadField { frame: "hello", field });
    if NodeId::parse(&hello.node).is_err() {
        return bad("node");
    }
    if Incarnation::parse(&hello.incarnation).is_err() {
        return bad("incarnation");
    }
    if SessionId::parse(&hello.session).is_err() {
        return bad("session");
    }
    if hello.generation == 0 {
        return bad("generation");
    }
    if hello.manifest.is_none() {
        return bad("manifest");
    }
    if hello.attempts.len() > KNOWN_ATTEMPTS_MAX {
        return Err(ProtocolError::TooMany {
            what: "attempts in hello",
            limit: KNOWN_ATTEMPTS_MAX,
        });
    }
    Ok(())
}

/// Whether the agent can live with what the gateway says.
pub(crate) fn check_welcome(welcome: &Welcome, spoken: (u32, u32)) -> Result<(), ProtocolError> {
    let bad = |field| Err(ProtocolError::BadField { frame: "welcome", field });
    if welcome.version < spoken.0 || welcome.version > spoken.1 {
        return bad("version");
    }
    let (shortest, longest) = HEARTBEAT_RANGE_MS;
    if welcome.heartbeat_ms < shortest || welcome.heartbeat_ms > longest {
        return bad("heartbeat_ms");
    }
    // Below two heartbeats one late frame would look like death.
    if welcome.dead_after_ms < 2 * welcome.heartbeat_ms || welcome.dead_after_ms > DEAD_AFTER_MAX_MS
    {
        return bad("dead_after_ms");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        for (gateway, agent, version) in
            [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((1, 9), (4, 4), 4)]
        {
            assert_eq!(negotiate(gateway, agent), Ok(version), "{gateway:?} {agent:?}");
        }
    }

    #[test]
    fn without_a_common_version_the_refusal_names_both_ranges_and_who_should_upgrade() {
        for (gateway, agent, words, hint) in [
            ((3, 5), (1, 2), "speaks 1 to 2, this gateway 3 to 5", "upgrade the agent"),
            ((1, 1), (2, 2), "speaks 2, this gateway 1", "upgrade the gateway"),
            ((1, 1), (5, 3), "speaks 5 to 3, this gateway 1", "empty range"),
            ((1, 1), (0, 0), "speaks 0, this gateway 1", "empty range"),
        ] {
            let error = negotiate(gateway, agent).unwrap_err();
            assert_eq!(error.code, Code::NoCommonVersion);
            assert!(!error.code.retryable());
            assert!(error.message.contains(words), "{}", error.message);
            assert!(error.hint.contains(hint), "{}", error.hint);
        }
    }

    #[test]
    fn a_welcome_outside_the_limits_is_a_protocol_error() {
        let good =
            Welcome { version: 1, heartbeat_ms: 1_000, dead_after_ms: 3_000, ..Welcome::default() };
        assert_eq!(check_welcome(&good, (1, 1)), Ok(()));
        for bad in [
            Welcome { version: 0, ..good.clone() },
            Welcome { version: 2, ..good.clone() },
            Welcome { heartbeat_ms: 0, ..good.clone() },
            Welcome { heartbeat_ms: 60_001, ..good.clone() },
            Welcome { dead_after_ms: 1_999, ..good.clone() },
            Welcome { dead_after_ms: 300_001, ..good.clone() },
        ] {
            assert!(check_welcome(&bad, (1, 1)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_hello_without_identity_is_a_protocol_error() {
        let good = Hello {
            node: "n".into(),
            incarnation: "i".into(),
            session: "s".into(),
            generation: 1,
            manifest: Some(cortex_model::proto::Manifest::default()),
            ..Hello::default()
        };
        assert_eq!(check_hello(&good), Ok(()));
        let attempts = vec![cortex_model::proto::KnownAttempt::default(); KNOWN_ATTEMPTS_MAX + 1];
        for bad in [
            Hello { node: String::new(), ..good.clone() },
            Hello { incarnation: String::new(), ..good.clone() },
            Hello { session: "s".repeat(129), ..good.clone() },
            Hello { generation: 0, ..good.clone() },
            Hello { manifest: None, ..good.clone() },
            Hello { attempts, ..good.clone() },
        ] {
            assert!(check_hello(&bad).is_err());
        }
    }
}
