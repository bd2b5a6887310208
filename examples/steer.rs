//! A server without a cockpit whose streams are steered from stdin: `127.0.0.1:40000 high` gives the stream of the user
//! at that address another priority, and is answered with `done`. `assets/bench/peers` measures priorities with it.

use std::{
    io::BufRead,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use tokio::{runtime::Runtime, task::JoinSet};
use underpass::{
    config::ServerConfig,
    control::Command,
    ids::Priority,
    server::{Server, Shutdown},
    telemetry::Telemetry,
    wire::handshake::Token,
};

/// How long a stream may take to appear.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server whose streams are steered from stdin, until that ends.
#[derive(Parser)]
struct Args {
    /// Where proxies connect to
    #[arg(long)]
    listen: SocketAddr,
    /// The address that public ports are opened on
    #[arg(long)]
    bind: IpAddr,
    /// The secret that server and proxies share
    #[arg(long)]
    token: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = Runtime::new()?;
    let telemetry = Telemetry::new();
    let config = ServerConfig { listen: args.listen, bind: args.bind, ..ServerConfig::default() };
    let shutdown = Shutdown::default();
    let mut tasks = JoinSet::new();
    let control = runtime.block_on(async {
        let (server, control) = Server::bind(config, Token::new(&args.token), telemetry.clone())?;
        tasks.spawn(server.run(shutdown.clone()));
        anyhow::Ok(control)
    })?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (user, priority) = line.split_once(' ').context("ADDR:PORT PRIORITY is wanted")?;
        let (user, priority): (SocketAddr, Priority) = (user.parse()?, priority.parse()?);
        let begin = Instant::now();
        let key = loop {
            let streams = telemetry.snapshot().streams;
            match streams.iter().find(|stream| stream.info.addr == user) {
                Some(stream) => break stream.key,
                None if begin.elapsed() > PATIENCE => anyhow::bail!("no stream of {user}"),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        runtime.block_on(control.send(Command::SetPriority(key, priority)))?;
        println!("done");
    }
    shutdown.now.cancel();
    runtime.block_on(tasks.join_next());
    Ok(())
}
