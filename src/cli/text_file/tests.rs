//! Reading is bounded.

use std::fs::File;

use super::*;

#[test]
fn a_file_without_an_end_is_refused() {
    let read = |path| read(File::open(path).unwrap(), 4096).map_err(|error| error.to_string());
    assert_eq!(read("/dev/null"), Ok(String::new()));
    assert_eq!(read("/dev/zero"), Err("it is longer than 4096 bytes".to_owned()));
    assert!(read("/").unwrap_err().contains("directory"));
    let [whole, long] = [4096, 4097].map(|length| super::read(&vec![b'x'; length][..], 4096).is_ok());
    assert!(whole && !long);
}
