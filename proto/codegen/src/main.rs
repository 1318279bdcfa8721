//! Rewrites the generated contract in this checkout. It never runs as part of a build.

fn main() -> anyhow::Result<()> {
    cortex_proto_codegen::generate(&cortex_proto_codegen::proto_dir().join("src/gen"))
}
