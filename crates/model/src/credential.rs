//! The text of tokens, and names in certificates. Only forms: nothing here knows whether a token is valid.

use crate::error::{Code, Fault};
use crate::ids::{NodeId, Workspace};
use crate::registry::Digest;
use std::fmt;

/// What begins the text of a join token.
pub const JOIN_PREFIX: &str = "cxj1";
/// What begins the text of a user token.
pub const USER_PREFIX: &str = "cxu1";
/// Bytes of a token's secret.
pub const SECRET_LEN: usize = 32;

/// What a token's text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Enrolling machines.
    Join,
    /// Calling the API.
    User,
}

/// The parts of a token's text: `PREFIX.WORKSPACE.ID.SECRET.CA`, secret and CA fingerprint in lower-case hex.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    /// What it is for.
    pub purpose: Purpose,
    /// Whose it is.
    pub workspace: Workspace,
    /// Names it; not secret.
    pub id: String,
    /// What only its holder knows.
    pub secret: [u8; SECRET_LEN],
    /// SHA-256 of the CA's certificate, DER: how to know the server.
    pub ca: Digest,
}

impl TokenText {
    /// Reads a token's text.
    ///
    /// # Errors
    /// `CX-0522` without a word of the text in it.
    pub fn parse(text: &str) -> Result<TokenText, Fault> {
        let bad = || Fault::new(Code::BadTokenText, "this is not the whole text of a token");
        let mut parts = text.trim().split('.');
        let mut next = || parts.next().ok_or_else(bad);
        let purpose = match next()? {
            JOIN_PREFIX => Purpose::Join,
            USER_PREFIX => Purpose::User,
            _ => return Err(bad()),
        };
        let workspace = Workspace::parse(next()?).map_err(|_| bad())?;
        let id = next()?.to_owned();
        let secret = unhex(next()?).ok_or_else(bad)?;
        let ca = Digest(unhex(next()?).ok_or_else(bad)?);
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if parts.next().is_some() || !(1..=40).contains(&id.len()) || !id.bytes().all(plain) {
            return Err(bad());
        }
        Ok(TokenText { purpose, workspace, id, secret, ca })
    }

    /// What is kept of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> Digest {
        Digest::of(&self.secret)
    }

    /// The text, with the secret in it.
    #[must_use]
    pub fn reveal(&self) -> String {
        let prefix = match self.purpose {
            Purpose::Join => JOIN_PREFIX,
            Purpose::User => USER_PREFIX,
        };
        let (secret, ca) = (Digest(self.secret), self.ca);
        format!("{prefix}.{}.{}.{secret}.{ca}", self.workspace, self.id)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} token {}/{}", self.purpose, self.workspace, self.id)
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let bytes: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut out = [0; 32];
    for (at, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *at = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(out)
}

/// The URI name in a node's certificate: `spiffe://<trust domain>/workspace/<workspace>/node/<node>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// The deployment.
    pub trust_domain: String,
    /// Owner of the node.
    pub workspace: Workspace,
    /// The node.
    pub node: NodeId,
}

impl NodeName {
    /// Reads a URI.
    #[must_use]
    pub fn parse(uri: &str) -> Option<NodeName> {
        let mut parts = uri.strip_prefix("spiffe://")?.split('/');
        let trust_domain = parts.next().filter(|t| is_trust_domain(t))?.to_owned();
        let fixed = |given: Option<&str>, wanted| (given? == wanted).then_some(());
        fixed(parts.next(), "workspace")?;
        let workspace = Workspace::parse(parts.next()?).ok()?;
        fixed(parts.next(), "node")?;
        let node = NodeId::parse(parts.next()?).ok()?;
        parts.next().is_none().then_some(NodeName { trust_domain, workspace, node })
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/workspace/{}/node/{}", self.trust_domain, self.workspace, self.node)
    }
}

/// Whether a text can be the name of a trust domain: 1 to 255 of `a-z`, `0-9`, `.`, `-`, `_`.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    (1..=255).contains(&text.len()) && text.bytes().all(plain)
}

/// How a client says in its first TLS message (`certificate_authorities`, RFC 8446 4.2.4) that it knows the server by the CA
/// with this fingerprint: the content of an X.501 name (DER, without its outermost SEQUENCE), with a common name of its own.
#[must_use]
pub fn authority_hint(ca: &Digest) -> Vec<u8> {
    /// 2.5.4.3, the common name.
    const COMMON_NAME: [u8; 5] = [6, 3, 0x55, 4, 3];
    let text = format!("cortex-ca:{ca}").into_bytes();
    // Each is shorter than 128 bytes, so a length is one byte.
    let wrap = |tag: u8, inner: Vec<u8>| {
        let length = u8::try_from(inner.len()).unwrap_or(u8::MAX);
        [vec![tag, length], inner].concat()
    };
    wrap(0x31, wrap(0x30, [COMMON_NAME.to_vec(), wrap(0x0c, text)].concat()))
}

/// The bytes a node signs to renew its certificate (identity.proto, RenewCertificateRequest).
#[must_use]
pub fn renewal_proof(certificate_der: &[u8], csr_der: &[u8], signed_at_ms: u64) -> Vec<u8> {
    let mut bytes = b"cortex-renew-v1\0".to_vec();
    bytes.extend(Digest::of(certificate_der).0);
    bytes.extend(Digest::of(csr_der).0);
    bytes.extend(signed_at_ms.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenText {
        TokenText {
            purpose: Purpose::Join,
            workspace: Workspace::parse("team-a").unwrap(),
            id: "abc123".into(),
            secret: [0xa5; 32],
            ca: Digest([1; 32]),
        }
    }

    #[test]
    fn a_token_is_read_back_and_shows_its_secret_only_when_asked() {
        let text = token().reveal();
        assert_eq!(TokenText::parse(&format!("{text}\n")), Ok(token()));
        assert!(!format!("{:?}", token()).contains("a5a5"));
    }

    #[test]
    fn anything_else_is_refused_without_repeating_it() {
        let good = token().reveal();
        let upper = good.replace("a5", "A5");
        let longer = format!("{good}.x");
        let other = good.replace("cxj1", "cxj2");
        for bad in ["", "x", "cxj1", &good[1..], &good[..good.len() - 1], &upper, &longer, &other] {
            let fault = TokenText::parse(bad).unwrap_err();
            assert_eq!(fault.code, Code::BadTokenText, "{bad}");
            assert!(!fault.to_string().contains("a5a5"), "{fault}");
        }
    }

    #[test]
    fn a_nodes_name_is_read_back_and_nothing_else_is_one() {
        let good = "spiffe://d.example/workspace/w/node/n-1";
        assert_eq!(NodeName::parse(good).unwrap().to_string(), good);
        for bad in [
            "spiffe://d.example/workspace/w/node/n-1/x",
            "spiffe://d.example/workspace/w/node/",
            "spiffe://d.example/node/n/workspace/w",
            "spiffe:///workspace/w/node/n",
            "spiffe://D/workspace/w/node/n",
            "https://d.example/workspace/w/node/n",
            "spiffe://d.example/workspace/../node/n",
        ] {
            assert_eq!(NodeName::parse(bad), None, "{bad}");
        }
    }
}
