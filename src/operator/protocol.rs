//! The lines of the control protocol: greeting, requests, answers. `assets/control-protocol.md` documents them, with
//! examples that a test executes.
//!
//! Each line is one JSON object. Unknown fields are ignored on both sides, so that neighbouring versions understand
//! each other; what changes the meaning of a known field raises [`PROTOCOL`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::peer::Access;
use crate::control::CommandError;

/// The version of the control protocol.
pub const PROTOCOL: u32 = 1;

/// The longest request in bytes. The longest that makes sense has a filter of some hundred characters.
pub(super) const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The first line, which the process with the socket sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The version of underpass.
    pub underpass: String,
    /// The version of the protocol: [`PROTOCOL`].
    pub protocol: u32,
    /// A random number of 16 hexadecimal digits that the process has chosen at its start: a client that connects again
    /// learns by it whether it finds the same process.
    pub boot: String,
    /// What the process is.
    pub role: Role,
    /// The name of the socket.
    #[serde(default)]
    pub name: String,
    /// The process id.
    #[serde(default)]
    pub pid: u32,
    /// What this client may do.
    #[serde(default)]
    pub access: Option<Access>,
}

/// What a process with a control socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The tunnel server.
    Server,
    /// A proxy.
    Proxy,
}

impl Role {
    /// Returns the name, as in the greeting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Proxy => "proxy",
        }
    }
}

/// Why a request was not performed: for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The line is no JSON object.
    InvalidJson,
    /// A field is missing or has a value that makes no sense.
    InvalidRequest,
    /// There is no such request.
    UnknownRequest,
    /// The process is of the other role, or was started without what the request needs.
    Unsupported,
    /// The line is too long; the connection is closed.
    LineTooLong,
    /// This user may not do that.
    Forbidden,
    /// The object does not exist, or does not exist any more.
    NotFound,
    /// Several objects have the name.
    Ambiguous,
    /// Too many connections or requests; another attempt may succeed.
    Busy,
    /// The process ends.
    Stopping,
    /// The request was attempted and failed.
    Failed,
    /// A code of a newer version.
    #[serde(other)]
    Unknown,
}

/// Why a request was not performed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct RequestError {
    /// For programs.
    pub code: ErrorCode,
    /// For people, with what to do.
    pub message: String,
}

impl RequestError {
    /// Creates an error.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Creates the error for a field that is missing or makes no sense.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

impl From<CommandError> for RequestError {
    fn from(error: CommandError) -> Self {
        let code = match error {
            CommandError::NotFound => ErrorCode::NotFound,
            CommandError::QueueFull => ErrorCode::Busy,
            CommandError::ServerStopped => ErrorCode::Stopping,
            CommandError::Forbidden => ErrorCode::Forbidden,
            CommandError::ServerOnly => ErrorCode::Unsupported,
            CommandError::WeightOutOfRange | CommandError::TooManyBans => ErrorCode::InvalidRequest,
        };
        Self::new(code, error.to_string())
    }
}

/// As a cockpit of another process shows it. Any other error of a request means that the server executes no command.
impl From<RequestError> for CommandError {
    fn from(error: RequestError) -> Self {
        match error.code {
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::Busy => Self::QueueFull,
            ErrorCode::Forbidden => Self::Forbidden,
            ErrorCode::Unsupported => Self::ServerOnly,
            // Two errors have this code. Their messages tell them apart.
            ErrorCode::InvalidRequest if error.message == Self::TooManyBans.to_string() => Self::TooManyBans,
            ErrorCode::InvalidRequest => Self::WeightOutOfRange,
            _ => Self::ServerStopped,
        }
    }
}

/// The result of a request: the content of `ok`, or the error.
pub type RequestResult = Result<Value, RequestError>;

/// Returns the line of an answer. `id` is that of the request, `null` if it has none.
pub(super) fn answer(id: &Value, result: &RequestResult) -> Vec<u8> {
    line(&match result {
        Ok(ok) => json!({ "id": id, "ok": ok }),
        Err(error) => json!({ "id": id, "error": error }),
    })
}

/// Returns a value as a line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    // Fails only for maps whose keys are no strings, which no type of the protocol has.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
