//! A strict reader of the text format of Prometheus: what `promtool check metrics` refuses, and more.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The labels that a sample may have: each has a bounded number of values.
const LABELS: [&str; 9] =
    ["service", "proxy", "server", "direction", "reason", "ended_by", "version", "role", "le"];

/// What a metric's name ends in, by its unit. Other units than the base units are wrong.
const FORBIDDEN_UNITS: [&str; 6] = ["_milliseconds", "_ms", "_micros", "_kilobytes", "_kib", "_percent"];

/// The samples of one scrape, by name and labels.
#[derive(Debug)]
pub struct Exposition {
    /// The value of each sample, by its name and labels as they stand in the text.
    pub samples: BTreeMap<String, f64>,
}

/// One family while it is read.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    /// The buckets by the labels without `le`: bound and count.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
    counts: BTreeMap<String, f64>,
    sums: usize,
}

impl Exposition {
    /// Reads a text; panics with the line that is wrong.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut samples = BTreeMap::new();
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let (mut described, mut current) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(
                    help.len() > 10 && !help.contains('\\') && help.ends_with(['.', '1', ')', 'e']),
                    "{line}"
                );
                assert!(!families.contains_key(name), "a family twice: {line}");
                described = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, described, "TYPE follows HELP");
                check_name(name, kind);
                current = name.to_owned();
                families.insert(current.clone(), Family { kind: kind.to_owned(), ..Family::default() });
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                let (name, labels) = parse_series(series);
                let family = families.get_mut(&current).expect("a sample belongs to a family");
                let suffix =
                    name.strip_prefix(&current[..]).unwrap_or_else(|| panic!("{line} within {current}"));
                family.add(suffix, labels, value, line);
                assert!(samples.insert(series.to_owned(), value).is_none(), "a sample twice: {line}");
            }
        }
        families.iter().for_each(|(name, family)| family.check(name));
        assert!(families.len() > 10, "{text}");
        Self { samples }
    }

    /// Returns a sample, by name and labels.
    pub fn get(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.samples.keys()))
    }

    /// Returns the names of all samples.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(|series| series.split('{').next().unwrap_or(series))
    }
}

/// Checks the name of a family against the conventions of Prometheus.
fn check_name(name: &str, kind: &str) {
    assert!(name.starts_with("underpass_") || name.starts_with("process_"), "{name}");
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
    assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    assert!(FORBIDDEN_UNITS.iter().all(|unit| !name.contains(unit)), "{name}");
    let has_unit = name.ends_with("_seconds") || name.ends_with("_bytes");
    assert!(has_unit || kind != "histogram", "{name}");
    assert!(!["_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix)), "{name}");
}

/// Splits `name{label="value",…}` and unescapes the values.
fn parse_series(series: &str) -> (&str, Vec<(String, String)>) {
    let Some((name, rest)) = series.split_once('{') else { return (series, Vec::new()) };
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("no end: {series}"));
    let mut labels: Vec<(String, String)> = Vec::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no value: {series}"));
        assert!(LABELS.contains(&label), "label {label} in {series}");
        assert!(labels.iter().all(|(other, _)| other != label), "{label} twice in {series}");
        let (mut value, mut chars) = (String::new(), quoted.char_indices());
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("no closing quote: {series}")) {
                (at, '"') => break at,
                (_, '\\') => match chars.next().map(|(_, c)| c) {
                    Some('n') => value.push('\n'),
                    Some(c @ ('\\' | '"')) => value.push(c),
                    other => panic!("escape {other:?} in {series}"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name, labels)
}

impl Family {
    /// Adds a sample, whose name ends in `suffix` after that of the family.
    fn add(&mut self, suffix: &str, mut labels: Vec<(String, String)>, value: f64, line: &str) {
        if self.kind != "histogram" {
            assert_eq!(suffix, "", "{line}");
            assert!(labels.iter().all(|(label, _)| label != "le"), "{line}");
            return;
        }
        let bound = labels.iter().position(|(label, _)| label == "le").map(|at| labels.remove(at).1);
        let key = format!("{labels:?}");
        match (suffix, bound) {
            ("_bucket", Some(bound)) => {
                self.buckets.entry(key).or_default().push((bound.parse().unwrap(), value))
            }
            ("_count", None) => _ = self.counts.insert(key, value),
            ("_sum", None) => self.sums += 1,
            _ => panic!("{line}"),
        }
    }

    /// Checks the buckets of a histogram.
    fn check(&self, name: &str) {
        for (labels, buckets) in &self.buckets {
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels}: {buckets:?}");
            let (last, count) = buckets[buckets.len() - 1];
            assert!(last.is_infinite() && self.counts.get(labels) == Some(&count), "{name} {labels}");
        }
        assert_eq!((self.buckets.len(), self.buckets.len()), (self.counts.len(), self.sums), "{name}");
    }
}

/// Requests `path`. Returns status code, head and body.
pub async fn request(addr: SocketAddr, path: &str, accept: &str) -> (u16, String, String) {
    let exchange = async {
        let mut socket = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        socket.read_to_string(&mut response).await?;
        std::io::Result::Ok(response)
    };
    let response = super::soon("a response", exchange).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// Scrapes `/metrics` in the older text format. Returns the text, too.
pub async fn scrape(addr: SocketAddr) -> (Exposition, String) {
    let (status, head, body) = request(addr, "/metrics", "*/*").await;
    assert!(status == 200 && head.contains("text/plain; version=0.0.4"), "{head}");
    (Exposition::parse(&body), body)
}
