//! Tunnel tokens: JWTs of five minutes at most, signed with EdDSA and bound to one certificate. The algorithm is fixed by the
//! key that is asked for, never by the token.

use super::x509::PeerCertificate;
use super::{Authority, TokenKey, random};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cortex_model::limits::identity::TUNNEL_TOKEN_LIFE_MS;
use cortex_model::registry::Digest;
use cortex_model::{Code, Fault, UnixMillis};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Whom tunnel tokens are for.
pub(crate) const TUNNEL_AUDIENCE: &str = "cortex-tunnel";
/// Difference between the clocks of two gateways that does no harm, seconds.
const LEEWAY_S: u64 = 10;

/// What a tunnel token says. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelClaims {
    /// The trust domain, as `spiffe://<trust domain>`.
    pub iss: String,
    /// `cortex-tunnel`.
    pub aud: String,
    /// The node's URI name.
    pub sub: String,
    /// Its workspace.
    pub workspace: String,
    /// Its id.
    pub node: String,
    /// When it was minted.
    pub iat: u64,
    /// Not valid before.
    pub nbf: u64,
    /// Not valid from here on.
    pub exp: u64,
    /// Unique.
    pub jti: String,
    /// The certificate it is bound to (RFC 8705).
    pub cnf: Confirmation,
}

/// See [`TunnelClaims::cnf`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// SHA-256 of the certificate, base64url without padding.
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: String,
}

impl Authority {
    /// Mints a token for the node of this certificate, and says when it ends.
    ///
    /// # Errors
    /// `CX-0901` when it cannot be signed.
    pub(crate) fn mint(
        &self,
        peer: &PeerCertificate,
        now: UnixMillis,
    ) -> Result<(String, UnixMillis), Fault> {
        let ends = (now + TUNNEL_TOKEN_LIFE_MS).min(peer.not_after);
        let claims = TunnelClaims {
            iss: self.issuer(),
            aud: TUNNEL_AUDIENCE.to_owned(),
            sub: peer.name.to_string(),
            workspace: peer.name.workspace.to_string(),
            node: peer.name.node.to_string(),
            iat: now.0 / 1_000,
            nbf: now.0 / 1_000,
            exp: ends.0 / 1_000,
            jti: Digest(random()?).to_string()[..32].to_owned(),
            cnf: Confirmation { x5t_s256: URL_SAFE_NO_PAD.encode(peer.sha256.0) },
        };
        self.sign(&claims).map(|token| (token, UnixMillis(claims.exp * 1_000)))
    }

    /// Signs claims with the newest key. Whoever holds the authority's files can say anything with it; tests do.
    ///
    /// # Errors
    /// `CX-0901` when it cannot be signed.
    pub fn sign(&self, claims: &TunnelClaims) -> Result<String, Fault> {
        let failed = || Fault::new(Code::Internal, "a tunnel token cannot be signed");
        let key = self.signers.first().ok_or_else(failed)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.kid.clone());
        // The reason could repeat the claims, but not the key; neither is needed.
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&key.private))
            .map_err(|_| failed())
    }

    /// Checks a token that was shown on a connection with this certificate, and says when it ends.
    ///
    /// # Errors
    /// `CX-0503` when its time is over, `CX-0506` before its time, `CX-0505` for another certificate, `CX-0501` for anything
    /// else, without a word of the token.
    pub(crate) fn check(&self, token: &str, peer: &PeerCertificate) -> Result<UnixMillis, Fault> {
        let bad = |why: &str| Fault::new(Code::Unauthenticated, format!("the tunnel token {why}"));
        let header = jsonwebtoken::decode_header(token).map_err(|_| bad("cannot be read"))?;
        let key = header.kid.and_then(|kid| self.signers.iter().find(|key| key.kid == kid));
        let key = key.ok_or_else(|| bad("is signed by a key that is not known here"))?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[self.issuer()]);
        rules.set_audience(&[TUNNEL_AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        rules.validate_nbf = true;
        rules.leeway = LEEWAY_S;
        let key = DecodingKey::from_ed_der(&key.public);
        let claims = jsonwebtoken::decode::<TunnelClaims>(token, &key, &rules)
            .map_err(|e| refused(e.kind()))?
            .claims;
        if claims.exp.saturating_sub(claims.iat) > TUNNEL_TOKEN_LIFE_MS / 1_000 {
            return Err(bad("lives longer than it may"));
        }
        let bound = claims.cnf.x5t_s256 == URL_SAFE_NO_PAD.encode(peer.sha256.0);
        if !bound || claims.sub != peer.name.to_string() {
            let text = "the tunnel token is bound to another certificate than this connection's";
            return Err(Fault::new(Code::NotBound, text));
        }
        Ok(UnixMillis(claims.exp * 1_000))
    }

    /// The public halves of the keys (RFC 7517).
    pub(crate) fn jwks(&self) -> serde_json::Value {
        let one = |key: &TokenKey| {
            serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "kid": key.kid, "x": URL_SAFE_NO_PAD.encode(&key.public),
            })
        };
        serde_json::json!({ "keys": self.signers.iter().map(one).collect::<Vec<_>>() })
    }

    fn issuer(&self) -> String {
        format!("spiffe://{}", self.trust_domain)
    }
}

/// What a refusal of the library means.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add kinds")]
pub(crate) fn refused(kind: &ErrorKind) -> Fault {
    let bad = |why: &str| Fault::new(Code::Unauthenticated, format!("the token {why}"));
    match kind {
        ErrorKind::ExpiredSignature => Fault::new(Code::TokenExpired, "the token's time is over"),
        ErrorKind::ImmatureSignature => {
            Fault::new(Code::ClockSkew, "the token is not valid yet by this server's clock")
        }
        ErrorKind::InvalidAudience => bad("is for another audience"),
        ErrorKind::InvalidIssuer => bad("is of another issuer"),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            bad("is signed in a way that its key does not sign")
        }
        ErrorKind::InvalidSignature => bad("is not signed by its key"),
        ErrorKind::MissingRequiredClaim(claim) => bad(&format!("lacks {claim}")),
        _ => bad("cannot be read"),
    }
}
