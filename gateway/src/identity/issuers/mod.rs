//! Outside issuers: whose tokens are accepted, where their keys are, and what their claims mean here. Nothing of it is on unless
//! somebody configured it.

mod jwks;
mod mapping;

use crate::authority::refused;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cortex_model::{Actor, Code, Fault, Role, UnixMillis, Workspace};
use jsonwebtoken::Validation;
use jwks::Keys;
use mapping::Issuer;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Difference between clocks that does no harm, seconds.
const LEEWAY_S: u64 = 30;

/// The issuers of a gateway.
#[derive(Clone, Default)]
pub struct Issuers {
    all: Vec<Arc<Known>>,
}

struct Known {
    issuer: Issuer,
    keys: Keys,
}

/// Whom a token of an outside issuer stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outsider {
    pub(crate) workspace: Workspace,
    pub(crate) role: Role,
    pub(crate) actor: Actor,
    pub(crate) issuer: String,
    pub(crate) expires_at: UnixMillis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    issuer: Vec<Issuer>,
}

impl Issuers {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// `CX-0525` with what cannot be.
    pub fn read(path: &Path) -> Result<Issuers, Fault> {
        let bad = |why: String| Fault::new(Code::BadIssuers, format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        let file: File = toml::from_str(&text).map_err(|e| bad(e.message().to_owned()))?;
        let mut all: Vec<Arc<Known>> = Vec::new();
        for issuer in file.issuer {
            issuer.check().map_err(|why| bad(format!("issuer {:?}: {why}", issuer.iss)))?;
            if all.iter().any(|known| known.issuer.iss == issuer.iss) {
                return Err(bad(format!("issuer {:?} is there twice", issuer.iss)));
            }
            let keys = Keys::new(&issuer.jwks, issuer.ca.as_deref())
                .map_err(|why| bad(format!("issuer {:?}: {why}", issuer.iss)))?;
            all.push(Arc::new(Known { issuer, keys }));
        }
        Ok(Issuers { all })
    }

    /// Keeps the keys up to date, until cancelled.
    pub(crate) fn follow(&self, background: &TaskTracker, stop: &CancellationToken) {
        for known in &self.all {
            let (known, stop) = (known.clone(), stop.clone());
            background.spawn(async move { known.keys.follow(&known.issuer.iss, stop).await });
        }
    }

    /// Whom a token stands for. `None` when it is of none of these issuers.
    ///
    /// # Errors
    /// `CX-0520` while the issuer's keys cannot be read; `CX-0501`, `CX-0503`, `CX-0506` for the token; `CX-0502` when its claims
    /// give it nothing here.
    pub(crate) fn check(&self, token: &str) -> Option<Result<Outsider, Fault>> {
        let iss = named_issuer(token)?;
        let known = self.all.iter().find(|known| known.issuer.iss == iss)?;
        Some(known.check(token))
    }
}

impl Known {
    fn check(&self, token: &str) -> Result<Outsider, Fault> {
        let bad = |why: &str| Fault::new(Code::Unauthenticated, format!("the token {why}"));
        let header = jsonwebtoken::decode_header(token).map_err(|_| bad("cannot be read"))?;
        let kid = header.kid.unwrap_or_default();
        let key = self.keys.find(&kid)?;
        if !key.algorithms.contains(&header.alg) {
            return Err(bad("is signed in a way that its key does not sign"));
        }
        let mut rules = Validation::new(header.alg);
        rules.set_issuer(&[&self.issuer.iss]);
        rules.set_audience(&[&self.issuer.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        rules.validate_nbf = true;
        rules.leeway = LEEWAY_S;
        let decoded = jsonwebtoken::decode::<serde_json::Value>(token, &key.key, &rules);
        self.issuer.outsider(&decoded.map_err(|e| refused(e.kind()))?.claims)
    }
}

/// The issuer a JWT says it is of; only to know whose keys to check it with.
fn named_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        iss: String,
    }
    let mut parts = token.split('.');
    let (_, body, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let body: Body = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
    Some(body.iss)
}
