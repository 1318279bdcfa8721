//! `cortex audit export`: a bundle that anybody can verify with their own keys, without this server and without this program.

use super::{journal, keys, records};
use crate::client::Client;
use crate::commands::Session;
use crate::error::CliError;
use crate::render;
use clap::Args;
use cortex_audit::SignedNote;
use cortex_audit::stamp::rfc3339;
use cortex_model::Code;
use cortex_model::proto as pb;
use pb::audit_node_event::Kind;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The verifier that every bundle carries: Python with one library.
const VERIFIER: &str = include_str!("../../../../tests/verifiers/python/cortex_verify.py");
/// The same for a browser: a page, and the verifier that it imports. A page that is opened from a disk can import nothing, so the
/// bundle's has the verifier in it.
const PAGE: &str = include_str!("../../../../tests/verifiers/js/verify.html");
const PAGE_VERIFIER: &str = include_str!("../../../../tests/verifiers/js/cortex-verify.mjs");
const PAGE_IMPORT: &str = r#"import { EXIT, MAX_LINE, Usage, linesOf, trustOf, verify, verifyProof } from "./cortex-verify.mjs";"#;
/// What an auditor reads first.
const GUIDE: &str = include_str!("VERIFY.md");

/// Flags of `audit export`.
#[derive(Debug, Args)]
#[command(after_help = "\
The directory must not exist. It holds the records, checkpoints, openings where you may read them, evidence of forks, a
verifier in Python, another as a page for a browser, and VERIFY.md, which says what to do with it.

Examples:
  cortex audit export laptop-1 ./laptop-1-audit
  cortex audit export laptop-1 ./laptop-1-audit --no-openings && tar czf audit.tgz laptop-1-audit")]
pub(crate) struct ExportArgs {
    /// A node, or the beginning of a journal's id
    journal: String,
    /// Directory to make
    dir: PathBuf,
    /// Leave out what stands behind the hashes: arguments, directories, environments, digests of output
    #[arg(long)]
    no_openings: bool,
}

/// What a manifest says (`schemas/audit-bundle.schema.json`); a hint for people.
#[derive(Debug, Serialize)]
pub(super) struct Manifest {
    schema: &'static str,
    node: String,
    log: String,
    origin: String,
    /// First record.
    from: u64,
    /// Behind the last record.
    to: u64,
    /// Size of the largest countersigned checkpoint; 0 if there is none.
    cosigned_size: u64,
    openings: &'static str,
    exported: String,
    tool: String,
}

/// Exports a journal.
pub(crate) async fn run(session: &Session, args: ExportArgs) -> Result<(), CliError> {
    let client = session.connect().await?;
    let log = journal(&client, &args.journal).await?;
    let manifest = bundle(&client, &log, &args.dir, !args.no_openings).await?;
    if session.json() {
        return render::json(&manifest);
    }
    render::line(&format!(
        "{} records of journal {} of node {}, countersigned up to {}, in {}",
        manifest.to,
        super::log32(&manifest.log),
        manifest.node,
        manifest.cosigned_size,
        args.dir.display()
    ))?;
    render::line("read VERIFY.md there; the keys to verify with must come from elsewhere")
}

/// Writes a bundle.
///
/// # Errors
/// The server's, and those of the file system.
pub(super) async fn bundle(
    client: &Client,
    log: &pb::AuditLog,
    dir: &Path,
    openings: bool,
) -> Result<Manifest, CliError> {
    for folder in ["", "records", "checkpoints", "keys", "evidence"] {
        make_dir(&dir.join(folder))?;
    }
    let (count, cosigned_size) = write_records(client, log, dir).await?;
    if openings {
        write_openings(client, log, dir).await?;
    }
    write_keys(client, log, dir).await?;
    write_evidence(client, log, dir).await?;
    write(&dir.join("verify.py"), VERIFIER.as_bytes())?;
    let page = PAGE.replacen(PAGE_IMPORT, PAGE_VERIFIER, 1);
    write(&dir.join("verify.html"), page.as_bytes())?;
    write(&dir.join("VERIFY.md"), GUIDE.as_bytes())?;
    let manifest = Manifest {
        schema: "cortex-audit-bundle/1",
        node: log.node.clone(),
        log: log.log.clone(),
        origin: log.vkey.split('+').next().unwrap_or_default().to_owned(),
        from: 0,
        to: count,
        cosigned_size,
        openings: if openings { "all" } else { "none" },
        exported: rfc3339(u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0)),
        tool: format!("cortex {}", env!("CARGO_PKG_VERSION")),
    };
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|e| CliError::internal(e.to_string()))?;
    write(&dir.join("manifest.json"), &text)?;
    Ok(manifest)
}

/// Records and every checkpoint that was cosigned, the largest of which is what the bundle claims to reach.
async fn write_records(
    client: &Client,
    log: &pb::AuditLog,
    dir: &Path,
) -> Result<(u64, u64), CliError> {
    let path = dir.join("records/0000000000000000.ndjson");
    let mut file = BufWriter::new(create(&path)?);
    let request = pb::ReadAuditRecordsRequest { log: log.log.clone(), ..Default::default() };
    let mut stream = client.read_audit_records(request).await?;
    let (mut count, mut largest, mut head) = (0, 0, String::new());
    while let Some(batch) = stream.message().await? {
        file.write_all(&batch.records).map_err(|e| failed(&path, &e))?;
        count += u64::from(batch.count);
        if !batch.note.is_empty() {
            head = batch.note;
        }
        if let Ok(note) = SignedNote::parse(batch.cosigned_note.as_bytes()) {
            let size = note.checkpoint().size;
            if size > largest {
                largest = size;
                write(
                    &dir.join(format!("checkpoints/{size:016}.note")),
                    batch.cosigned_note.as_bytes(),
                )?;
            }
        }
    }
    file.into_inner()
        .map_err(|e| failed(&path, e.error()))?
        .sync_all()
        .map_err(|e| failed(&path, &e))?;
    if count > largest && !head.is_empty() {
        write(&dir.join("head.note"), head.as_bytes())?;
    }
    Ok((count, largest))
}

async fn write_openings(client: &Client, log: &pb::AuditLog, dir: &Path) -> Result<(), CliError> {
    make_dir(&dir.join("openings"))?;
    let path = dir.join("openings/0000000000000000.txt");
    let mut file = BufWriter::new(create(&path)?);
    let request = pb::ReadAuditOpeningsRequest { log: log.log.clone(), ..Default::default() };
    let mut stream = client.read_audit_openings(request).await?;
    while let Some(group) = stream.message().await? {
        file.write_all(&group.openings).map_err(|e| failed(&path, &e))?;
    }
    file.flush().map_err(|e| failed(&path, &e))
}

async fn write_keys(client: &Client, log: &pb::AuditLog, dir: &Path) -> Result<(), CliError> {
    let mirrors = client.list_mirror_keys(pb::ListMirrorKeysRequest {}).await?.vkeys;
    write(&dir.join("keys/journal.vkey"), format!("{}\n", log.vkey).as_bytes())?;
    for (n, key) in (1..).zip(&mirrors) {
        write(&dir.join(format!("keys/mirror{n}.vkey")), format!("{key}\n").as_bytes())?;
    }
    let text = keys::policy(std::slice::from_ref(log), &mirrors);
    write(&dir.join("policy"), text.as_bytes())
}

/// Each contradiction that was found in this journal: its notes, and for a fork the other history, itself a bundle.
async fn write_evidence(client: &Client, log: &pb::AuditLog, dir: &Path) -> Result<(), CliError> {
    let request = pb::ListAuditFindingsRequest { node: log.node.clone() };
    let commits = client.list_audit_findings(request).await?.commits;
    let found = commits.into_iter().flat_map(|c| c.events).filter_map(|event| match event.kind {
        Some(Kind::Quarantined(found)) if found.log == log.log => Some(found),
        Some(_) | None => None,
    });
    for (n, found) in (1..).zip(found) {
        for (m, note) in (1..).zip(&found.notes) {
            write(&dir.join(format!("evidence/{n}-{m}.note")), note.as_bytes())?;
        }
        if let Some(note) = found.notes.last().filter(|_| !found.records.is_empty()) {
            write_branch(client, log, &found, note, &dir.join(format!("evidence/{n}"))).await?;
        }
    }
    Ok(())
}

async fn write_branch(
    client: &Client,
    log: &pb::AuditLog,
    found: &pb::AuditQuarantined,
    note: &str,
    dir: &Path,
) -> Result<(), CliError> {
    for folder in ["", "records"] {
        make_dir(&dir.join(folder))?;
    }
    let path = dir.join("records/0000000000000000.ndjson");
    let mut file = BufWriter::new(create(&path)?);
    if found.records_first_seq > 0 {
        let request = pb::ReadAuditRecordsRequest {
            log: log.log.clone(),
            to_seq: found.records_first_seq,
            ..Default::default()
        };
        let mut stream = client.read_audit_records(request).await?;
        while let Some(batch) = stream.message().await? {
            for (_, line) in records::lines(&batch) {
                file.write_all(line)
                    .and_then(|()| file.write_all(b"\n"))
                    .map_err(|e| failed(&path, &e))?;
            }
        }
    }
    file.write_all(&found.records).and_then(|()| file.flush()).map_err(|e| failed(&path, &e))?;
    write(&dir.join("head.note"), note.as_bytes())
}

fn make_dir(path: &Path) -> Result<(), CliError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|e| failed(path, &e))
}

fn create(path: &Path) -> Result<File, CliError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|e| failed(path, &e))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    create(path)?.write_all(bytes).map_err(|e| failed(path, &e))
}

fn failed(path: &Path, e: &std::io::Error) -> CliError {
    let code =
        if e.kind() == std::io::ErrorKind::StorageFull { Code::DiskFull } else { Code::Usage };
    CliError::new(code, format!("{} cannot be written: {e}", path.display()))
}
