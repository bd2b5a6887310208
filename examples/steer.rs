//! A server without a cockpit whose streams are steered from stdin: `127.0.0.1:40000 high` gives the stream of the user
//! at that address another priority, and is answered with `done`. `assets/bench/peers` measures priorities with it.

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
    // As `underpass server` runs: what is measured is the same server.
    let (runtime, threads) = WorkerThreads::start(Workers::default_count())?;
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
        // Whoever reads the lines may be gone.
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line))
    });
    while let Some(line) = lines.recv().await {
        let (user, priority) = line.split_once(' ').context("ADDR:PORT PRIORITY is wanted")?;
        let key = tokio::time::timeout(PATIENCE, stream_of(&telemetry, user.parse()?))
            .await
            .context("there is no such stream")?;
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
