//! Logs of server processes: structured lines on stderr. Task input, output and secrets stay below DEBUG wherever they
//! could be logged.

use crate::error::CliError;
use tracing_subscriber::EnvFilter;

/// Logs at `default` and above, or as the environment variable `CORTEX_LOG` says (`info`, `cortex_gateway=debug`...).
///
/// # Errors
/// When `CORTEX_LOG` cannot be read.
pub(crate) fn start(default: &str, json: bool) -> Result<(), CliError> {
    let wanted = std::env::var("CORTEX_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&wanted).map_err(|e| {
        CliError::new(cortex_model::Code::Usage, format!("CORTEX_LOG={wanted}: {e}"))
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        lines.json().init()
    } else {
        lines.with_ansi(false).init()
    }
    Ok(())
}
