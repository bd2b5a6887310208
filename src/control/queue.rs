//! The queue of commands between a front end and the server.

use tokio::sync::{mpsc, oneshot};

use super::command::{Capabilities, Command, CommandError, CommandReply};
use crate::ids::Operator;

/// The capacity of the command queue. An operator types commands; a program that sends faster than the server
/// executes receives [`CommandError::QueueFull`].
const QUEUE_CAPACITY: usize = 64;

/// A command in the queue, and where its reply goes.
#[derive(Debug)]
pub struct CommandRequest {
    /// The command to execute.
    pub command: Command,
    /// Who gave it.
    pub by: Operator,
    /// Receives the result of the command.
    pub reply: oneshot::Sender<CommandReply>,
}

/// The sending end of the command queue.
#[derive(Debug, Clone)]
pub struct CommandSender(mpsc::Sender<CommandRequest>);

/// Creates a command queue. Returns its sending end, for the front end, and its receiving end, for the server.
pub fn command_queue() -> (CommandSender, mpsc::Receiver<CommandRequest>) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    (CommandSender(sender), receiver)
}

impl CommandSender {
    /// Returns the commands that the receiving end supports: all.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    /// Queues a command of the cockpit without waiting. Returns a receiver of its reply.
    ///
    /// # Errors
    /// [`CommandError::QueueFull`] or [`CommandError::ServerStopped`]; the command was not queued.
    pub fn try_send(&self, command: Command) -> Result<oneshot::Receiver<CommandReply>, CommandError> {
        let (reply, receiver) = oneshot::channel();
        let request = CommandRequest { command, by: Operator::Cockpit, reply };
        self.0.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => CommandError::ServerStopped,
        })?;
        Ok(receiver)
    }

    /// Queues a command of the cockpit, waiting while the queue is full, and waits for its reply.
    ///
    /// # Errors
    /// The error with which the server replied, or [`CommandError::ServerStopped`].
    pub async fn send(&self, command: Command) -> CommandReply {
        self.send_as(Operator::Cockpit, command).await
    }

    /// Queues a command of this operator, waiting while the queue is full, and waits for its reply.
    ///
    /// # Errors
    /// The error with which the server replied, or [`CommandError::ServerStopped`].
    pub async fn send_as(&self, by: Operator, command: Command) -> CommandReply {
        let (reply, receiver) = oneshot::channel();
        let request = CommandRequest { command, by, reply };
        self.0.send(request).await.map_err(|_| CommandError::ServerStopped)?;
        receiver.await.unwrap_or(Err(CommandError::ServerStopped))
    }
}

#[cfg(test)]
mod tests;
