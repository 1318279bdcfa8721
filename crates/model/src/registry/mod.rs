//! What can happen to nodes and tokens: the events of the log's space Registry, and their folds. A fold says where
//! something stands and which event may come next; it never appends one.

pub mod node;
pub mod token;

pub use node::{NodeRecord, Standing};
pub use token::{Grant, JoinGrant, JoinStep, TokenRecord, TokenState, UserGrant};

use crate::error::{Code, Fault};
use crate::ids::NodeId;
use crate::limits::identity::NODE_ID_MAX;
use crate::task::Actor;
use crate::time::UnixMillis;
use std::collections::BTreeMap;
use std::fmt;

/// A SHA-256: of a key, a secret or a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// Reads 32 bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Digest> {
        bytes.try_into().ok().map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Events of one node or token that were appended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryCommit {
    /// 1, 2, 3... per aggregate; a gap means that the log lost something.
    pub n: u64,
    /// At least one.
    pub events: Vec<RegistryEvent>,
}

/// Somebody's decision on a node or token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Who decided.
    pub actor: Actor,
    /// Why; may be empty.
    pub reason: String,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// What an administrator takes away from what a node's owner allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Who decided, why, when.
    pub decision: Decision,
    /// What, as TOML; empty is nothing. Only the node says what of it counts.
    pub text: String,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryEvent {
    /// A machine showed a join token.
    NodeEnrolled(Box<NodeEnrolled>),
    /// The node may work.
    NodeApproved(Decision),
    /// It never will.
    NodeRejected(Decision),
    /// It may not until it is approved again.
    NodeQuarantined(Decision),
    /// Its key is worth nothing any more.
    NodeRevoked(Decision),
    /// It has a new certificate.
    CertificateIssued(CertificateIssued),
    /// Its owner took it out.
    NodeLeft {
        /// Why; may be empty.
        reason: String,
        /// Gateway's clock.
        at: UnixMillis,
    },
    /// Its key is probably on two machines.
    CloneSuspected(CloneSuspected),
    /// Something is taken away from what its owner allows.
    NodeNarrowed(Box<Narrowed>),
    /// A token exists.
    TokenCreated(Box<TokenCreated>),
    /// A machine joined with it.
    TokenUsed(TokenUsed),
    /// It is worth nothing any more.
    TokenRevoked(Decision),
}

impl RegistryEvent {
    /// The event's name, as in headers and histories.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            RegistryEvent::NodeEnrolled(_) => "NodeEnrolled",
            RegistryEvent::NodeApproved(_) => "NodeApproved",
            RegistryEvent::NodeRejected(_) => "NodeRejected",
            RegistryEvent::NodeQuarantined(_) => "NodeQuarantined",
            RegistryEvent::NodeRevoked(_) => "NodeRevoked",
            RegistryEvent::CertificateIssued(_) => "CertificateIssued",
            RegistryEvent::NodeLeft { .. } => "NodeLeft",
            RegistryEvent::CloneSuspected(_) => "CloneSuspected",
            RegistryEvent::NodeNarrowed(_) => "NodeNarrowed",
            RegistryEvent::TokenCreated(_) => "TokenCreated",
            RegistryEvent::TokenUsed(_) => "TokenUsed",
            RegistryEvent::TokenRevoked(_) => "TokenRevoked",
        }
    }
}

/// See [`RegistryEvent::NodeEnrolled`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEnrolled {
    /// Hash of the key's SubjectPublicKeyInfo.
    pub key: Digest,
    /// The join token.
    pub token_id: String,
    /// The machine's own name.
    pub hostname: String,
    /// Labels from the token.
    pub labels: BTreeMap<String, String>,
    /// Where it came from.
    pub address: String,
    /// Version of its program.
    pub agent_version: String,
    /// Gateway's clock.
    pub at: UnixMillis,
    /// Who appended this.
    pub gateway: String,
}

/// See [`RegistryEvent::CertificateIssued`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIssued {
    /// Serial number, hex.
    pub serial: String,
    /// Hash of its DER.
    pub sha256: Digest,
    /// Valid from.
    pub not_before: UnixMillis,
    /// Valid until.
    pub not_after: UnixMillis,
    /// Gateway's clock.
    pub at: UnixMillis,
    /// Who signed it.
    pub gateway: String,
}

/// See [`RegistryEvent::CloneSuspected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneSuspected {
    /// Where they came from.
    pub addresses: Vec<String>,
    /// Journals that both showed.
    pub incarnations: Vec<String>,
    /// Gateway's clock.
    pub at: UnixMillis,
    /// Who noticed.
    pub gateway: String,
}

/// See [`RegistryEvent::TokenCreated`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCreated {
    /// Hash of the secret.
    pub secret: Digest,
    /// What it is good for.
    pub grant: Grant,
    /// Not valid from here on.
    pub expires_at: UnixMillis,
    /// Who made it.
    pub actor: Actor,
    /// What it is for.
    pub note: String,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// See [`RegistryEvent::TokenUsed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUsed {
    /// Hash of the machine's key.
    pub key: Digest,
    /// The node id it asked for.
    pub node: String,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// What an aggregate of the registry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A node.
    Node(NodeRecord),
    /// A token.
    Token(TokenRecord),
}

impl Record {
    /// Commits that were folded.
    #[must_use]
    pub fn commits(&self) -> u64 {
        match self {
            Record::Node(node) => node.commits,
            Record::Token(token) => token.commits,
        }
    }
}

/// Folds one more commit. The first event of an aggregate makes the record.
///
/// # Errors
/// `CX-0902` when the history has a gap or an event that cannot come there; the record must not be trusted any more.
pub fn fold(before: Option<Record>, commit: &RegistryCommit) -> Result<Record, Fault> {
    let broken = |why: &str| Fault::new(Code::Quarantined, format!("a registry history: {why}"));
    if commit.n != before.as_ref().map_or(0, Record::commits) + 1 {
        return Err(broken("a commit is missing"));
    }
    let mut record = before;
    for event in &commit.events {
        record = Some(match (record, event) {
            (None, RegistryEvent::NodeEnrolled(e)) => Record::Node(NodeRecord::begin(e)),
            (None, RegistryEvent::TokenCreated(e)) => Record::Token(TokenRecord::begin(e)),
            (Some(Record::Node(node)), event) => Record::Node(node.apply(event)?),
            (Some(Record::Token(token)), event) => Record::Token(token.apply(event)?),
            (None, other) => return Err(broken(&format!("it begins with {}", other.name()))),
        });
    }
    match record {
        Some(Record::Node(node)) => Ok(Record::Node(NodeRecord { commits: commit.n, ..node })),
        Some(Record::Token(token)) => Ok(Record::Token(TokenRecord { commits: commit.n, ..token })),
        None => Err(broken("a commit without events")),
    }
}

/// The id of a node's aggregate.
///
/// # Errors
/// `CX-0102` when the node id is too long to be enrolled.
pub fn node_aggregate(node: &NodeId) -> Result<String, Fault> {
    if node.as_str().len() > NODE_ID_MAX {
        let text = format!("a node id has at most {NODE_ID_MAX} characters");
        return Err(Fault::new(Code::BadIdentifier, text));
    }
    Ok(format!("n-{node}"))
}

/// The id of a token's aggregate.
#[must_use]
pub fn token_aggregate(token_id: &str) -> String {
    format!("t-{token_id}")
}

/// What an aggregate's id names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A node, by its id.
    Node(&'a str),
    /// A token, by its id.
    Token(&'a str),
    /// Something this version does not know.
    Other,
}

/// Reads what [`node_aggregate`] and [`token_aggregate`] wrote.
#[must_use]
pub fn named(aggregate: &str) -> Named<'_> {
    match (aggregate.strip_prefix("n-"), aggregate.strip_prefix("t-")) {
        (Some(node), _) => Named::Node(node),
        (_, Some(token)) => Named::Token(token),
        (None, None) => Named::Other,
    }
}
