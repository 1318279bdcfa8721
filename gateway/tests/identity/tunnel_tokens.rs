//! Tunnel tokens: what is wrong with one is said with a code, and the gateway goes on serving who has a good one.

use crate::support::{Site, Tunnel, code, now, refused};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cortex_gateway::authority::{Confirmation, TunnelClaims};
use cortex_model::Code;
use cortex_model::proto as pb;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pb::agent_frame::Body as Up;
use pb::gateway_frame::Body as Down;

/// What a good token for this node says.
fn claims(node: &crate::support::Node) -> TunnelClaims {
    let seconds = now().0 / 1_000;
    TunnelClaims {
        iss: "spiffe://test.example".into(),
        aud: "cortex-tunnel".into(),
        sub: format!("spiffe://test.example/workspace/default/node/{}", node.name),
        workspace: "default".into(),
        node: node.name.clone(),
        iat: seconds,
        nbf: seconds,
        exp: seconds + 60,
        jti: "1".into(),
        cnf: Confirmation { x5t_s256: URL_SAFE_NO_PAD.encode(node.thumbprint().0) },
    }
}

#[tokio::test]
async fn a_token_with_a_wrong_claim_opens_no_tunnel_and_the_code_says_why() {
    let site = Site::start(1).await;
    let (node, other) = (site.node("default", "n1").await, site.node("default", "n2").await);
    let (good, keys, seconds) = (claims(&node), site.keys(), now().0 / 1_000);
    let table: [(&str, TunnelClaims, Code); 9] = [
        (
            "expired",
            TunnelClaims {
                exp: seconds - 60,
                iat: seconds - 120,
                nbf: seconds - 120,
                ..good.clone()
            },
            Code::TokenExpired,
        ),
        ("not yet valid", TunnelClaims { nbf: seconds + 60, ..good.clone() }, Code::ClockSkew),
        (
            "another audience",
            TunnelClaims { aud: "cortex".into(), ..good.clone() },
            Code::Unauthenticated,
        ),
        (
            "another issuer",
            TunnelClaims { iss: "spiffe://other".into(), ..good.clone() },
            Code::Unauthenticated,
        ),
        (
            "too long a life",
            TunnelClaims { exp: seconds + 301, ..good.clone() },
            Code::Unauthenticated,
        ),
        (
            "bound to another certificate",
            TunnelClaims { cnf: claims(&other).cnf, ..good.clone() },
            Code::NotBound,
        ),
        (
            "bound to nothing",
            TunnelClaims { cnf: Confirmation { x5t_s256: String::new() }, ..good.clone() },
            Code::NotBound,
        ),
        ("of another node", claims(&other), Code::NotBound),
        (
            "of another workspace",
            TunnelClaims { sub: good.sub.replace("default", "other"), ..good.clone() },
            Code::NotBound,
        ),
    ];
    for (what, claims, expected) in table {
        let token = keys.sign(&claims).unwrap();
        refused(node.tunnel_with(&site, 0, Some(&token)).await, expected, what);
    }
    let token = keys.sign(&good).unwrap();
    let (_, welcome) = node.tunnel_with(&site, 0, Some(&token)).await.unwrap().welcomed().await;
    assert_eq!(welcome.token_expires_at_ms, good.exp * 1_000);
}

#[tokio::test]
async fn the_key_fixes_the_algorithm_and_an_unknown_key_is_none() {
    let site = Site::start(1).await;
    let node = site.node("default", "n1").await;
    let good = claims(&node);
    let kid = site.keys().kids().next().unwrap().to_owned();
    let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let body = encode(&serde_json::to_string(&good).unwrap());
    let none = format!("{}.{body}.", encode(&format!(r#"{{"alg":"none","kid":"{kid}"}}"#)));
    // The public key as the secret of an HMAC: what a verifier that trusts `alg` would believe.
    let public = jwks_key(&site, &kid).await;
    let hmac = Header { kid: Some(kid.clone()), ..Header::new(Algorithm::HS256) };
    let hmac = jsonwebtoken::encode(&hmac, &good, &EncodingKey::from_secret(&public)).unwrap();
    let stranger = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let stranger = EncodingKey::from_ed_der(&stranger.serialize_der());
    let signed = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &good, &stranger).unwrap()
    };
    let cut = site.keys().sign(&good).unwrap();
    for (what, token) in [
        ("alg none", none),
        ("HS256 with the public key", hmac),
        ("an unknown kid", signed(Some("0000000000000000"))),
        ("no kid", signed(None)),
        ("a known kid and another key", signed(Some(&kid))),
        ("a cut signature", cut[..cut.len() - 4].to_owned()),
        ("no JWT", "x.y.z".to_owned()),
        ("a user token", site.root.clone()),
    ] {
        refused(node.tunnel_with(&site, 0, Some(&token)).await, Code::Unauthenticated, what);
    }
    refused(node.tunnel_with(&site, 0, None).await, Code::Unauthenticated, "no token");
    node.tunnel(&site, 0).await.unwrap().welcomed().await;
}

/// The raw public key from the published JWKS.
async fn jwks_key(site: &Site, kid: &str) -> Vec<u8> {
    let body = crate::support::get(site, 0, "/.well-known/jwks.json").await;
    let jwks: serde_json::Value = serde_json::from_str(&body).unwrap();
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap();
    assert_eq!((&key["kty"], &key["crv"]), (&"OKP".into(), &"Ed25519".into()));
    URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_without_the_certificate_is_worth_nothing() {
    let site = Site::start(1).await;
    let (node, thief) = (site.node("default", "n1").await, site.node("default", "n2").await);
    let token = node.mint(&site, 0).await.unwrap();
    let bare = Tunnel::open(site.channel(0).await, "n1", Some(&token)).await;
    refused(bare, Code::CertificateRequired, "no certificate");
    refused(thief.tunnel_with(&site, 0, Some(&token)).await, Code::NotBound, "another one's");
    // With its own token, under another name.
    let own = thief.mint(&site, 0).await.unwrap();
    let channel = thief.channel(&site, 0).await.unwrap();
    let mut liar = Tunnel::open(channel, "n1", Some(&own)).await.unwrap();
    assert_eq!(liar.refused().await, Code::NotBound.as_str());
    node.tunnel_with(&site, 0, Some(&token)).await.unwrap().welcomed().await;
}

#[tokio::test]
async fn a_newer_token_keeps_the_tunnel_open_and_without_one_it_ends_in_time() {
    let site = Site::start(1).await;
    let node = site.node("default", "n1").await;
    let soon = |seconds| TunnelClaims { exp: now().0 / 1_000 + seconds, ..claims(&node) };
    let first = site.keys().sign(&soon(3)).unwrap();
    let opened = node.tunnel_with(&site, 0, Some(&first)).await.unwrap();
    let (mut tunnel, _) = opened.welcomed().await;
    let newer = soon(6);
    let shown = pb::TokenShown { token: site.keys().sign(&newer).unwrap() };
    tunnel.up.send(pb::AgentFrame { body: Some(Up::TokenShown(shown)) }).await.unwrap();
    match tunnel.next().await {
        Some(Down::TokenAccepted(accepted)) => {
            assert_eq!(accepted.expires_at_ms, newer.exp * 1_000);
        }
        other => panic!("{other:?}"),
    }
    tunnel.beat();
    let ended = tunnel.refused().await;
    assert!(["CX-0503", "CX-0545"].contains(&ended.as_str()), "{ended}");
    assert!(now().0 + 200 >= newer.exp * 1_000, "it ended before its time");
}

#[tokio::test]
async fn a_newer_token_of_somebody_else_ends_the_tunnel() {
    let site = Site::start(1).await;
    let (node, other) = (site.node("default", "n1").await, site.node("default", "n2").await);
    let (mut tunnel, _) = node.tunnel(&site, 0).await.unwrap().welcomed().await;
    let shown = pb::TokenShown { token: other.mint(&site, 0).await.unwrap() };
    tunnel.up.send(pb::AgentFrame { body: Some(Up::TokenShown(shown)) }).await.unwrap();
    assert_eq!(tunnel.refused().await, Code::NotBound.as_str());
}

#[tokio::test]
async fn a_token_is_minted_for_the_certificate_of_the_connection_and_for_nobody_without_one() {
    let site = Site::start(1).await;
    let node = site.node("default", "n1").await;
    let token = node.mint(&site, 0).await.unwrap();
    let body = token.split('.').nth(1).unwrap();
    let minted: TunnelClaims =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    let expected = claims(&node);
    assert_eq!(
        (&minted.iss, &minted.aud, &minted.sub),
        (&expected.iss, &expected.aud, &expected.sub)
    );
    assert_eq!(minted.cnf, expected.cnf);
    assert!(minted.exp - minted.iat <= 300 && !minted.jti.is_empty());
    let mut bare =
        cortex_proto::v1::node_identity_client::NodeIdentityClient::new(site.channel(0).await);
    let refusal = bare.mint_tunnel_token(pb::MintTunnelTokenRequest {}).await;
    assert_eq!(code(refusal), Code::CertificateRequired.as_str());
}
