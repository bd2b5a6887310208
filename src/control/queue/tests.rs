//! Tests of the queue of commands.

use super::*;
use crate::ids::ProxyId;

fn command() -> Command {
    Command::KickProxy(ProxyId(1))
}

#[test]
fn a_full_queue_takes_no_further_command() {
    let (sender, mut receiver) = command_queue();
    let _replies: Vec<_> = (0..64).map(|_| sender.try_send(command()).unwrap()).collect();
    assert_eq!(sender.try_send(command()).unwrap_err(), CommandError::QueueFull);
    receiver.try_recv().unwrap();
    assert!(sender.try_send(command()).is_ok());
    drop(receiver);
    assert_eq!(sender.try_send(command()).unwrap_err(), CommandError::ServerStopped);
}
