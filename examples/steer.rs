//! A server without a cockpit that reads commands from stdin: `127.0.0.1:40000 high` sets the priority of the stream of
//! the user at that address, and the server answers `done`. `assets/bench/peers` measures priorities with it.

use std::{
    io::BufRead,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use tokio::{sync::mpsc, task::JoinSet};
use underpass::{
    config::ServerConfig,
    control::Command,
    ids::StreamKey,
    runtime::{WorkerThreads, Workers},
    server::{Server, ShutdownSignals},
    telemetry::Telemetry,
    wire::handshake::Token,
};

/// Timeout for a stream to appear.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that reads priorities of streams from stdin until it ends
#[derive(Parser)]
struct Args {
    /// Address that proxies connect to
    #[arg(long)]
    listen: SocketAddr,
    /// Address that public ports are opened on
    #[arg(long)]
    bind: IpAddr,
    /// The secret that server and proxies share
    #[arg(long)]
    token: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // The runtime of `underpass server`, so that the same server is measured.
    let (runtime, threads) = WorkerThreads::start(Workers::default_count(), true)?;
    runtime.block_on(serve(args, threads.workers()))
}

async fn serve(args: Args, workers: Workers) -> anyhow::Result<()> {
    let telemetry = Telemetry::new();
    let config = ServerConfig { listen: args.listen, bind: args.bind, ..ServerConfig::default() };
    let (server, control) = Server::bind(config, Token::new(&args.token), telemetry.clone(), workers)?;
    let shutdown = ShutdownSignals::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(shutdown.clone()));
    let (sender, mut lines) = mpsc::channel(1);
    thread::spawn(move || {
        // Ends when the receiver is dropped.
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line))
    });
    while let Some(line) = lines.recv().await {
        let (user, priority) = line.split_once(' ').context("expected: ADDR:PORT PRIORITY")?;
        let key = tokio::time::timeout(STREAM_TIMEOUT, stream_of(&telemetry, user.parse()?))
            .await
            .context("no stream of that user")?;
        control.send(Command::SetPriority(key, priority.parse()?)).await?;
        println!("done");
    }
    shutdown.abort.cancel();
    tasks.join_next().await;
    Ok(())
}

async fn stream_of(telemetry: &Telemetry, user: SocketAddr) -> StreamKey {
    loop {
        let streams = telemetry.snapshot().streams;
        if let Some(stream) = streams.iter().find(|stream| stream.info.addr == user) {
            return stream.key;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
