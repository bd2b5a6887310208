//! Determinism of the files and what their verifier detects.

use super::*;

fn whole(file: DemoFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < file.size {
        bytes.extend_from_slice(file.bytes_from(bytes.len() as u64));
    }
    bytes
}

fn verify(file: DemoFile, bytes: &[u8]) -> Result<(), WrongByte> {
    // In parts of a prime length, because sockets return arbitrary lengths.
    let mut verifier = FileVerifier::new(file);
    bytes.chunks(7919).try_for_each(|chunk| verifier.verify(chunk))
}

#[test]
fn a_file_is_the_same_from_every_offset() {
    let file = DemoFile { seed: 3, size: 300_001 };
    let bytes = whole(file);
    assert_eq!(bytes.len(), 300_001);
    for offset in [0, 1, 65_535, 65_536, 65_537, 299_999, 300_000] {
        let piece = file.bytes_from(offset);
        assert!(!piece.is_empty());
        assert_eq!(piece, &bytes[offset as usize..offset as usize + piece.len()], "{offset}");
    }
    assert!(file.bytes_from(300_001).is_empty() && file.bytes_from(u64::MAX).is_empty());
    assert_eq!(file.sha256(), Sha256Sum::of(&bytes));
    assert_eq!(verify(file, &bytes), Ok(()));
}

#[test]
fn the_content_is_the_same_in_every_version() {
    // The two ends may be processes of different builds.
    let sum = DemoFile { seed: 1, size: 200_000 }.sha256().to_string();
    assert_eq!(sum, "b9aae3d786c14285fed8b1076740f7cda1483eba10ac9a1bb6a5d05b41c4cdf3");
}

#[test]
fn the_verifier_detects_every_kind_of_corruption() {
    let file = DemoFile { seed: 9, size: 1 << 20 };
    let good = whole(file);
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        verify(file, &bytes)
    };
    assert_eq!(damaged(&|b| b[500_000] ^= 1), Err(WrongByte { offset: 500_000 }));
    let shifted = [
        damaged(&|b| _ = b.remove(100_000)),
        damaged(&|b| b.insert(100_000, b[99_999])),
        damaged(&|b| drop(b.drain(65_536..131_072))),
        damaged(&|b| b.swap(10, 700_000)),
        damaged(&|b| b.copy_within(0..8192, 8192)),
        // Two whole segments that changed places.
        damaged(&|b| {
            let (a, c) = b.split_at_mut(131_072);
            a[65_536..].swap_with_slice(&mut c[..65_536]);
        }),
        damaged(&|b| b.push(0)),
        verify(DemoFile { seed: 10, ..file }, &good),
    ];
    assert!(shifted.iter().all(Result::is_err), "{shifted:?}");
    assert_eq!(shifted[6], Err(WrongByte { offset: 1 << 20 }));
}

#[test]
fn a_truncated_body_is_no_wrong_byte() {
    let mut verifier = FileVerifier::new(DemoFile { seed: 0, size: 100 });
    assert_eq!(verifier.verify(&whole(DemoFile { seed: 0, size: 100 })[..40]), Ok(()));
    assert_eq!((verifier.verified_bytes(), verifier.remaining_bytes()), (40, 60));
}
