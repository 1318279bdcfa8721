//! The deployment's keys: private files, rotation under way, and what of them is public.

use crate::support::{Node, Site, get, now, stays, until};
use cortex_agent::dial::{self, Trust};
use cortex_gateway::authority;
use cortex_model::Code;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn keys_are_private_and_refused_when_they_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let made = authority::init(dir.path(), "test.example", now()).unwrap();
    assert!(!format!("{made:?}").contains("PRIVATE"));
    for name in ["ca.key", "token-1.key"] {
        let path = dir.path().join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        for mode in [0o640, 0o604, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let fault = authority::load(dir.path()).unwrap_err();
            assert_eq!(fault.code, Code::InsecureFile, "{name} {mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(authority::load(dir.path()).unwrap().fingerprint(), made.fingerprint());
}

#[test]
fn what_is_missing_damaged_or_of_another_deployment_is_said() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(authority::load(dir.path()).unwrap_err().code, Code::NoAuthority);
    let bad = authority::init(dir.path(), "Not A Domain", now()).unwrap_err();
    assert_eq!(bad.code, Code::Usage);
    authority::init(dir.path(), "a.example", now()).unwrap();
    authority::init(other.path(), "b.example", now()).unwrap();
    assert_eq!(
        authority::init(dir.path(), "a.example", now()).unwrap_err().code,
        Code::KeyConflict
    );
    std::fs::copy(other.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    assert_eq!(authority::load(dir.path()).unwrap_err().code, Code::DataDirCorrupt);
    let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    std::fs::write(other.path().join("token-1.key"), secret).unwrap();
    let fault = authority::load(other.path()).unwrap_err();
    assert_eq!(fault.code, Code::DataDirCorrupt);
    assert!(!fault.to_string().contains("c2VjcmV0"), "{fault}");
}

#[test]
fn two_token_keys_are_accepted_and_the_newest_signs() {
    let dir = tempfile::tempdir().unwrap();
    let kids = |a: &authority::Authority| a.kids().map(str::to_owned).collect::<Vec<_>>();
    let first = kids(&authority::init(dir.path(), "test.example", now()).unwrap());
    let second = kids(&authority::rotate_tokens(dir.path()).unwrap());
    assert_eq!((second.len(), &second[1]), (2, &first[0]));
    let third = kids(&authority::rotate_tokens(dir.path()).unwrap());
    assert_eq!((third.len(), &third[1]), (2, &second[0]));
}

#[tokio::test]
async fn a_new_token_key_is_taken_while_tunnels_and_tokens_of_the_old_one_go_on() {
    let site = Site::start(1).await;
    let node = site.node("default", "n1").await;
    let (mut tunnel, _) = node.tunnel(&site, 0).await.unwrap().welcomed().await;
    let old = node.mint(&site, 0).await.unwrap();
    authority::rotate_tokens(&site.authority).unwrap();
    let newest = site.keys().kids().next().unwrap().to_owned();
    until("the new key to be published", async || {
        get(&site, 0, "/.well-known/jwks.json").await.contains(&newest).then_some(())
    })
    .await;
    let shown = cortex_model::proto::TokenShown { token: old };
    let body = cortex_model::proto::agent_frame::Body::TokenShown(shown);
    tunnel.up.send(cortex_model::proto::AgentFrame { body: Some(body) }).await.unwrap();
    let next = tunnel.next().await;
    assert!(
        matches!(next, Some(cortex_model::proto::gateway_frame::Body::TokenAccepted(_))),
        "{next:?}"
    );
    node.tunnel(&site, 0).await.unwrap().welcomed().await;
}

#[tokio::test]
async fn a_new_ca_is_believed_by_who_knows_the_old_one_and_old_certificates_stay_good() {
    let site = Site::start(1).await;
    let node = site.node("default", "n1").await;
    let old = site.keys().fingerprint();
    let join = cortex_model::proto::JoinGrant { uses: 1, ..Default::default() };
    let token = site.join_token("default", join).await;
    let rotated = authority::rotate_ca(&site.authority, now()).unwrap();
    assert_ne!(rotated.fingerprint(), old);
    let url = site.url(0);
    until("the new CA to be used", async || {
        dial::connect(&url, Trust::Pinned(rotated.fingerprint())).await.ok()
    })
    .await;
    dial::connect(&url, Trust::Pinned(old)).await.unwrap();
    node.tunnel(&site, 0).await.unwrap().welcomed().await;
    // A token made before the rotation, which carries the old fingerprint.
    let mut late = Node::new("late");
    late.join(&site, 0, &token).await.unwrap();
    assert_eq!(late.certificate.as_ref().unwrap().roots.len(), 2);
    late.tunnel(&site, 0).await.unwrap().welcomed().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing() {
    let site = Site::start(1).await;
    let before = site.keys().fingerprint();
    std::fs::write(site.authority.join("ca.pem"), "damaged").unwrap();
    let (url, trust) = (site.url(0), Trust::Pinned(before));
    stays("the gateway took damaged keys", std::time::Duration::from_millis(2_500), async || {
        dial::connect(&url, trust.clone()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn another_deployment_is_recognised_before_anything_is_sent() {
    let (site, other) = (Site::start(1).await, Site::start(1).await);
    let fault = dial::connect(&site.url(0), Trust::Pinned(other.keys().fingerprint())).await;
    assert_eq!(fault.unwrap_err().code, Code::ServerNotTrusted);
    let stranger = other.node("default", "n1").await;
    let certificate = stranger.certificate.clone().unwrap();
    let chain = certificate.chain.into_iter().map(Into::into).collect();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(stranger.key.serialize_der());
    let roots = [site.keys().ca().to_vec()];
    let channel =
        crate::support::channel(site.addresses[0], &roots, Some((chain, key.into()))).await;
    // With TLS 1.3 the server's no shows on the first call.
    if let Ok(channel) = channel {
        let mut client = cortex_proto::v1::node_identity_client::NodeIdentityClient::new(channel);
        let minted = client.mint_tunnel_token(cortex_model::proto::MintTunnelTokenRequest {}).await;
        assert!(minted.is_err());
    }
    site.node("default", "n1").await.tunnel(&site, 0).await.unwrap().welcomed().await;
}
