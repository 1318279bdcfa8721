//! The contract: messages of `proto/cortex/v1`, generated, and gRPC stubs behind the features
//! `client` and `server`. It holds no decision and no conversion; those live in `cortex-model`.

#[cfg(any(feature = "client", feature = "server"))]
pub mod codec;

/// Version 1 of the contract.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod v1 {
    include!("gen/cortex.v1.rs");
}

/// The compiled descriptors of the contract, for gRPC reflection and for tests that walk every RPC.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/cortex.v1.bin");

/// Name of the binary metadata entry that carries an encoded [`v1::Error`] beside a gRPC status.
pub const ERROR_METADATA: &str = "cortex-error-bin";

/// The tunnel protocol's lowest and highest version this build speaks.
pub const TUNNEL_VERSIONS: (u32, u32) = (1, 1);
