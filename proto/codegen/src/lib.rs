//! Generates the Rust of the contract from its .proto files, in pure Rust (no `protoc` needed).
//! The result is committed; a test fails when it is stale. It never touches the .proto files.

use anyhow::{Context, Result};
use prost::Message;
use std::path::{Path, PathBuf};

/// The contract's files, relative to the `proto` folder.
const FILES: [&str; 9] = [
    "cortex/v1/task.proto",
    "cortex/v1/event.proto",
    "cortex/v1/agent.proto",
    "cortex/v1/api.proto",
    "cortex/v1/dispatch.proto",
    "cortex/v1/registry.proto",
    "cortex/v1/identity.proto",
    "cortex/v1/mirror.proto",
    "cortex/v1/audit.proto",
];

/// The folder `proto` of this checkout.
#[must_use]
pub fn proto_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Writes `cortex.v1.rs` and `cortex.v1.bin` (the descriptor set, for reflection) into `out`.
///
/// # Errors
/// When a .proto file does not compile or a file cannot be written.
pub fn generate(out: &Path) -> Result<()> {
    let proto = proto_dir();
    let descriptors = protox::compile(FILES.map(|f| proto.join(f)), [&proto])
        .context("compiling the .proto files")?;
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("cortex.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .build_transport(false)
        .btree_map(".")
        .codec_path("crate::codec::SmallCodec")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .bytes(".cortex.v1.OutputChunk.data")
        .bytes(".cortex.v1.AuditBatch.records")
        .bytes(".cortex.v1.AuditOpenings.openings")
        .bytes(".cortex.v1.AuditStored.records")
        .bytes(".cortex.v1.ReadAuditRecordsResponse.records")
        .bytes(".cortex.v1.ReadAuditOpeningsResponse.openings")
        .compile_fds(descriptors)
        .context("generating Rust")
}
