//! What was refused before an operator looks: on the control socket, in `watch` and by `underpass events`.

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::{
    control_socket::{RuntimeDirectory, World},
    support::soon,
};
use underpass::feed::Line;

/// Bans the machine on which the tests run, and lets a user connect, who is refused. Returns the user's address.
async fn refuse_a_user(world: &mut World) -> String {
    world.client().await.ok(r#"{"do":"ban","network":"127.0.0.0/8"}"#).await;
    let mut user = TcpStream::connect(world.public).await.unwrap();
    let addr = user.local_addr().unwrap().to_string();
    _ = soon("the end of the refused connection", user.read(&mut [0])).await;
    world.server.line(&format!("user connection from {addr}")).await;
    addr
}

/// Returns the refusals of users in a list of events.
fn refused_users(events: &[Value]) -> Vec<&Value> {
    events.iter().map(|event| &event["kind"]["user_rejected"]).filter(|refused| !refused.is_null()).collect()
}

#[tokio::test]
async fn a_client_that_connects_later_learns_why_a_user_was_refused() {
    let mut world = World::start("history", &[]).await;
    let addr = refuse_a_user(&mut world).await;
    let mut client = world.client().await;
    let answer = client.ok(r#"{"id":1,"do":"events","recent":true}"#).await;
    let events: Vec<Value> =
        answer["recent"].as_array().unwrap().iter().map(|line| line["event"].clone()).collect();
    let refused = refused_users(&events);
    assert_eq!((refused.len(), &answer["dropped"]), (1, &json!(0)), "{answer}");
    assert_eq!(refused[0]["addr"], addr.as_str());
    assert_eq!(refused[0]["service"], format!("{}:default", world.public.port()));
    assert!(refused[0]["reason"].as_str().unwrap().contains("banned by the operator"), "{answer}");
    // What happens from now on follows, and what was in the answer does not.
    world.client().await.ok(r#"{"do":"unban","network":"127.0.0.0/8"}"#).await;
    let next = client.line().await.unwrap();
    assert!(next["event"].to_string().contains("unban"), "{next}");
}

#[tokio::test]
async fn the_first_line_of_a_watcher_has_what_was_refused_before() {
    let mut world = World::start("history-watch", &[]).await;
    let addr = refuse_a_user(&mut world).await;
    let mut client = world.client().await;
    client.send(r#"{"id":5,"do":"watch","credit":2,"log":true}"#).await;
    let text = client.text().await.unwrap();
    let first: Value = serde_json::from_str(&text).unwrap();
    assert!(first["snapshot"].is_object(), "{first}");
    let events = first["recent"]["events"].as_array().unwrap();
    assert_eq!(refused_users(events)[0]["addr"], addr.as_str());
    let recent = Line::parse(text.as_bytes()).unwrap().recent.unwrap();
    assert_eq!((recent.events.len(), recent.dropped), (events.len(), 0));
    let second = client.line().await.unwrap();
    assert!(second["recent"].is_null(), "only the first line: {second}");
}

#[tokio::test]
async fn events_prints_what_was_refused_and_ends() {
    let mut world = World::start("history-cli", &[]).await;
    let addr = refuse_a_user(&mut world).await;
    let run = async |args: &[&str]| world.directory.run(args).await;
    let (code, output, errors) = run(&["events", "--recent"]).await;
    assert_eq!(code, 0, "{errors}");
    let events: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(refused_users(&events)[0]["addr"], addr.as_str(), "{output}");
    let (_, text, _) = run(&["events", "--since", "1h", "--text"]).await;
    let reason = format!("user connection from {addr} to service {}:default refused", world.public.port());
    assert!(text.contains(&reason), "{text}");
    let (code, none, _) = run(&["events", "--since", "0"]).await;
    assert_eq!((code, none.as_str()), (0, ""));
    let (code, _, errors) = RuntimeDirectory::new("since").run(&["events", "--since", "soon"]).await;
    assert!(code == 2 && errors.contains("such as 90s, 10m, 2h or 1d"), "{errors}");
}
