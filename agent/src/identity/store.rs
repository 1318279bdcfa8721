//! What a node keeps of its identity on disk (docs/agent-identity.md). Every change replaces the whole file, so that a crash
//! leaves the old one or the new one. It never talks to anybody.

use super::key::NodeKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_audit::{KeyKind, VerifierKey};
use cortex_model::limits::enrol::IDENTITY_FILE_MAX;
use cortex_model::{Code, Fault, NodeId, Workspace};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Version of `identity.json` that is written.
const VERSION: u32 = 1;
/// Keys of mirrors that are kept; one is of use.
const MIRRORS_MAX: usize = 2;
const KEY: &str = "key.pem";
const IDENTITY: &str = "identity.json";

/// The directory `identity` of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

/// The content of `identity.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrolled {
    version: u32,
    /// Where the gateway is: `https://HOST:PORT`.
    pub(crate) server: String,
    /// The workspace that owns the node; empty while that is not known.
    pub(crate) workspace: String,
    /// The node's id; while pending perhaps only the wish.
    pub(crate) node: String,
    /// How far it has come.
    pub(crate) standing: Standing,
}

/// How far a node has come. `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Standing {
    /// The server was asked, or is about to be. The token is kept so that it can be asked again.
    Pending {
        /// Text of the join token.
        token: String,
    },
    /// It has a certificate.
    Certified(Certificate),
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Pending { .. } => "Pending",
            Standing::Certified(_) => "Certified",
        })
    }
}

/// The certificate and what came with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// DER in base64, the node's own first.
    chain: Vec<String>,
    /// DER in base64: who may sign for a gateway.
    roots: Vec<String>,
    /// The deployment's name.
    pub(crate) trust_domain: String,
    /// Unix milliseconds.
    pub(crate) not_before_ms: u64,
    /// Unix milliseconds.
    pub(crate) not_after_ms: u64,
    /// Unix milliseconds.
    pub(crate) renew_at_ms: u64,
    /// Keys of the mirrors that the server named with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<String>,
}

impl Certificate {
    /// Takes over what the server answered.
    ///
    /// # Errors
    /// `CX-0302` for an answer without a certificate or a root.
    pub(crate) fn of(answer: cortex_model::proto::NodeCertificate) -> Result<Certificate, Fault> {
        if answer.chain.is_empty() || answer.roots.is_empty() {
            return Err(Fault::new(Code::ProtocolViolation, "the server sent no certificate"));
        }
        Ok(Certificate {
            chain: answer.chain.iter().map(|der| STANDARD.encode(der)).collect(),
            roots: answer.roots.iter().map(|der| STANDARD.encode(der)).collect(),
            trust_domain: answer.trust_domain,
            not_before_ms: answer.not_before_ms,
            not_after_ms: answer.not_after_ms,
            renew_at_ms: answer.renew_at_ms.min(answer.not_after_ms),
            mirrors: answer.mirrors.into_iter().take(MIRRORS_MAX).collect(),
        })
    }

    /// The mirror that the server named, if it named one and no other.
    pub(crate) fn mirror(&self) -> Option<VerifierKey> {
        let [key] = self.mirrors.as_slice() else { return None };
        VerifierKey::parse(key).ok().filter(|key| key.kind() == KeyKind::Cosigner)
    }

    /// The node's own certificate first.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        certificates(&self.chain)
    }

    /// Who may sign for a gateway.
    pub(crate) fn roots(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        certificates(&self.roots)
    }
}

fn certificates(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = |text: &String| {
        let der = STANDARD.decode(text).map_err(|_| damaged("a certificate is not base64"))?;
        Ok(CertificateDer::from(der))
    };
    texts.iter().map(read).collect()
}

impl Enrolled {
    /// A join that is about to be asked for.
    pub(crate) fn pending(server: &str, node: &str, token: &str) -> Enrolled {
        Enrolled {
            version: VERSION,
            server: server.to_owned(),
            workspace: String::new(),
            node: node.to_owned(),
            standing: Standing::Pending { token: token.to_owned() },
        }
    }

    /// The certificate.
    ///
    /// # Errors
    /// `CX-0540` while there is none.
    pub(crate) fn certificate(&self) -> Result<&Certificate, Fault> {
        match &self.standing {
            Standing::Certified(certificate) => Ok(certificate),
            Standing::Pending { .. } => {
                Err(Fault::new(Code::NotEnrolled, "the join is not finished"))
            }
        }
    }

    fn check(&self) -> Result<(), Fault> {
        let parsed = match self.standing {
            Standing::Pending { .. } => return Ok(()),
            Standing::Certified(_) => {
                NodeId::parse(&self.node).and(Workspace::parse(&self.workspace).map(drop))
            }
        };
        parsed.map(drop).map_err(|fault| damaged(&fault.message))
    }
}

impl Store {
    /// Of an agent's data directory.
    pub(crate) fn of(data_dir: &Path) -> Store {
        Store { dir: data_dir.join("identity") }
    }

    /// Whether there is an identity, whatever its state.
    pub(crate) fn exists(&self) -> bool {
        self.dir.join(IDENTITY).exists()
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// `CX-0540` when there is none, `CX-0542` when it cannot be used, `CX-0706` when others can read it.
    pub(crate) fn load(&self) -> Result<Enrolled, Fault> {
        let text = self.read(IDENTITY)?.ok_or_else(|| {
            Fault::new(Code::NotEnrolled, format!("{} holds no identity", self.dir.display()))
        })?;
        let version = serde_json::from_str::<serde_json::Value>(&text)
            .map_err(|err| damaged(&format!("{IDENTITY}: {err}")))?["version"]
            .as_u64();
        if version != Some(u64::from(VERSION)) {
            let found = version.map_or("none".to_owned(), |version| version.to_string());
            return Err(damaged(&format!(
                "{IDENTITY} has version {found}, this agent reads {VERSION}"
            )));
        }
        let enrolled: Enrolled =
            serde_json::from_str(&text).map_err(|err| damaged(&format!("{IDENTITY}: {err}")))?;
        enrolled.check()?;
        Ok(enrolled)
    }

    /// Replaces the identity; durable when this returns.
    pub(crate) fn save(&self, enrolled: &Enrolled) -> Result<(), Fault> {
        let mut text = serde_json::to_string_pretty(enrolled)
            .map_err(|err| Fault::new(Code::Internal, err.to_string()))?;
        text.push('\n');
        self.write(IDENTITY, &text)
    }

    /// Reads the key.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub(crate) fn key(&self) -> Result<NodeKey, Fault> {
        let pem = self.read(KEY)?.ok_or_else(|| damaged(&format!("{KEY} is missing")))?;
        NodeKey::from_pem(&pem)
    }

    /// The key, made now if there is none: a join that was interrupted goes on with the same one.
    pub(crate) fn key_or_new(&self) -> Result<NodeKey, Fault> {
        if self.dir.join(KEY).exists() {
            return self.key();
        }
        let key = NodeKey::generate()?;
        self.write(KEY, &key.to_pem())?;
        Ok(key)
    }

    /// Forgets everything, the key first; durable when this returns.
    pub(crate) fn remove(&self) -> Result<(), Fault> {
        for name in [KEY, IDENTITY] {
            match fs::remove_file(self.dir.join(name)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed(name, &err));
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.sync()
    }

    fn read(&self, name: &str) -> Result<Option<String>, Fault> {
        let path = self.dir.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(self.failed(name, &err)),
        };
        let meta = file.metadata().map_err(|err| self.failed(name, &err))?;
        if meta.mode() & 0o077 != 0 {
            let message =
                format!("{} is open to others (mode {:o})", path.display(), meta.mode() & 0o777);
            return Err(Fault::new(Code::InsecureFile, message));
        }
        let mut text = String::new();
        let read = file.take(IDENTITY_FILE_MAX + 1).read_to_string(&mut text);
        read.map_err(|err| self.failed(name, &err))?;
        if text.len() as u64 > IDENTITY_FILE_MAX {
            return Err(damaged(&format!("{name} is larger than it can be")));
        }
        Ok(Some(text))
    }

    /// Whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.dir).map_err(|err| self.failed(name, &err))?;
        let (part, whole) = (self.dir.join(format!("{name}.part")), self.dir.join(name));
        let written = || -> io::Result<()> {
            // One that a crash left behind may have other rights.
            match fs::remove_file(&part) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                Ok(()) | Err(_) => {}
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, &whole)
        };
        written().map_err(|err| self.failed(name, &err))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Fault> {
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|err| self.failed("", &err))
    }

    fn failed(&self, name: &str, err: &io::Error) -> Fault {
        let full = err.kind() == io::ErrorKind::StorageFull;
        let code = if full { Code::DiskFull } else { Code::AgentUnable };
        Fault::new(code, format!("{}: {err}", self.dir.join(name).display()))
    }
}

fn damaged(why: &str) -> Fault {
    Fault::new(Code::IdentityDamaged, format!("the node's identity cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const PENDING: &str = include_str!("../../../tests/golden/agent/identity-v1-pending.json");
    const CERTIFIED: &str = include_str!("../../../tests/golden/agent/identity-v1-certified.json");

    fn holding(text: &str) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(dir.path());
        store.write(IDENTITY, text).unwrap();
        (dir, store)
    }

    #[test]
    fn files_of_version_1_are_read_and_written_as_they_ever_were() {
        for text in [PENDING, CERTIFIED] {
            let (_dir, store) = holding(text);
            let enrolled = store.load().unwrap();
            assert!(!format!("{enrolled:?}").contains("a5a5"), "a token is shown");
            assert_eq!((enrolled.node.as_str(), enrolled.workspace.as_str()), ("n-1", "team-a"));
            store.save(&enrolled).unwrap();
            assert_eq!(store.read(IDENTITY).unwrap().unwrap(), text);
        }
        let (_dir, store) = holding(CERTIFIED);
        let certified = store.load().unwrap();
        let certificate = certified.certificate().unwrap();
        assert_eq!(certificate.chain().unwrap()[0].as_ref(), [1, 2, 3]);
        assert_eq!(certificate.renew_at_ms, 1666);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_not_repaired() {
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("\"version\": 1", "\"version\": \"1\""),
            ("\"node\": \"n-1\"", "\"node\": \"../n\""),
            ("\"server\"", "\"sever\""),
            ("\"certified\"", "\"confirmed\""),
            ("}\n}\n", ""),
        ] {
            assert!(CERTIFIED.contains(from));
            let (_dir, store) = holding(&CERTIFIED.replace(from, to));
            assert_eq!(store.load().unwrap_err().code, Code::IdentityDamaged, "{to}");
        }
        let (_dir, store) = holding(&" ".repeat(usize::try_from(IDENTITY_FILE_MAX).unwrap() + 1));
        assert_eq!(store.load().unwrap_err().code, Code::IdentityDamaged);
    }

    #[test]
    fn secrets_are_private_from_the_start_and_refused_when_they_are_not() {
        let (dir, store) = holding(PENDING);
        store.key_or_new().unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
        assert_eq!(mode("identity"), 0o700);
        assert_eq!((mode("identity/key.pem"), mode("identity/identity.json")), (0o600, 0o600));
        for name in ["key.pem", "identity.json"] {
            let path = dir.path().join("identity").join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let refused = store.load().and_then(|_| store.key().map(drop)).unwrap_err();
            assert_eq!(refused.code, Code::InsecureFile, "{name}");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        store.load().unwrap();
    }

    #[test]
    fn what_a_crash_left_behind_neither_counts_nor_leaks() {
        let (dir, store) = holding(CERTIFIED);
        let part = dir.path().join("identity/identity.json.part");
        fs::write(&part, "half").unwrap();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
        let enrolled = store.load().unwrap();
        store.save(&enrolled).unwrap();
        assert!(!part.exists() && store.load().unwrap() == enrolled);
    }

    #[test]
    fn a_key_is_made_once_and_goes_first() {
        let (dir, store) = holding(CERTIFIED);
        let key = store.key_or_new().unwrap().fingerprint();
        assert_eq!(store.key_or_new().unwrap().fingerprint(), key);
        store.remove().unwrap();
        store.remove().unwrap();
        assert!(
            !store.exists() && fs::read_dir(dir.path().join("identity")).unwrap().next().is_none()
        );
    }
}
