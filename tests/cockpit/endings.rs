//! How a download by curl that its target cuts short reads on the real screen.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    download::Download,
    exclusive,
    live::tunnel_addr,
    terminal::{TOKEN, Terminal},
};

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Starts a target that announces 2 MB, sends one, and closes in order. Returns its address.
fn half_a_download() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let begin = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n";
            _ = socket.write_all(&[begin.as_slice(), &[b'x'; 1_000_000]].concat());
            _ = socket.shutdown(Shutdown::Write);
            _ = socket.read(&mut byte);
        }
    });
    addr
}

#[test]
fn a_download_that_its_target_cuts_short_reads_short() {
    let _exclusive = exclusive();
    let arguments = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--plain", "--token", TOKEN];
    let terminal = Terminal::underpass(&arguments, (160, 40), &[]);
    let server = tunnel_addr(&terminal);
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_underpass"));
    proxy.args(["proxy", "--server", &server, "--port", "0", "--to", &half_a_download()]);
    proxy.args(["--plain", "--token", TOKEN, "--name", "lab"]);
    let proxy = proxy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut proxy = Killed(proxy);
    let lines = BufReader::new(proxy.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let serving =
        lines.into_iter().find_map(|line| line.split("serving ").nth(1).map(str::to_owned)).unwrap();
    let port = serving.split(':').next().unwrap();
    let curl = Command::new("curl")
        .args(["-q", "-sS", "--noproxy", "*", "-o", "/dev/null", &format!("http://127.0.0.1:{port}/big.iso")])
        .stderr(Stdio::null())
        .status();
    match curl {
        Ok(status) => assert_eq!(status.code(), Some(18), "curl has a part of the body"),
        // Without curl, the client of the tests.
        Err(_) => {
            let download = Download::start(port.parse().unwrap(), "/big.iso", Ipv4Addr::LOCALHOST);
            assert!(!download.end(Duration::from_secs(20)).0, "a part of the body looks whole");
        }
    }
    terminal.until("the row and the log", |screen| {
        let text = screen.contents();
        let row = text.lines().find(|line| line.contains("GET /big.iso"))?;
        let is_short = row.contains(" short ") && row.contains("1.0M of 2.0M");
        (is_short && text.contains("ended: short: 1.0M of 2.0M")).then_some(())
    });
    assert!(!terminal.text().contains("finished"), "{}", terminal.text());
    terminal.press("q");
    assert_eq!(terminal.exit().0, 0);
}
