//! The one file that turns faults into gRPC statuses. It decides nothing else.

use cortex_log::LogError;
use cortex_model::contract::{ERROR_METADATA, v1};
use cortex_model::error::Class;
use cortex_model::{Code, Fault};
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};

/// A status that carries the fault as `cortex.v1.Error` beside the plain text.
#[must_use]
pub(crate) fn status(fault: &Fault) -> tonic::Status {
    let code = match fault.code.class() {
        Class::Invalid => tonic::Code::InvalidArgument,
        Class::NotFound => tonic::Code::NotFound,
        Class::Exists => tonic::Code::AlreadyExists,
        Class::Precondition => tonic::Code::FailedPrecondition,
        Class::Exhausted => tonic::Code::ResourceExhausted,
        Class::Unavailable => tonic::Code::Unavailable,
        Class::Unauthenticated => tonic::Code::Unauthenticated,
        Class::Forbidden => tonic::Code::PermissionDenied,
        Class::Internal => tonic::Code::Internal,
    };
    let mut metadata = MetadataMap::new();
    let bytes = v1::Error::from(fault).encode_to_vec();
    metadata.insert_bin(ERROR_METADATA, MetadataValue::from_bytes(&bytes));
    tonic::Status::with_metadata(code, fault.to_string(), metadata)
}

/// What a failure of the log means to a caller.
#[must_use]
pub(crate) fn log_fault(e: &LogError) -> Fault {
    let code = if *e == LogError::Conflict { Code::LogUnavailable } else { e.code() };
    Fault::new(code, format!("the event log: {e}"))
}
