//! The files of this checkout, read once. It skips build output, hidden folders and generated code.

use std::path::{Path, PathBuf};

/// A text file: its path from the root with `/`, and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    /// A file that exists only in a test.
    pub(crate) fn fixture(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root of this checkout.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Every text file of the house, by path.
pub(crate) fn files() -> Vec<TextFile> {
    let root = root();
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "only {} files found below {}", found.len(), root.display());
    found
}

/// One file of the house by its path from the root.
pub(crate) fn file(path: &str) -> TextFile {
    let text = std::fs::read_to_string(root().join(path));
    TextFile { path: path.to_owned(), text: text.unwrap_or_else(|e| panic!("{path}: {e}")) }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<TextFile>) {
    const KINDS: [&str; 10] =
        ["rs", "toml", "md", "proto", "json", "yml", "yaml", "sh", "txt", "py"];
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci" && name != ".config";
            if !hidden && name != "target" && !path.ends_with("proto/src/gen") {
                collect(root, &path, found);
            }
            continue;
        }
        let kind = path.extension().map(|e| e.to_string_lossy().into_owned());
        if !kind.is_some_and(|k| KINDS.contains(&k.as_str())) && !path.ends_with(".ci/run") {
            continue;
        }
        let relative =
            path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{relative}: {e}"));
        found.push(TextFile { path: relative, text });
    }
}
