//! Tunnel tokens that were forged, stolen or are out of their time, each on a connection with a good certificate.

use crate::machine::still_serves;
use crate::raw::{Stranger, Thief, block_on, now_s, uri_of};
use crate::support::Server;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

struct Forger {
    private: Vec<u8>,
    kid: String,
    public: Vec<u8>,
    claims: Value,
}

impl Forger {
    /// The claims as the server would write them, changed.
    fn claims(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut claims = self.claims.clone();
        change(&mut claims);
        claims
    }

    /// Signed with the deployment's own key.
    fn signed(&self, change: impl FnOnce(&mut Value)) -> String {
        self.signed_as(&self.kid, &self.private, &self.claims(change))
    }

    fn signed_as(&self, kid: &str, private: &[u8], claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.to_owned());
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(private)).unwrap()
    }

    /// With a header and signature of whatever kind.
    fn by_hand(&self, header: &Value, signature: &[u8]) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(header), part(&self.claims), URL_SAFE_NO_PAD.encode(signature))
    }
}

fn forger(server: &Server, node: &Stranger) -> Forger {
    let (private, kid, public) = Thief::of(server).token_key();
    let sub = uri_of(node);
    let domain = sub.trim_start_matches("spiffe://").split('/').next().unwrap();
    let now = now_s();
    let claims = json!({
        "iss": format!("spiffe://{domain}"), "aud": "cortex-tunnel", "sub": sub, "workspace": "default",
        "node": node.node, "iat": now, "nbf": now, "exp": now + 200, "jti": "j1",
        "cnf": { "x5t#S256": node.thumbprint() },
    });
    Forger { private, kid, public, claims }
}

/// A tunnel with this token is refused by its code, with a hint, and without a word of the token.
#[track_caller]
fn is_refused(node: &Stranger, what: &str, token: Option<&str>, code: &str) {
    let refused = match block_on(node.tunnel(token)) {
        Err(refused) => refused,
        Ok(frame) => panic!("{what} was taken: {frame:?}"),
    };
    assert_eq!(refused.code, code, "{what}: {refused:?}");
    assert!(!refused.hint.is_empty(), "{what}: no hint");
    let begins = token.and_then(|token| token.get(..24)).unwrap_or("nothing to repeat");
    let told = format!("{refused:?}");
    assert!(!told.contains(begins), "{what}: the token is repeated in {told}");
}

#[test]
fn every_forged_or_misused_token_is_refused_by_its_code_and_others_are_served() {
    let server = Server::start(&[]);
    let node = Stranger::joined(&server, "mallory");
    let other = Stranger::joined(&server, "alice");
    let f = forger(&server, &node);
    let now = now_s();
    // The forger's own work is good: only what is changed below is what is refused.
    assert!(block_on(node.tunnel(Some(&f.signed(|_| {})))).is_ok());
    let stolen = block_on(other.mint()).unwrap();
    let (ed, hs) = ("EdDSA", "HS256");
    let mut hmac = Header::new(Algorithm::HS256);
    hmac.kid = Some(f.kid.clone());
    let confused = jsonwebtoken::encode(&hmac, &f.claims, &EncodingKey::from_secret(&f.public));
    let fresh = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_der();
    let table = [
        (
            "expired",
            Some(f.signed(|c| {
                (c["iat"], c["nbf"], c["exp"]) =
                    (json!(now - 400), json!(now - 400), json!(now - 100))
            })),
            "CX-0503",
        ),
        (
            "not valid yet",
            Some(f.signed(|c| {
                (c["iat"], c["nbf"], c["exp"]) =
                    (json!(now + 100), json!(now + 100), json!(now + 200))
            })),
            "CX-0506",
        ),
        ("longer than five minutes", Some(f.signed(|c| c["exp"] = json!(now + 3_600))), "CX-0501"),
        ("another audience", Some(f.signed(|c| c["aud"] = json!("cortex-api"))), "CX-0501"),
        ("another issuer", Some(f.signed(|c| c["iss"] = json!("spiffe://other"))), "CX-0501"),
        ("alg none", Some(f.by_hand(&json!({"alg": "none", "kid": f.kid}), b"")), "CX-0501"),
        ("HS256 with the public key", Some(confused.unwrap()), "CX-0501"),
        ("HS256 in name", Some(f.by_hand(&json!({"alg": hs, "kid": f.kid}), &[7; 64])), "CX-0501"),
        (
            "a wrong signature",
            Some(f.by_hand(&json!({"alg": ed, "kid": f.kid}), &[7; 64])),
            "CX-0501",
        ),
        ("an unknown kid", Some(f.signed_as("0123456789abcdef", &f.private, &f.claims)), "CX-0501"),
        ("no kid", Some(f.by_hand(&json!({"alg": ed}), &[7; 64])), "CX-0501"),
        ("another key under a known kid", Some(f.signed_as(&f.kid, &fresh, &f.claims)), "CX-0501"),
        (
            "bound to nothing",
            Some(f.signed(|c| drop(c.as_object_mut().unwrap().remove("cnf")))),
            "CX-0501",
        ),
        (
            "bound to another certificate",
            Some(f.signed(|c| c["cnf"]["x5t#S256"] = json!(other.thumbprint()))),
            "CX-0505",
        ),
        ("of another node", Some(f.signed(|c| c["sub"] = json!(uri_of(&other)))), "CX-0505"),
        ("stolen from another node", Some(stolen), "CX-0505"),
        ("no token", None, "CX-0501"),
        ("nonsense", Some("a.b.c".to_owned()), "CX-0501"),
        ("a very long one", Some("x".repeat(8_000)), "CX-0501"),
    ];
    for (what, token, code) in table {
        is_refused(&node, what, token.as_deref(), code);
    }
    still_serves(&server);
}

#[test]
fn a_good_token_without_the_certificate_it_is_bound_to_is_worth_nothing() {
    let server = Server::start(&[]);
    let mut node = Stranger::joined(&server, "alice");
    let token = block_on(node.mint()).unwrap();
    node.chain.clear();
    let refused = block_on(node.tunnel(Some(&token))).unwrap_err();
    assert_eq!(refused.code, "CX-0510", "{refused:?}");
    let refused = block_on(node.mint()).unwrap_err();
    assert_eq!(refused.code, "CX-0510", "{refused:?}");
    still_serves(&server);
}
