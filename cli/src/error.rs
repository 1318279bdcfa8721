//! What goes wrong, as a person or a script sees it: code, cause, hint on stderr. It never decides
//! whether something is tried again; it only says whether that could help.

use crate::exit;
use cortex_model::error::Class;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use prost::Message;
use serde::Serialize;
use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

/// An error of this program or of the server. The code is text: a newer server may know more codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CliError {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) retryable: bool,
    /// Whoever read our output is gone: end quietly.
    #[serde(skip)]
    pub(crate) broken_pipe: bool,
}

impl CliError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> CliError {
        CliError::from(Fault::new(code, message))
    }

    pub(crate) fn internal(message: impl Into<String>) -> CliError {
        CliError::new(Code::Internal, message)
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = hint.into();
        self
    }

    /// The same error with where it happened in front of its message.
    pub(crate) fn at(mut self, place: &str) -> CliError {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// An error of writing to one of our own streams.
    pub(crate) fn writing(e: &std::io::Error) -> CliError {
        let full = e.kind() == std::io::ErrorKind::StorageFull;
        let code = if full { Code::DiskFull } else { Code::Internal };
        let mut error = CliError::new(code, format!("cannot write the output: {e}"));
        error.broken_pipe = e.kind() == std::io::ErrorKind::BrokenPipe;
        error
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }

    /// Whether waiting and trying again can never help, whatever happens to the connection.
    pub(crate) fn is_final(&self) -> bool {
        let known = Code::ALL.iter().find(|c| c.as_str() == self.code);
        known.is_some_and(|c| match c.class() {
            Class::Invalid
            | Class::NotFound
            | Class::Exists
            | Class::Unauthenticated
            | Class::Forbidden => true,
            Class::Precondition => *c == Code::InsecureFile,
            Class::Exhausted | Class::Unavailable | Class::Internal => false,
        }) || self.broken_pipe
    }

    /// Prints the error to stderr and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if self.broken_pipe {
            return ExitCode::from(exit::PIPE);
        }
        // Nothing is left to tell when stderr itself is gone.
        writeln!(std::io::stderr(), "{}", self.text(json)).ok();
        ExitCode::from(exit::CORTEX)
    }

    /// The error as printed.
    pub(crate) fn text(&self, json: bool) -> String {
        if json {
            return serde_json::json!({ "error": self }).to_string();
        }
        let hint =
            if self.hint.is_empty() { String::new() } else { format!("\n  hint: {}", self.hint) };
        format!("error: {}: {}{hint}", self.code, self.message)
    }
}

impl From<Fault> for CliError {
    fn from(f: Fault) -> CliError {
        let retryable = f.code.retryable();
        let code = f.code.as_str().to_owned();
        CliError { code, message: f.message, hint: f.hint, retryable, broken_pipe: false }
    }
}

impl From<tonic::Status> for CliError {
    fn from(status: tonic::Status) -> CliError {
        if let Some(e) = told(&status) {
            let (code, message, hint) = (e.code, e.message, e.hint);
            return CliError { code, message, hint, retryable: e.retryable, broken_pipe: false };
        }
        // A status with a source was made by our own transport: the server said nothing.
        let ours = status.source().is_some();
        let code = match status.code() {
            tonic::Code::Unauthenticated => Code::Unauthenticated,
            tonic::Code::PermissionDenied => Code::Forbidden,
            tonic::Code::ResourceExhausted | tonic::Code::OutOfRange => Code::TooLarge,
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                Code::CannotConnect
            }
            tonic::Code::Ok
            | tonic::Code::Unknown
            | tonic::Code::InvalidArgument
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::FailedPrecondition
            | tonic::Code::Aborted
            | tonic::Code::Unimplemented
            | tonic::Code::Internal
            | tonic::Code::DataLoss => {
                if ours {
                    Code::CannotConnect
                } else {
                    Code::Internal
                }
            }
        };
        let mut message = format!("the server's answer: {}", status.message());
        if code == Code::CannotConnect {
            message = format!("the connection to the server failed: {}", status.message());
        }
        CliError::new(code, message)
    }
}

/// The server's own error, when the status carries one.
fn told(status: &tonic::Status) -> Option<pb::Error> {
    let value = status.metadata().get_bin(cortex_proto::ERROR_METADATA)?;
    let error = pb::Error::decode(value.to_bytes().ok()?).ok()?;
    (!error.code.is_empty()).then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::{MetadataMap, MetadataValue};

    #[test]
    fn an_error_is_printed_with_code_cause_and_hint() {
        let e = CliError::new(Code::TaskNotFound, "no task abc").with_hint("look again");
        assert_eq!(e.text(false), "error: CX-0201: no task abc\n  hint: look again");
        assert_eq!(
            e.text(true),
            r#"{"error":{"code":"CX-0201","hint":"look again","message":"no task abc","retryable":false}}"#
        );
    }

    #[test]
    fn the_servers_own_error_arrives_whole() {
        // A code of a newer server; whole it would have to stand in our own table.
        let code = format!("CX-{}", "0999");
        let sent = pb::Error {
            code: code.clone(),
            message: "m".into(),
            hint: "h".into(),
            retryable: true,
        };
        let mut meta = MetadataMap::new();
        meta.insert_bin(
            cortex_proto::ERROR_METADATA,
            MetadataValue::from_bytes(&sent.encode_to_vec()),
        );
        let status = tonic::Status::with_metadata(tonic::Code::NotFound, "m", meta);
        let e = CliError::from(status);
        assert_eq!(
            (e.code.as_str(), e.message.as_str(), e.hint.as_str()),
            (code.as_str(), "m", "h")
        );
        assert!(e.retryable && !e.is_final());
    }

    #[test]
    fn a_bare_status_gets_a_code() {
        use tonic::Code as G;
        for (grpc, code) in [
            (G::Unavailable, Code::CannotConnect),
            (G::DeadlineExceeded, Code::CannotConnect),
            (G::Unauthenticated, Code::Unauthenticated),
            (G::ResourceExhausted, Code::TooLarge),
            (G::Unimplemented, Code::Internal),
        ] {
            assert!(CliError::from(tonic::Status::new(grpc, "x")).is(code), "{grpc:?}");
        }
    }

    #[test]
    fn only_what_waiting_cannot_change_is_final() {
        for code in [Code::TaskNotFound, Code::Unauthenticated, Code::Forbidden, Code::InsecureFile]
        {
            assert!(CliError::new(code, "").is_final(), "{code:?}");
        }
        for code in [Code::CannotConnect, Code::LogUnavailable, Code::Draining, Code::Internal] {
            assert!(!CliError::new(code, "").is_final(), "{code:?}");
        }
    }
}
