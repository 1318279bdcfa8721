//! The committed generated code is what the .proto files say.

use anyhow::Result;

#[test]
fn generated_code_is_up_to_date() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("cortex-gen-{}", std::process::id()));
    cortex_proto_codegen::generate(&dir)?;
    let committed = cortex_proto_codegen::proto_dir().join("src/gen");
    for file in ["cortex.v1.rs", "cortex.v1.bin"] {
        let fresh = std::fs::read(dir.join(file))?;
        let stored = std::fs::read(committed.join(file))?;
        assert!(fresh == stored, "{file} is stale: run `cargo xtask gen`");
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
