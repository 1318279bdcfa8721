//! Tokens of outside issuers: accepted with a role only where somebody configured what their claims mean.

use crate::support::{Site, code, now, refused, stays, until};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cortex_gateway::Issuers;
use cortex_model::Code;
use cortex_model::proto as pb;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};
use std::path::Path;

struct Issuer {
    key: KeyPair,
    kid: String,
}

impl Issuer {
    fn new(kid: &str) -> Issuer {
        Issuer { key: KeyPair::generate().unwrap(), kid: kid.to_owned() }
    }

    /// Its public key; the coordinates follow a byte that says that both are there.
    fn jwk(&self) -> Value {
        let point = self.key.public_key_raw();
        json!({
            "kty": "EC", "crv": "P-256", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&self.key.serialize_der()))
            .unwrap()
    }
}

fn publish(path: &Path, issuers: &[&Issuer]) {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    let part = path.with_extension("part");
    std::fs::write(&part, json!({ "keys": keys }).to_string()).unwrap();
    std::fs::rename(part, path).unwrap();
}

fn configuration(jwks: &str, more: &str) -> String {
    format!(
        "[[issuer]]\niss = \"https://login.example/\"\naudience = \"cortex\"\njwks = {jwks:?}\n\
         workspace_claim = \"team\"\nrole_claim = \"groups\"\nroles = {{ ops = \"operator\" }}\n{more}"
    )
}

fn claims() -> Value {
    let seconds = now().0 / 1_000;
    json!({
        "iss": "https://login.example/", "aud": "cortex", "sub": "anna",
        "team": "blue", "groups": ["ops"], "exp": seconds + 600,
    })
}

#[tokio::test]
async fn a_token_of_a_configured_issuer_is_accepted_and_anything_odd_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let (issuer, stranger) = (Issuer::new("k1"), Issuer::new("k1"));
    publish(&path, &[&issuer]);
    let site = Site::with_issuers(1, Some(&configuration(path.to_str().unwrap(), ""))).await;
    let mut anna = site.user(&issuer.sign(&claims())).await;
    let who =
        until("the issuer's keys", async || anna.access.who_am_i(pb::WhoAmIRequest {}).await.ok())
            .await;
    let who = who.into_inner();
    assert_eq!((who.workspace.as_str(), who.role()), ("blue", pb::Role::Operator));
    assert_eq!((who.issuer.as_str(), who.token_id.as_str()), ("https://login.example/", ""));
    assert_eq!(anna.submit("t").await.unwrap().workspace, "blue");
    let with = |claim: &str, value: Value| {
        let mut claims = claims();
        claims[claim] = value;
        issuer.sign(&claims)
    };
    let past = now().0 / 1_000 - 600;
    let hmac = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(issuer.key.public_key_raw());
    for (what, token, expected) in [
        ("expired", with("exp", json!(past)), Code::TokenExpired),
        ("not yet valid", with("nbf", json!(past + 1_200)), Code::ClockSkew),
        ("another audience", with("aud", json!("other")), Code::Unauthenticated),
        ("another issuer", with("iss", json!("https://other/")), Code::Unauthenticated),
        ("without a role here", with("groups", json!(["guests"])), Code::Forbidden),
        ("without a workspace", with("team", json!(null)), Code::Forbidden),
        ("of another key", stranger.sign(&claims()), Code::Unauthenticated),
        (
            "HS256 with the public key",
            jsonwebtoken::encode(&hmac, &claims(), &secret).unwrap(),
            Code::Unauthenticated,
        ),
    ] {
        let mut user = site.user(&token).await;
        refused(user.access.who_am_i(pb::WhoAmIRequest {}).await, expected, what);
    }
}

#[tokio::test]
async fn an_issuer_that_nobody_configured_is_nobody() {
    let site = Site::start(1).await;
    let mut user = site.user(&Issuer::new("k1").sign(&claims())).await;
    refused(user.access.who_am_i(pb::WhoAmIRequest {}).await, Code::Unauthenticated, "no issuers");
}

#[tokio::test]
async fn a_rotated_key_is_followed_and_the_one_that_is_gone_is_worth_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let (old, new) = (Issuer::new("k1"), Issuer::new("k2"));
    publish(&path, &[&old]);
    let site = Site::with_issuers(1, Some(&configuration(path.to_str().unwrap(), ""))).await;
    let (mut before, mut after) =
        (site.user(&old.sign(&claims())).await, site.user(&new.sign(&claims())).await);
    until("the first key", async || before.access.who_am_i(pb::WhoAmIRequest {}).await.ok()).await;
    assert_ne!(code(after.access.who_am_i(pb::WhoAmIRequest {}).await), "ok");
    publish(&path, &[&new]);
    until("the second key", async || after.access.who_am_i(pb::WhoAmIRequest {}).await.ok()).await;
    assert_ne!(code(before.access.who_am_i(pb::WhoAmIRequest {}).await), "ok");
    // Keys that cannot be read change nothing.
    std::fs::write(&path, "damaged").unwrap();
    stays("damaged keys were taken", std::time::Duration::from_millis(2_200), async || {
        after.access.who_am_i(pb::WhoAmIRequest {}).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn keys_are_read_over_https_from_a_server_that_is_known() {
    // A gateway's own published keys, as an issuer's: what is served there is a JWKS like any other.
    let other = Site::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::copy(other.authority.join("ca.pem"), &ca).unwrap();
    let jwks = format!("{}/.well-known/jwks.json", other.url(0));
    let more = format!("ca = {:?}\n", ca.to_str().unwrap());
    let site = Site::with_issuers(1, Some(&configuration(&jwks, &more))).await;
    let kid = other.keys().kids().next().unwrap().to_owned();
    // Signed by a stranger with a kid that is published: known, and refused for its signature, which needs the key.
    let stranger = Issuer { key: KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), kid };
    let header = Header { kid: Some(stranger.kid.clone()), ..Header::new(Algorithm::EdDSA) };
    let key = EncodingKey::from_ed_der(&stranger.key.serialize_der());
    let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
    let mut user = site.user(&token).await;
    let message = until("the keys to be there", async || {
        let refusal = user.access.who_am_i(pb::WhoAmIRequest {}).await.unwrap_err();
        (!refusal.message().contains(Code::IssuerUnavailable.as_str()))
            .then(|| refusal.message().to_owned())
    })
    .await;
    assert!(message.contains("not signed by its key") || message.contains("too many"), "{message}");
}

#[test]
fn a_configuration_that_cannot_be_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("issuers.toml");
    for text in [
        "issuer = 7".to_owned(),
        configuration("jwks.json", "surprise = 1\n"),
        configuration("http://plain.example/jwks", ""),
        format!("{}\n{}", configuration("a.json", ""), configuration("b.json", "")),
    ] {
        std::fs::write(&path, &text).unwrap();
        let fault = Issuers::read(&path).err().unwrap();
        assert_eq!(fault.code, Code::BadIssuers, "{text}");
        assert!(fault.message.contains("issuers.toml"), "{fault}");
    }
}
