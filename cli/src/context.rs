//! Contexts: servers one has logged in to, with the token for each. One file each, which nobody else may read, in the user's
//! configuration directory; another file names the one in use.
//!
//! ```text
//! $XDG_CONFIG_HOME/cortex/contexts/<name>.json    0600
//! $XDG_CONFIG_HOME/cortex/context                 the name of the one in use
//! ```

use crate::client::{self, Target};
use crate::error::CliError;
use cortex_model::Code;
use cortex_model::registry::Digest;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// A server and the token for it.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) url: String,
    /// SHA-256 of the CA's certificate.
    pub(crate) ca: Digest,
    /// Secret.
    pub(crate) token: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What a file holds: a server that was logged in to, or the server of a data directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
}

/// The user's contexts.
#[derive(Clone, Debug)]
pub(crate) struct Contexts {
    dir: PathBuf,
}

/// A context as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) current: bool,
    pub(crate) server: String,
}

impl Contexts {
    /// The user's own; none without a home.
    pub(crate) fn of_user() -> Option<Contexts> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        base.map(|base| Contexts { dir: base.join("cortex") })
    }

    /// As [`Contexts::of_user`].
    ///
    /// # Errors
    /// `CX-0803` without a home.
    pub(crate) fn required() -> Result<Contexts, CliError> {
        Contexts::of_user().ok_or_else(|| {
            CliError::new(
                Code::Usage,
                "no place for contexts: neither HOME nor XDG_CONFIG_HOME is set",
            )
        })
    }

    /// Keeps a login and makes it the context in use.
    ///
    /// # Errors
    /// `CX-0102` for a name that cannot be a file's, I/O errors.
    pub(crate) fn login(&self, context: &Context) -> Result<(), CliError> {
        let stored = Stored {
            version: VERSION,
            url: Some(context.url.clone()),
            ca_sha256: Some(context.ca.to_string()),
            token: Some(context.token.clone()),
            data_dir: None,
        };
        self.keep(&context.name, &stored)?;
        self.use_one(&context.name)
    }

    /// Keeps where a server's data directory is; it becomes the context in use if none is.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn local(&self, data_dir: &Path) -> Result<(), CliError> {
        let data_dir = Some(data_dir.to_owned());
        let stored = Stored { version: VERSION, url: None, ca_sha256: None, token: None, data_dir };
        self.keep("local", &stored)?;
        if self.current()?.is_none() { self.use_one("local") } else { Ok(()) }
    }

    fn keep(&self, name: &str, stored: &Stored) -> Result<(), CliError> {
        let path = self.path(name)?;
        let text =
            serde_json::to_vec_pretty(stored).map_err(|e| CliError::internal(e.to_string()))?;
        write_private(&path, &text)
    }

    /// Makes a context the one in use.
    ///
    /// # Errors
    /// `CX-0524` when there is none of that name.
    pub(crate) fn use_one(&self, name: &str) -> Result<(), CliError> {
        self.read(name)?;
        write_private(&self.dir.join("context"), name.as_bytes())
    }

    /// Forgets a context and its token.
    ///
    /// # Errors
    /// `CX-0524` when there is none of that name.
    pub(crate) fn remove(&self, name: &str) -> Result<(), CliError> {
        self.read(name)?;
        let path = self.path(name)?;
        fs::remove_file(&path).map_err(|e| io(&path, &e))?;
        if self.current()?.as_deref() == Some(name) {
            let path = self.dir.join("context");
            fs::remove_file(&path).map_err(|e| io(&path, &e))?;
        }
        Ok(())
    }

    /// The name of the context in use.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn current(&self) -> Result<Option<String>, CliError> {
        let path = self.dir.join("context");
        match fs::read_to_string(&path) {
            Ok(name) => Ok(Some(name.trim().to_owned())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(&path, &e)),
        }
    }

    /// Every context, by name.
    ///
    /// # Errors
    /// I/O errors, and what cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, CliError> {
        let folder = self.dir.join("contexts");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io(&folder, &e)),
        };
        let current = self.current()?;
        let name =
            |e: fs::DirEntry| Some(e.file_name().to_str()?.strip_suffix(".json")?.to_owned());
        let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
        names.sort();
        names
            .into_iter()
            .map(|name| {
                let stored = self.read(&name)?;
                let dir = stored.data_dir.map(|d| d.display().to_string());
                let server = stored.url.or(dir).unwrap_or_default();
                Ok(Listed { current: current.as_deref() == Some(&name), name, server })
            })
            .collect()
    }

    /// The server of a context.
    ///
    /// # Errors
    /// `CX-0524` when there is none of that name, `CX-0706` when others can read it.
    pub(crate) fn target(&self, name: &str) -> Result<Target, CliError> {
        let stored = self.read(name)?;
        if let Some(dir) = stored.data_dir {
            return Ok(Target::Local(dir));
        }
        let ca = stored.ca_sha256.as_deref().and_then(digest);
        match (stored.url, ca, stored.token) {
            (Some(url), Some(ca), Some(token)) => {
                Ok(Target::Context(Box::new(Context { name: name.to_owned(), url, ca, token })))
            }
            (_, _, _) => Err(self.damaged(name)),
        }
    }

    fn read(&self, name: &str) -> Result<Stored, CliError> {
        let path = self.path(name)?;
        if !path.exists() {
            let text = format!("there is no context {name:?}");
            return Err(CliError::new(Code::NoContext, text));
        }
        let text = client::read_private(&path)?;
        // The reason could repeat the token.
        let stored: Stored = serde_json::from_str(&text).map_err(|_| self.damaged(name))?;
        if stored.version == VERSION { Ok(stored) } else { Err(self.damaged(name)) }
    }

    fn damaged(&self, name: &str) -> CliError {
        let text = format!("{}/contexts/{name}.json cannot be read", self.dir.display());
        CliError::new(Code::NoContext, text).with_hint("log in again with 'cortex login URL'")
    }

    fn path(&self, name: &str) -> Result<PathBuf, CliError> {
        // A context's name has the form of every other identifier here, so it is a safe file name.
        cortex_model::Workspace::parse(name)
            .map_err(|f| CliError::from(f).at("the context's name"))?;
        Ok(self.dir.join("contexts").join(format!("{name}.json")))
    }
}

/// Reads 64 hex digits.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    let text = text.trim().replace(':', "").to_ascii_lowercase();
    let bytes: Option<Vec<u8>> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect();
    Digest::read(&bytes?)
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| io(dir, &e))?;
    }
    let part = path.with_extension("part");
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    })();
    written.map_err(|e| io(path, &e))
}

fn io(path: &Path, e: &std::io::Error) -> CliError {
    crate::serve::data_dir::io_error(path, e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn contexts() -> (tempfile::TempDir, Contexts) {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts { dir: dir.path().join("cortex") };
        (dir, contexts)
    }

    fn context(name: &str) -> Context {
        Context {
            name: name.to_owned(),
            url: "https://h:1".to_owned(),
            ca: Digest([7; 32]),
            token: "secret".to_owned(),
        }
    }

    #[test]
    fn a_login_is_kept_private_and_used() {
        let (_dir, contexts) = contexts();
        assert_eq!(contexts.current().unwrap(), None);
        contexts.login(&context("work")).unwrap();
        let path = contexts.dir.join("contexts/work.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(contexts.current().unwrap().as_deref(), Some("work"));
        let Target::Context(read) = contexts.target("work").unwrap() else { panic!("no login") };
        assert_eq!((read.url.as_str(), read.token.as_str()), ("https://h:1", "secret"));
        assert_eq!(read.ca, Digest([7; 32]));
        assert!(!format!("{read:?}").contains("secret"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(contexts.target("work").unwrap_err().is(Code::InsecureFile));
    }

    #[test]
    fn a_local_server_does_not_push_a_login_aside() {
        let (_dir, contexts) = contexts();
        contexts.local(Path::new("/srv/a")).unwrap();
        assert_eq!(contexts.current().unwrap().as_deref(), Some("local"));
        contexts.login(&context("work")).unwrap();
        contexts.local(Path::new("/srv/b")).unwrap();
        assert_eq!(contexts.current().unwrap().as_deref(), Some("work"));
        let listed = contexts.list().unwrap();
        let names: Vec<_> = listed.iter().map(|l| (l.name.as_str(), l.current)).collect();
        assert_eq!(names, [("local", false), ("work", true)]);
        contexts.use_one("local").unwrap();
        let Target::Local(dir) = contexts.target("local").unwrap() else { panic!("no directory") };
        assert_eq!(dir, Path::new("/srv/b"));
        contexts.remove("local").unwrap();
        assert_eq!(contexts.current().unwrap(), None);
    }

    #[test]
    fn an_unknown_name_and_one_that_leads_elsewhere_are_refused() {
        let (_dir, contexts) = contexts();
        assert!(contexts.target("work").unwrap_err().is(Code::NoContext));
        assert!(contexts.use_one("../x").unwrap_err().is(Code::BadIdentifier));
    }

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(digest(&plain), Some(Digest([0xab; 32])));
        assert_eq!(digest(&colons), Some(Digest([0xab; 32])));
        assert_eq!(digest("ab"), None);
        assert_eq!(digest("zz"), None);
        assert_eq!(digest("aä"), None);
    }
}
